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
from protocol.verdict import Outcome, Verdict
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


def meet(
    place: Place, other: Any, monkeypatch: pytest.MonkeyPatch, first: Verdict, second: Verdict
) -> None:
    """Count two verdicts in two processes, neither of which writes before both have read; the first writes first."""
    read, both_read, first_wrote, num_read = VoteStore.read, asyncio.Event(), asyncio.Event(), 0

    async def read_together(votes: VoteStore, run_id: int, cast: Any, *arguments: Any) -> Any:
        nonlocal num_read
        seen = await read(votes, run_id, cast, *arguments)
        num_read += 1
        if num_read == 2:
            both_read.set()
        await both_read.wait()
        if cast.verifier == second.verifier and cast.digest == second.work_digest.hex():
            await first_wrote.wait()
        return seen

    async def count_first(run: Any) -> None:
        try:
            await replays.count(place.services, run, first)
        finally:
            first_wrote.set()

    async def both() -> None:
        runs = (place.services.runs[place.run_id], await other.run(place.run_id))
        await asyncio.gather(count_first(runs[0]), replays.count(other, runs[1], second))

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
        votes = []
        for name in ("v0", "v1"):
            place.party(name).audits()
            votes.append(place.party(name).verdict(digest, REJECTED, NAMED))
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
        for digest in digests:
            place.party("v0").decide(digest, REJECTED, GROSS)
        place.party("v1").audits()
        votes = [place.party("v1").verdict(digest, REJECTED, GROSS) for digest in digests]
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
        votes = []
        for name in ("v0", "v1"):
            place.party(name).audits()
            votes.append(place.party(name).verdict(digest, ACCEPTED, **alarm))
        meet(place, other, monkeypatch, *votes)
        assert bool(standing(place, place.party("alice")).paused) == compared


@pytest.mark.parametrize("compared", [False, True])
def test_two_right_answers_at_once_strike_a_wrong_one_once(
    ground: Ground, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compared: bool
) -> None:
    """Struck twice for one canary, a verifier would never be accused: the second failure is what starts a report."""
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
        place.party("v0").decide(digest, ACCEPTED)
        votes = []
        for name in ("v1", "v2"):
            place.party(name).audits()
            votes.append(place.party(name).verdict(digest, REJECTED))
        meet(place, other, monkeypatch, *votes)
        wrong = infos(place)[ground.address("v0")]
        assert not wrong.has_vote
        assert wrong.canaries_failed == (1 if compared else 2)


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
        for digest in (canary, work):
            place.party("v0").decide(digest, ACCEPTED)
        for name in ("v1", "v2"):
            place.party(name).audits(256)
        struck = place.party("v2").verdict(canary, REJECTED)
        meet(place, other, monkeypatch, struck, place.party("v1").verdict(work, ACCEPTED))
        assert not infos(place)[ground.address("v0")].has_vote
        expected = GroupState.REPLAY if compared else GroupState.ACCEPTED
        assert place.state(work) == expected


def test_who_is_overtaken_each_time_is_told_to_send_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, verifier = one_group(place), place.party("v0")
    verifier.audits()
    read = VoteStore.read

    async def read_too_early(votes: VoteStore, *arguments: Any) -> Any:
        seen = await read(votes, *arguments)
        run = place.services.runs[place.run_id]
        key = f"{run_prefix(run.run_id)}alarms:{place.party('alice').address}"
        await votes.queue.call("SADD", key, f"another{seen.digest!r}")
        return seen

    with monkeypatch.context() as patched:
        patched.setattr(VoteStore, "read", read_too_early)
        refused = verifier.judge(digest, ACCEPTED)
        assert (refused.status_code, refused.json()["code"]) == (503, "busy")
        assert place.status(digest).verdicts == ()
    assert verifier.decide(digest, ACCEPTED) == "accepted"
