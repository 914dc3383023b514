"""A lazy verifier waits to see what another voted, and votes the same: votes are sealed, also in every counter."""

import re
from pathlib import Path

import pytest

from orchestrator.rules import votes
from orchestrator.rules.ballots import CountVotes
from protocol.messages import VerifierInfos
from protocol.verdict import Outcome
from tests.stage.evidence import NAMED
from tests.stage.ground import Ground
from tests.stage.place import Place, opened

VOTES = {"accepted": Outcome.ACCEPTED, "rejected": Outcome.REJECTED}


def seen(place: Place) -> tuple[object, ...]:
    """Return everything public that could tell a vote: counters, metrics, events."""
    infos = VerifierInfos.from_json(place.get(place.path("verifiers")).content).verifiers
    metrics = place.get("/metrics").text
    verdicts = tuple(re.findall(r"^rollcall_verdicts_total.*", metrics, re.M))
    stream = place.call(place.services.store.queue.call, "XRANGE", stream_key(place), "-", "+")
    kinds = tuple(fields[b"kind"] for _, fields in stream)
    return infos, verdicts, kinds


def stream_key(place: Place) -> str:
    return f"rollcall:{{{place.run_id}}}:events"


def after_one_vote(
    ground: Ground, redis_url: str, folder: Path, outcome: Outcome
) -> tuple[object, ...]:
    with opened(ground, redis_url, folder, num_verifiers=3, threshold=2) as place:
        alice = place.party("alice")
        digest = alice.deliver(alice.leases()[0].lease).work_digest
        place.party("v0").decide(digest, outcome, NAMED if outcome is Outcome.REJECTED else None)
        return seen(place)


def test_nothing_public_tells_a_vote_before_the_decision(
    ground: Ground, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def both(folder: Path) -> list[tuple[object, ...]]:
        return [after_one_vote(ground, redis_url, folder / n, o) for n, o in VOTES.items()]

    sealed = both(tmp_path / "sealed")
    assert strip(sealed[0]) == strip(sealed[1])
    with monkeypatch.context() as off:
        real = votes._Counting.count

        def count_at_once(counting: votes._Counting) -> None:
            real(counting)
            cast = counting._cast
            counting._do(CountVotes(((cast.verifier, cast.outcome),)))

        off.setattr(votes._Counting, "count", count_at_once)
        told = both(tmp_path / "told")
    assert strip(told[0]) != strip(told[1])


def strip(found: tuple[object, ...]) -> str:
    """Forget what differs between two runs anyway."""
    return re.sub(r'run="\d+"', "", repr(found))
