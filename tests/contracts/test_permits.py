"""A run goes on only under a permit: silence stops it, and what was done before is paid."""

import pytest

from ledger.state import RunStatus
from tests.contracts.world import (
    BUDGET,
    PERMIT,
    RATE,
    STAKE,
    WINDOW,
    World,
    key,
    refused,
)


def owed(world: World, *dates: int) -> list[bool]:
    return [world.by("bob").is_owed(world.run_id, at) for at in dates]


def let_lapse(world: World) -> int:
    """Go to the first second without a permit; return the last with one."""
    until = world.by("bob").run(world.run_id).permit_until
    world.clock.now = until + 1
    return until


def test_a_permit_holds_for_its_period_and_its_last_second_counts(world: World) -> None:
    run_id = world.by("operator").create_run(world.params(), 0, "")
    created_at = world.by("operator").block_time()
    run = world.by("operator").run(run_id)
    assert run.permit_until == created_at + PERMIT
    assert run.is_live(run.permit_until)
    assert not run.is_live(run.permit_until + 1)
    world.clock.now = run.permit_until
    world.by("operator").open_epoch(run_id, bytes(32))
    with refused("PermitLapsed", runId=run_id, permitUntil=run.permit_until):
        world.by("operator").open_epoch(run_id, bytes(32))


def test_the_operators_silence_stops_the_run(world: World) -> None:
    """The same calls go through one second earlier: nothing but the permit refuses them."""
    world.by("stranger").mint(world.address("stranger"), STAKE)
    world.by("stranger").register(STAKE, world.address("stranger"), world.address("stranger"))
    until = world.by("bob").run(1).permit_until
    with world.undone():
        world.clock.now = until - 1
        world.open()
        world.by("stranger").join_run(1)
    let_lapse(world)
    lapsed = {"runId": 1, "permitUntil": until}
    with refused("PermitLapsed", **lapsed):
        world.open()
    with refused("PermitLapsed", **lapsed):
        world.by("stranger").join_run(1)
    with refused("PermitLapsed", **lapsed):
        world.by("operator").renew_permit(1)
    with refused("PermitLapsed", **lapsed):
        world.by("operator").halt_run(1)
    # No transaction said so: the chain's clock did.
    assert world.by("bob").run(1).status is RunStatus.ACTIVE
    assert owed(world, until, until + 1) == [True, False]


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


def test_recording_a_lapse_changes_nothing_that_is_owed(world: World) -> None:
    with refused("NotLapsed", runId=1):
        world.by("stranger").lapse_run(1)
    until = let_lapse(world)
    dates = (until - 1, until, until + 1, until + 10**6)
    before = owed(world, *dates)
    world.by("stranger").lapse_run(1)
    assert owed(world, *dates) == before == [True, True, False, False]
    run = world.by("bob").run(1)
    assert (run.status, run.halted_at) == (RunStatus.HALTED, until)
    with refused("WrongStatus"):
        world.by("stranger").lapse_run(1)


def test_a_lapsed_run_is_resumed_after_the_delay_under_a_new_permit(world: World) -> None:
    operator, until = world.by("operator"), let_lapse(world)
    world.clock.now = until + WINDOW - 1
    with refused("TooEarly", earliest=until + WINDOW):
        operator.resume_run(1)
    world.clock.now = until + WINDOW
    with refused("NotOperator"):
        world.by("s0").resume_run(1)
    operator.resume_run(1)
    resumed_at = operator.block_time()
    assert operator.run(1).permit_until == resumed_at + PERMIT
    assert owed(world, until, until + 1, resumed_at - 1, resumed_at) == [True, False, False, True]
    world.open()


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


def test_a_lapsed_run_can_be_stopped_and_owes_no_more_for_it(world: World) -> None:
    until = let_lapse(world)
    world.clock.now += WINDOW
    world.by("operator").stop_run(1)
    stopped_at = world.by("bob").block_time()
    assert owed(world, until, until + 1, stopped_at) == [True, False, False]
    world.wait(WINDOW + 1)
    assert world.by("bob").close_run(1) == BUDGET


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
