"""Attack: fifty identities take every lease, deliver none, and take them again as they expire."""

import asyncio
from dataclasses import replace

import pytest

from orchestrator.rules import batch
from orchestrator.rules.pacing import Pace
from orchestrator.store.keys import run_prefix
from orchestrator.store.store import Store
from protocol.checks.drops import DropPolicy, DropRule
from protocol.constants import MICRO
from tests.stage.pace_law import Counts, Grant, grant

RUN = 77
ROOM = 40
LEASE_SECONDS = 60
DROPS = DropRule(DropPolicy(), max_leases=8)
PACE = Pace(
    drops=DROPS,
    most_groups=ROOM,
    units_unposted=10**9,
    units_unfinal=10**9,
    units_per_group=1,
    share_millionths=MICRO,
    most_flat=10**6,
)
HOARDERS = tuple(f"0x{n:040x}" for n in range(1, 51))
HONEST = "0x" + "aa" * 20


class Hoarded:
    """A run of which the hoarders ask first in each lease time, and the honest worker after them."""

    def __init__(self, store: Store) -> None:
        self.store, self.now = store, 0

    async def asks(self, worker: str, count: int) -> int:
        """Note the worker as the pace does before each grant, and reserve what it gets."""
        await self.store.workers.note_present(RUN, worker, 1, self.now)
        stakes = await self.store.workers.stakes(RUN, since=self.now - 2 * LEASE_SECONDS)
        share = batch.pace_share_millionths(
            {**stakes, worker: 1},
            worker,
            max_share_millionths=MICRO,
            stake_multiple_millionths=4 * MICRO,
        )
        reserved = await self.store.leases.reserve(
            *(RUN, worker, count, replace(PACE, share_millionths=share)),
            version=0,
            deadline=self.now + LEASE_SECONDS,
        )
        return reserved.count

    async def lease_time(self, *, defended: bool = True) -> int:
        """Let all leases end without work; return how many the honest worker gets after all others."""
        self.now += LEASE_SECONDS
        await self.store.leases.free_expired(
            RUN, DROPS, latest=self.now, limit=10_000, away_seconds=10**9
        )
        if not defended:
            for worker in HOARDERS:  # their drops are forgotten: what a new identity is
                await self.store.queue.call(
                    "HDEL", f"{run_prefix(RUN)}worker:{worker}", "drop_debt"
                )
        for worker in HOARDERS:
            await self.asks(worker, 8)
        count = await self.asks(HONEST, 8)
        await self.deliver(HONEST, count)
        return count

    async def deliver(self, worker: str, count: int) -> None:
        """End a worker's leases as finished ones end, with groups that are accepted."""
        key = f"{run_prefix(RUN)}worker:{worker}"
        last = int(await self.store.queue.call("HGET", key, "nonce") or 0)
        await self.store.leases.free(RUN, worker, range(last - count + 1, last + 1), None)
        await self.store.queue.call("HINCRBY", key, "accepted_groups", count)


@pytest.mark.parametrize("defended", [False, True])
def test_who_only_drops_keeps_nobody_out(redis_url: str, defended: bool) -> None:
    async def play() -> list[int]:
        store = Store(redis_url)
        hoarded = Hoarded(store)
        life = await store.runs.life(RUN)
        await store.runs.begin_life(RUN, life.server, floor=0, revealed=0)
        found = [await hoarded.lease_time(defended=defended) for _ in range(16)]
        await store.close()
        return found

    found = asyncio.run(play())
    assert found[0] == 0, "who was never seen to drop is believed once"
    believed = -(-len(HOARDERS) * DROPS.max_leases // ROOM)
    assert found[believed:] == [DROPS.max_leases if defended else 0] * (len(found) - believed), (
        found
    )


def test_the_escrow_counts_what_an_idle_worker_holds() -> None:
    """It may still deliver: what it holds keeps nobody out of the pace, but is money promised."""
    counts = Counts(running=ROOM, idle=ROOM)
    assert grant(counts, PACE, 9) == (Grant.GRANTED, 8)
    poor = replace(PACE, units_unposted=ROOM, units_unfinal=ROOM)
    assert grant(counts, poor, 9) == (Grant.NO_BUDGET, 0)


@pytest.mark.parametrize(
    ("accepted", "debt", "is_idle"),
    [(0, 0, False), (0, 1, True), (1, DROPS.allowance, False), (1, DROPS.allowance + 1, True)],
)
def test_idle_is_who_drops_and_finishes_nothing_or_too_little(
    accepted: int, debt: int, is_idle: bool
) -> None:
    counts = Counts(running=ROOM, idle=ROOM, accepted=accepted, debt=debt)
    assert counts.is_idle(PACE.drops) is is_idle
    outcome, _ = grant(counts, PACE, 1)
    assert outcome is (Grant.PACED if is_idle else Grant.GRANTED)
