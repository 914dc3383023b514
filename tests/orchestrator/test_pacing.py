"""Pace, budget and debts: the law in Python from both sides, and Lua that carries it out to the letter."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.rules.pacing import Pace, units_left
from orchestrator.store.keys import run_prefix
from orchestrator.store.records import GroupRecord
from orchestrator.store.store import Store
from protocol.checks.drops import DropPolicy, DropRule
from protocol.constants import MICRO
from protocol.messages import GroupState
from tests.stage.pace_law import Counts, Grant, after_drop, after_group, grant, paced

WORKER = "0x" + "aa" * 20
OPEN = Pace(
    drops=DropRule(DropPolicy(), max_leases=4),
    most_groups=100,
    units_unposted=1_000,
    units_unfinal=1_000,
    units_per_group=10,
    share_millionths=MICRO,
    most_flat=400,
)


@pytest.mark.parametrize(
    ("counts", "changes", "found"),
    [
        (Counts(), {}, (Grant.GRANTED, 4)),
        (Counts(held=3), {}, (Grant.GRANTED, 1)),
        (Counts(held=4), {}, (Grant.TOO_MANY, 0)),
        (Counts(running=99), {"units_unposted": 10**6, "units_unfinal": 10**6}, (Grant.GRANTED, 1)),
        (Counts(running=100), {"units_unposted": 10**6, "units_unfinal": 10**6}, (Grant.PACED, 0)),
        (Counts(ready=100), {}, (Grant.PACED, 0)),
        (Counts(ready=100, surplus=1), {}, (Grant.GRANTED, 1)),
        (Counts(ready=0, surplus=1, waiting=100), {}, (Grant.PACED, 0)),
        (Counts(consumed=98, waiting=1), {}, (Grant.GRANTED, 1)),
        (Counts(unsettled=990), {}, (Grant.GRANTED, 1)),
        (Counts(unsettled=991), {}, (Grant.NO_BUDGET, 0)),
        (Counts(posted=990), {}, (Grant.GRANTED, 1)),
        (Counts(posted=991), {}, (Grant.NO_BUDGET, 0)),
        (Counts(replaying=99), {}, (Grant.GRANTED, 1)),
        (Counts(replaying=100), {}, (Grant.NO_BUDGET, 0)),
        (Counts(held=1, own=1), {"share_millionths": 30_000}, (Grant.GRANTED, 1)),
        (Counts(held=1, own=2), {"share_millionths": 30_000}, (Grant.PACED, 0)),
        (Counts(), {"share_millionths": 0}, (Grant.GRANTED, 1)),
        (Counts(flat=399), {}, (Grant.GRANTED, 1)),
        (Counts(flat=400), {}, (Grant.PACED, 0)),
        (Counts(flat=399, replaying=1), {}, (Grant.PACED, 0)),
        (Counts(flat=399, replaying=1, waiting=1), {}, (Grant.GRANTED, 1)),
        (Counts(flat=400, flat_since=7), {"epoch": 7}, (Grant.PACED, 0)),
        (Counts(flat=400, flat_since=7), {"epoch": 8}, (Grant.GRANTED, 4)),
        (Counts(flat=800, flat_since=7), {"epoch": 9}, (Grant.PACED, 0)),
        (Counts(flat=800, flat_since=7), {"epoch": 10}, (Grant.GRANTED, 4)),
        (Counts(flat=99, own_flat=99), {"share_millionths": 250_000}, (Grant.GRANTED, 1)),
        (Counts(flat=100, own_flat=100), {"share_millionths": 250_000}, (Grant.PACED, 0)),
        (Counts(flat=100), {"share_millionths": 250_000}, (Grant.GRANTED, 4)),
    ],
)
def test_both_sides_of_what_bounds_leases(
    counts: Counts, changes: dict[str, int], found: tuple[Grant, int]
) -> None:
    assert grant(counts, replace(OPEN, **changes), 9) == found  # type: ignore[arg-type]


def test_who_owes_for_dropped_leases_may_hold_fewer() -> None:
    allowance = OPEN.drops.allowance
    assert grant(Counts(debt=allowance), OPEN, 9) == (Grant.GRANTED, 4)
    assert grant(Counts(debt=allowance + 1), OPEN, 9) == (Grant.GRANTED, 3)
    assert grant(Counts(debt=2 * allowance, held=1), OPEN, 9) == (Grant.TOO_MANY, 0)


def test_money_that_an_epochs_end_frees_is_not_free_before_its_work_waits_again() -> None:
    """Posted 30 of 100 units; voided: the escrow has them back, the work is still among the posted."""
    assert units_left(unposted=70, unfinal=100, posted=30) == 70
    assert units_left(unposted=100, unfinal=100, posted=30) == 70
    assert units_left(unposted=100, unfinal=100, posted=0) - 30 == 70


def test_a_groups_draw_does_not_show_in_its_workers_pace() -> None:
    """With signal or without: what is drawn waits for a verdict, what is not is ready, or counted as flat."""
    part = replace(OPEN, share_millionths=100_000)
    full = Counts(flat=40, own_flat=40)
    undrawn, drawn = Counts(flat=39, own_flat=39), Counts(flat=39, own_flat=39, replaying=1)
    assert paced(undrawn, part) == paced(drawn, part) == 1, "uncounted, the drawn one is one more"
    assert paced(full, part) == paced(replace(drawn, own_drawn=1), part) == 0
    ready, waits = Counts(ready=9, own=9), Counts(ready=8, own=9, waiting=1, replaying=1)
    assert paced(ready, part) == paced(waits, part)


def test_a_worker_alone_cannot_fill_the_pace() -> None:
    alone = replace(OPEN, share_millionths=250_000)
    assert paced(Counts(running=25, held=25), alone) == 0
    assert paced(Counts(running=25), alone) == 25, "another may go on"


# Lua against Python, on the real scripts.


@dataclass
class Bench:
    """A store in a loop of its own, with one run after another."""

    store: Store
    runner: asyncio.Runner
    run_id: int = 10_000

    async def _begin(self) -> None:
        life = await self.store.runs.life(self.run_id)
        await self.store.runs.begin_life(self.run_id, life.server, floor=0, revealed=0)

    def granted(self, counts: Counts, pace: Pace, wanted: int) -> tuple[str, int]:
        self.run_id += 1
        return self.runner.run(self._granted(counts, pace, wanted))

    async def _granted(self, counts: Counts, pace: Pace, wanted: int) -> tuple[str, int]:
        p, call = run_prefix(self.run_id), self.store.queue.call
        state = ("surplus", "consumed", "replaying", "unsettled", "posted")
        fields = [word for name in state for word in (name, getattr(counts, name))]
        await call("HSET", p + "state", *fields)
        standing = ("drop_debt", counts.debt, "accepted_groups", counts.accepted)
        await call("HSET", f"{p}worker:{WORKER}", *standing)
        flat = ("all", counts.flat, WORKER, counts.own_flat, "since", counts.flat_since)
        await call("HSET", p + "flat", *flat)
        for n in range(counts.held):
            await call("SADD", f"{p}held:{WORKER}", n)
        for n in range(counts.running):
            await call("ZADD", p + "open", 1, f"somebody:{n}")
            if n < counts.idle:
                await call("ZADD", p + "idle", 1, f"somebody:{n}")
        own_waiting = min(counts.own, counts.waiting)
        for n in range(counts.waiting):
            await call("ZADD", p + "waiting", 0, f"d{n}")
            if n < own_waiting:
                await call("SADD", f"{p}replay:{WORKER}", f"d{n}")
        for n in range(counts.own_drawn):
            await call("SADD", f"{p}replay:{WORKER}", f"flat{n}")
        for n in range(counts.ready):
            owner = WORKER if n < counts.own - own_waiting else "0x" + "bb" * 20
            await call("ZADD", p + "ready", n, f'{{"n":{n},"worker":"{owner}"}}')
        await self._begin()
        reserved = await self.store.leases.reserve(
            self.run_id, WORKER, wanted, pace, version=0, deadline=9
        )
        return reserved.outcome, reserved.count

    def debts(self, rule: DropRule, history: str) -> list[int]:
        """Return the debt after each end of a lease: dropped, or finished with a group."""
        self.run_id += 1
        return self.runner.run(self._debts(rule, history))

    async def _debts(self, rule: DropRule, history: str) -> list[int]:
        await self._begin()
        pace, found = replace(OPEN, drops=rule, most_groups=10**6, units_unposted=10**6), []
        pace = replace(pace, units_unfinal=10**6)
        for n, end in enumerate(history):
            kept = await self.store.leases.reserve(
                self.run_id, WORKER, 1, pace, version=0, deadline=9
            )
            if end == "d":
                await self.store.leases.free(self.run_id, WORKER, [kept.first], rule)
            else:
                await self._submit(rule, kept.first, n)
            record = await self.store.workers.record(self.run_id, WORKER)
            assert record is not None
            found.append(record.drop_debt)
        return found

    async def _submit(self, rule: DropRule, nonce: int, n: int) -> None:
        group = GroupRecord(
            worker=WORKER,
            nonce=nonce,
            lease_id=n.to_bytes(32, "big"),
            version=0,
            tokens=8,
            lengths=(4, 4),
            units=2,
            state=GroupState.ACCEPTED,
            rejection="",
            detail="",
            body=bytes(32),
            receipt=b"{}",
            rewards=(1, 2),
            is_trainable=True,
            candidate=b"{}",
            contribution=b"{}",
        )
        outcome, _ = await self.store.groups.submit(
            *(self.run_id, n.to_bytes(32, "big"), group),
            copy_key=None,
            num_votes=1,
            drops=rule,
            secret_epoch=None,
            now=1.0,
            event="{}",
        )
        assert outcome == "taken"


@pytest.fixture(scope="module")
def bench(redis_server: str) -> Iterator[Bench]:
    with asyncio.Runner() as runner:
        store = Store(redis_server + "?db=6")
        yield Bench(store, runner)
        runner.run(store.queue.call("FLUSHDB"))
        runner.run(store.close())


# Within these ranges each bound is the tightest one about as often as every other.
FEW = st.integers(0, 4)
UNITS = st.integers(0, 40)
COUNTS = st.builds(
    Counts,
    running=FEW, waiting=FEW, ready=FEW, surplus=FEW, consumed=FEW, replaying=FEW,
    unsettled=UNITS, posted=UNITS, held=st.integers(0, 2), own=FEW,
    debt=st.one_of(st.just(0), st.integers(0, 13_000_000)), accepted=FEW, idle=FEW,
    flat=UNITS, own_flat=UNITS, own_drawn=FEW, flat_since=FEW,
)  # fmt: skip
RULES = st.builds(
    DropRule,
    st.builds(
        DropPolicy,
        free_millionths=st.integers(1, MICRO),
        num_forgiven_crashes=st.integers(1, 3),
    ),
    max_leases=st.integers(1, 8),
)
PACES = st.builds(
    Pace,
    drops=RULES,
    most_groups=st.integers(4, 24),
    units_unposted=st.integers(40, 120),
    units_unfinal=st.integers(60, 160),
    units_per_group=st.integers(1, 6),
    share_millionths=st.integers(200_000, MICRO),
    most_flat=st.integers(4, 24),
    epoch=st.integers(0, 9),
)
SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(COUNTS, PACES, st.integers(1, 9))
@SLOW
def test_lua_grants_what_the_law_grants(
    bench: Bench, counts: Counts, pace: Pace, wanted: int
) -> None:
    counts = replace(counts, own=min(counts.own, counts.waiting + counts.ready))
    counts = replace(counts, debt=min(counts.debt, pace.drops.most))
    counts = replace(counts, idle=min(counts.idle, counts.running))
    outcome, count = grant(counts, pace, wanted)
    assert bench.granted(counts, pace, wanted) == (outcome.value, count)


@given(RULES, st.text("dg", max_size=25))
@SLOW
def test_lua_counts_debts_as_the_rule_does(bench: Bench, rule: DropRule, history: str) -> None:
    debts, debt = [], 0
    for end in history:
        debt = after_drop(rule, debt) if end == "d" else after_group(rule, debt)
        debts.append(debt)
    assert bench.debts(rule, history) == debts
