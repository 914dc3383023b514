"""A run goes on only under a permit: silence stops it, and what was done before is paid."""

import pytest

from tests.stage.terms import key
from tests.stage.world import PERMIT, RATE, WINDOW, World, refused


def owed(world: World, *dates: int) -> list[bool]:
    return [world.by("bob").is_owed(world.run_id, at) for at in dates]


def let_lapse(world: World) -> int:
    """Go to the first second without a permit; return the last with one."""
    until = world.by("bob").run(world.run_id).permit_until
    world.clock.now = until + 1
    return until


def test_work_dated_before_a_lapse_is_posted_and_paid_after_it(world: World) -> None:
    world.open()
    let_lapse(world)
    world.by("stranger").lapse_run(1)
    accounts = world.accounts(alice=100)
    world.post(world.header(accounts))
    world.wait(WINDOW)
    assert world.claim("alice", 0, accounts) == 100 * RATE


def test_renewing_counts_from_now_and_a_hot_key_may(world: World) -> None:
    operator, hot = world.by("operator"), key("operator hot")
    world.wait(PERMIT // 2)
    until = operator.renew_permit(1)
    assert until == operator.block_time() + PERMIT == operator.run(1).permit_until
    for name in ("stranger", "s0", "v0", "guardian"):
        with refused("NotOperator", caller=world.address(name)):
            world.by(name).renew_permit(1)
    consent = operator.sign_consent(hot, world.address("operator"))
    operator.register(0, hot.address, world.address("operator"), consent)
    # The hot key needs gas, which the chain gives only to people: ask, without sending.
    operator._ledger.functions.renewPermit(1).call({"from": hot.address})


def test_stewards_make_a_lapse_their_own(world: World) -> None:
    until = let_lapse(world)
    world.by("s0").halt_run(1)
    assert not world.by("bob").run(1).halted_by_stewards
    world.by("s1").halt_run(1)
    run = world.by("bob").run(1)
    assert run.halted_by_stewards
    assert owed(world, until, until + 1, run.halted_at) == [True, False, False]
    world.clock.now = run.halted_at + WINDOW
    with refused("NotSteward", caller=world.address("operator")):
        world.by("operator").resume_run(1)
    world.by("s0").resume_run(1)
    world.by("s1").resume_run(1)
    assert world.by("bob").run(1).is_live(world.by("bob").block_time())


def test_halts_and_lapses_in_turn_leave_exactly_their_gaps(world: World) -> None:
    operator = world.by("operator")
    gaps: list[tuple[int, int]] = []
    for turn in range(3):
        if turn % 2:
            begin = let_lapse(world)
        else:
            operator.halt_run(1)
            begin = operator.block_time()
        world.clock.now = begin + WINDOW
        operator.resume_run(1)
        gaps.append((begin, operator.block_time()))
        world.wait(10)
        operator.renew_permit(1)
    for begin, end in gaps:
        assert owed(world, begin, begin + 1, end - 1, end) == [True, False, False, True]


@pytest.mark.parametrize("at", [2**48, 2**64 - 1])
def test_no_date_is_owed_that_no_clock_reaches(world: World, at: int) -> None:
    assert owed(world, at) == [False]
