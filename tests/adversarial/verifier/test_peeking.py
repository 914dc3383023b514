"""A verifier that is asked later would see how the first voted: votes are hidden, in every counter too, until the decision."""

import re
from pathlib import Path

import pytest

from orchestrator.rules import votes
from orchestrator.rules.ballots import ShowBallots
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
        first, second = place.party("v0"), place.party("v1")
        told = first.verdict(digest, outcome, NAMED if outcome is Outcome.REJECTED else None)
        for party, verdict in ((first, told), (second, second.verdict(digest, outcome))):
            party.audits()
            assert party.seal(verdict).is_success
        assert first.tell(told).json()["state"] == "replay"
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
            counting._do(ShowBallots(cast.digest))

        off.setattr(votes._Counting, "count", count_at_once)
        told = both(tmp_path / "told")
    assert strip(told[0]) != strip(told[1])


def strip(found: tuple[object, ...]) -> str:
    """Forget what differs between two runs anyway."""
    return re.sub(r'run="\d+"', "", repr(found))
