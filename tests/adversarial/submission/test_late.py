"""Late is decided on arrival: what came in time is in time, however long the orchestrator takes over it."""

import asyncio
from typing import Any

import pytest

from orchestrator import leases
from orchestrator.rewards import scoring
from orchestrator.rewards.pool import RewardPool
from orchestrator.store.keys import run_prefix
from protocol.rollout import Lease
from tests.orchestrator.test_dropping import standing
from tests.orchestrator.test_verdicts import code
from tests.stage.place import Place

SCORE = RewardPool.score


async def never(*_: object) -> None:
    """Hold nothing."""


async def outlive(place: Place) -> None:
    """Let every lease's time pass, and free those that are due as the background work does."""
    place.ground.clock.now += place.spec.lease_seconds + 20
    run, now = place.services.runs[place.run_id], place.ground.clock.now
    for latest in range(now - 80, now - 5, 5):  # rounds without a pause: nobody was away
        await leases.expire(place.services, run, latest=float(latest))


def score_past_the_deadline(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def score_slowly(pool: RewardPool, asked: Any) -> Any:
        await outlive(place)
        return await SCORE(pool, asked)

    monkeypatch.setattr(RewardPool, "score", score_slowly)


@pytest.mark.parametrize("held", [False, True])
def test_what_came_in_time_is_taken_however_long_scoring_takes(
    place: Place, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not held:
        monkeypatch.setattr(scoring, "_hold", never)
    alice = place.party("alice")
    lease = alice.leases()[0].lease
    place.wait(lease.deadline - place.ground.clock.now - 10)
    score_past_the_deadline(place, monkeypatch)
    answer = alice.submit(alice.submission(lease))
    assert answer.status_code == (200 if held else 409)
    assert standing(place, alice).dropped_leases == (not held)
    if held:
        assert answer.json()["received_at"] <= lease.deadline


@pytest.mark.parametrize("held", [False, True])
def test_a_lease_is_held_again_while_its_group_is_scored(
    place: Place, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group came long before the deadline, so nothing held it at first."""
    monkeypatch.setattr(scoring, "HOLD_SECONDS", 0.01 if held else 20)
    alice = place.party("alice")
    lease = alice.leases()[0].lease

    async def score_slowly(pool: RewardPool, asked: Any) -> Any:
        while held and await open_until(place, lease) <= lease.deadline:
            await asyncio.sleep(0.01)
        await outlive(place)
        return await SCORE(pool, asked)

    monkeypatch.setattr(RewardPool, "score", score_slowly)
    assert alice.submit(alice.submission(lease)).status_code == (200 if held else 409)


async def open_until(place: Place, lease: Lease) -> float:
    key = run_prefix(place.run_id) + "open"
    return float(
        await place.services.store.queue.call("ZSCORE", key, f"{lease.worker}:{lease.nonce}")
    )


def test_what_came_in_time_may_be_sent_again_after_a_crash_and_nothing_else_may(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = place.party("alice")
    lease = alice.leases()[0].lease
    group = alice.submission(lease)

    async def die(*_: object) -> None:
        raise ConnectionAbortedError

    with monkeypatch.context() as crashing:
        crashing.setattr(RewardPool, "score", die)
        place.wait(lease.deadline - place.ground.clock.now - 10)
        with pytest.raises(ConnectionAbortedError):
            alice.submit(alice.submission(lease, submitted_at=group.submitted_at))
    place.call(outlive, place)
    other = alice.submission(lease, place.rollouts(lease, right=(False,)))
    assert code(alice.submit(other)) == "lease_expired"
    again = alice.submission(lease, submitted_at=group.submitted_at)
    assert alice.submit(again).status_code == 200


def test_what_came_late_is_late(place: Place) -> None:
    alice = place.party("alice")
    in_time, late = (signed.lease for signed in alice.leases(2))
    place.ground.clock.now = in_time.deadline + 1
    assert alice.submit(alice.submission(in_time)).status_code == 200
    place.ground.clock.now = late.deadline + 2
    assert code(alice.submit(alice.submission(late))) == "lease_expired"
