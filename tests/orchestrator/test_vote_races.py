"""Votes that meet in the store: two processes read before either writes. With the comparison off, something is lost."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest

from orchestrator import replays
from orchestrator.checks import canaries
from orchestrator.store.keys import run_prefix
from orchestrator.store.queue import Queue, Script
from orchestrator.store.votes import VoteStore
from protocol.messages import GroupState, VerifierInfo, VerifierInfos
from protocol.verdict import Outcome, Seal, Verdict
from tests.orchestrator.test_dropping import standing
from tests.orchestrator.test_verdicts import one_group
from tests.stage.evidence import GROSS, NAMED
from tests.stage.ground import Ground
from tests.stage.place import Place, open_market, opened

ACCEPTED, REJECTED = Outcome.ACCEPTED, Outcome.REJECTED

NOT_COMPARED = "redis.sha1hex(cmsgpack.pack(answers_of(ARGV[1]))) ~= ARGV[2]"


def uncompared(queue: Queue) -> Script:
    """Return the script that writes, with its comparison taken out."""
    source = queue._scripts["write"].source
    assert NOT_COMPARED in source
    source = source.replace(NOT_COMPARED, "false")
    return Script(source, sha1(source.encode(), usedforsecurity=False).hexdigest())


@contextmanager
def two_processes(
    ground: Ground,
    redis_url: str,
    folder: Path,
    *,
    compared: bool,
    config: dict[str, Any] | None = None,
) -> Iterator[tuple[Place, Any]]:
    """A run with two of three verifiers deciding, and two orchestrators that serve it from one Redis."""
    with opened(
        ground, redis_url, folder / "b", num_verifiers=3, threshold=2, config=config
    ) as place:
        other = open_market(ground, redis_url, folder / "b", config or {})
        for queue in (place.services.store.queue, other.store.queue):
            if not compared:
                queue._scripts["write"] = uncompared(queue)
        yield place, other
        place.call(other.close)


def sealed(
    place: Place, name: str, digest: bytes, outcome: Outcome, *found: Any, **changes: Any
) -> Verdict:
    """Return a verdict that somebody has sealed, and not told."""
    party = place.party(name)
    party.audits(256)
    verdict = party.verdict(digest, outcome, *found, **changes)
    assert party.seal(verdict).is_success
    return verdict


def told(place: Place, *verdicts: Verdict) -> None:
    """Have verdicts sent that are awaited."""
    by_address = {place.ground.address(name): name for name in ("v0", "v1", "v2")}
    for verdict in verdicts:
        assert place.party(by_address[verdict.verifier]).tell(verdict).is_success


def meet(
    place: Place, other: Any, monkeypatch: pytest.MonkeyPatch, first: Any, second: Any
) -> None:
    """Count two verdicts or seals in two processes, neither of which writes before both have read; the first
    writes first.
    """
    count = replays.take_seal if isinstance(first, Seal) else replays.count
    read, both_read, first_wrote, num_read = VoteStore.read, asyncio.Event(), asyncio.Event(), 0

    async def read_together(votes: VoteStore, run_id: int, vote: Any, *arguments: Any) -> Any:
        nonlocal num_read
        seen = await read(votes, run_id, vote, *arguments)
        num_read += 1
        if num_read == 2:
            both_read.set()
        await both_read.wait()
        if vote.verifier == second.verifier and vote.digest == second.work_digest.hex():
            await first_wrote.wait()
        return seen

    async def count_first(run: Any) -> None:
        try:
            await count(place.services, run, first)
        finally:
            first_wrote.set()

    async def both() -> None:
        runs = (place.services.runs[place.run_id], await other.run(place.run_id))
        await asyncio.gather(count_first(runs[0]), count(other, runs[1], second))

    with monkeypatch.context() as patched:
        patched.setattr(VoteStore, "read", read_together)
        place.call(both)


def infos(place: Place) -> dict[str, VerifierInfo]:
    found = VerifierInfos.from_json(place.get(place.path("verifiers")).content).verifiers
    return {info.verifier: info for info in found}


@pytest.mark.parametrize("compared", [False, True])
def test_two_votes_on_one_group_at_once_both_count(
    ground: Ground, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compared: bool
) -> None:
    """Each alone is no quorum; together they are. Without the comparison neither sees the other."""
    with two_processes(ground, redis_url, tmp_path, compared=compared) as (place, other):
        digest = one_group(place)
        votes = [sealed(place, name, digest, REJECTED, NAMED) for name in ("v0", "v1")]
        meet(place, other, monkeypatch, *votes)
        state, out = place.state(digest), standing(place, place.party("alice")).is_excluded
        expected = GroupState.REJECTED if compared else GroupState.REPLAY
        assert (state, out) == (expected, compared)
        counted = sorted(info.num_rejected for info in infos(place).values())
        assert counted == ([0, 1, 1] if compared else [0, 0, 0]), "counted once, at the decision"


@pytest.mark.parametrize("compared", [False, True])
def test_votes_on_two_gross_groups_of_a_worker_at_once_take_its_stake(
    ground: Ground, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compared: bool
) -> None:
    """Different groups meet in what is known against their worker."""
    with two_processes(ground, redis_url, tmp_path, compared=compared) as (place, other):
        digests = [one_group(place), one_group(place)]
        first = [sealed(place, "v0", digest, REJECTED, GROSS) for digest in digests]
        votes = [sealed(place, "v1", digest, REJECTED, GROSS) for digest in digests]
        told(place, *first)
        meet(place, other, monkeypatch, *votes)
        assert [place.state(d) for d in digests] == [GroupState.REJECTED] * 2
        assert standing(place, place.party("alice")).is_excluded == compared


@pytest.mark.parametrize("compared", [False, True])
def test_two_alarms_of_a_worker_at_once_pause_it(
    ground: Ground, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compared: bool
) -> None:
    with two_processes(ground, redis_url, tmp_path, compared=compared) as (place, other):
        digest = one_group(place)
        alarm: dict[str, Any] = {"drifts": True, "detail": "gap crossed its bound"}
        votes = [sealed(place, name, digest, ACCEPTED, **alarm) for name in ("v0", "v1")]
        meet(place, other, monkeypatch, *votes)
        assert bool(standing(place, place.party("alice")).paused) == compared


@pytest.mark.parametrize("compared", [False, True])
def test_two_last_answers_at_once_end_a_canary_once(
    ground: Ground, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compared: bool
) -> None:
    """Each alone leaves one to be waited for; together they are all."""
    chosen = {"canaries": {"false": [ground.address("alice")], "share": 0.4}}
    with two_processes(ground, redis_url, tmp_path, compared=compared, config=chosen) as (
        place,
        other,
    ):
        for name in ("v0", "v1", "v2"):
            ground.by(name).join_run(place.run_id)
        place.call(canaries.tick, place.services, place.services.runs[place.run_id])
        place.wait(2)  # by then every copy of the orchestrator would know
        digest = one_group(place)
        first = sealed(place, "v0", digest, ACCEPTED)
        votes = [sealed(place, name, digest, REJECTED) for name in ("v1", "v2")]
        told(place, first)
        meet(place, other, monkeypatch, *votes)
        wrong = infos(place)[ground.address("v0")]
        assert (wrong.has_vote, wrong.canaries_failed) == (not compared, int(compared))


@pytest.mark.parametrize("compared", [False, True])
def test_a_vote_that_is_lost_meanwhile_makes_no_quorum(
    ground: Ground, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compared: bool
) -> None:
    """v0 loses its vote to a canary while v1 votes as v0 did: one vote of two is left."""
    chosen = {"canaries": {"false": [ground.address("bob")], "share": 0.4}}
    with two_processes(ground, redis_url, tmp_path, compared=compared, config=chosen) as (
        place,
        other,
    ):
        for name in ("v0", "v1", "v2"):
            ground.by(name).join_run(place.run_id)
        place.call(canaries.tick, place.services, place.services.runs[place.run_id])
        place.wait(2)
        canary, work = one_group(place, "bob"), one_group(place)
        wrong, first = (sealed(place, "v0", digest, ACCEPTED) for digest in (canary, work))
        right, second = sealed(place, "v1", canary, REJECTED), sealed(place, "v1", work, ACCEPTED)
        last = sealed(place, "v2", canary, REJECTED)
        told(place, wrong, first, right)
        meet(place, other, monkeypatch, last, second)
        assert not infos(place)[ground.address("v0")].has_vote
        expected = GroupState.REPLAY if compared else GroupState.ACCEPTED
        assert place.state(work) == expected


@pytest.mark.parametrize("compared", [False, True])
def test_two_seals_at_once_close_a_vote(
    ground: Ground, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compared: bool
) -> None:
    """Where neither sees the other, no verdict is ever awaited."""
    with two_processes(ground, redis_url, tmp_path, compared=compared) as (place, other):
        digest = one_group(place)
        seals = []
        for name in ("v0", "v1"):
            party = place.party(name)
            party.audits()
            seals.append(party.sealed(party.verdict(digest, ACCEPTED)))

        meet(place, other, monkeypatch, *seals)
        awaited = [info.num_unopened for info in infos(place).values()]
        assert sorted(awaited) == ([0, 1, 1] if compared else [0, 0, 0])


def test_who_is_overtaken_each_time_is_told_to_send_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, verifier = one_group(place), place.party("v0")
    verdict = sealed(place, "v0", digest, ACCEPTED)
    read = VoteStore.read

    async def read_too_early(votes: VoteStore, *arguments: Any) -> Any:
        seen = await read(votes, *arguments)
        run = place.services.runs[place.run_id]
        key = f"{run_prefix(run.run_id)}alarms:{place.party('alice').address}"
        await votes.queue.call("SADD", key, f"another{seen.digest!r}")
        return seen

    with monkeypatch.context() as patched:
        patched.setattr(VoteStore, "read", read_too_early)
        refused = verifier.tell(verdict)
        assert (refused.status_code, refused.json()["code"]) == (503, "busy")
        assert place.status(digest).verdicts == ()
    assert verifier.decide(digest, ACCEPTED) == "accepted"
