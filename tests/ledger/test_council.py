"""The council: what a pause stops, what it never reaches, and how offices change hands."""

from collections.abc import Callable
from typing import Any

from ledger.state import LedgerStatus, Office
from protocol.canonical import keccak256
from tests.stage.world import APPEAL, BUDGET, RATE, STAKE, TIMELOCK, UNBOND, WINDOW, World, refused

DAY = 86_400


def incoming(world: World) -> list[Callable[[], Any]]:
    """Return everything that brings money, people or claims on money in."""
    world.open()
    header = world.header(world.accounts(alice=1))
    return [
        lambda: world.by("operator").create_run(world.params(), 0, ""),
        lambda: world.by("operator").fund_run(1, 1),
        lambda: world.by("v0").join_run(1),
        world.open,
        lambda: world.post(header),
    ]


def test_a_pause_stops_what_comes_in_until_its_last_second(world: World) -> None:
    calls = incoming(world)
    for call in calls:  # the same calls go through without it
        with world.undone():
            call()
    world.by("guardian").pause(100, keccak256(b"reason"))
    until = world.by("bob").paused_until()
    assert until == world.by("bob").block_time() + 100
    for call in calls:
        with world.undone():
            world.clock.now = until - 2  # asking for the time may mine a second of its own
            with refused("Paused", until=until):
                call()
        with world.undone():
            world.clock.now = until
            call()


def test_a_pause_reaches_nothing_that_goes_out_or_ends(world: World) -> None:
    final = world.settle(alice=100)
    world.open()
    world.open()
    pending = world.accounts(alice=150)
    world.post(world.header(pending))
    world.by("bob").unbond(1)
    slash_id = world.accuse(world.report())
    second = world.by("operator").create_run(world.params(), BUDGET // 2, "")
    world.by("operator").stop_run(second)
    world.wait(UNBOND)
    world.by("guardian").pause(7 * DAY)
    assert world.claim("alice", 0, final) == 100 * RATE
    assert world.claim("alice", 1, pending) == 50 * RATE  # which made it final
    world.by("bob").withdraw_stake()
    world.by("bob").unbond(1)
    world.by("bob").stake(1)
    world.by("stranger").execute_slash(slash_id)
    world.by("treasury").withdraw_stake_credit()
    other = world.accuse(world.report("bob"))
    world.by("bob").appeal_slash(other)
    world.by("arbiter").resolve_appeal(other, False)
    world.by("operator").renew_permit(1)
    world.by("s0").halt_run(1)
    world.by("s1").halt_run(1)
    assert world.by("bob").run(1).status is LedgerStatus.HALTED
    world.by("operator").stop_run(1)
    assert world.by("bob").paused_until() > world.by("bob").block_time() + APPEAL


def test_a_pause_does_not_eat_up_the_time_to_settle(world: World) -> None:
    world.open()
    world.by("operator").stop_run(1)
    world.by("guardian").pause(DAY)
    until = world.by("bob").paused_until()
    assert until > world.by("bob").run(1).settle_until
    world.clock.now = until - 1
    with refused("TooEarly", earliest=until + WINDOW + 1):
        world.by("stranger").close_run(1)
    accounts = world.accounts(alice=10)
    with world.undone():  # one second too late
        world.clock.now = until + WINDOW + 1
        with refused("SettleWindowOver", until=until + WINDOW):
            world.post(world.header(accounts))
    world.clock.now = until + WINDOW
    world.post(world.header(accounts))
    world.wait(WINDOW)
    assert world.claim("alice", 0, accounts) == 10 * RATE


def test_pausing_again_and_again_keeps_no_stopped_run_from_closing(world: World) -> None:
    """A settle window of 30 days, paused as often as can be: it closes within two windows."""
    month = 30 * DAY
    operator = world.by("operator")
    run_id = operator.create_run(world.params(settle_window=month), 10 * RATE, "")
    operator.stop_run(run_id)
    stopped_at = operator.block_time()
    closed_at = None
    for turn in range(4):
        world.clock.now = stopped_at + turn * month + 1
        world.by("guardian").pause(7 * DAY)
        world.clock.now = stopped_at + (turn + 1) * month - DAY
        try:
            operator.close_run(run_id)
            closed_at = operator.block_time()
            break
        except Exception as error:  # noqa: BLE001 - only the one refusal is expected
            assert "TooEarly" in str(error)
    assert closed_at is not None
    assert closed_at <= stopped_at + 2 * month


def test_offices_change_hands_only_through_the_timelock(world: World) -> None:
    deployer, bob = world.by("deployer"), world.address("bob")
    assert deployer.holds(Office.GUARDIAN, world.address("guardian"))
    for name in ("deployer", "guardian", "arbiter", "operator"):
        grant = world.by(name)._council.functions.grantRole(Office.GUARDIAN.value, bob)
        with refused("AccessControlUnauthorizedAccount", account=world.address(name)):
            world.transact(grant, name)
    with refused("AccessControlUnauthorizedAccount", account=world.address("stranger")):
        world.by("stranger").schedule(Office.GUARDIAN, bob, is_appointed=True)
    due = deployer.schedule(Office.GUARDIAN, bob, is_appointed=True)
    assert due == deployer.block_time() + TIMELOCK
    world.clock.now = due - 1
    with refused("TimelockUnexpectedOperationState"):
        deployer.carry_out(Office.GUARDIAN, bob, is_appointed=True)
    world.clock.now = due
    deployer.carry_out(Office.GUARDIAN, bob, is_appointed=True)
    world.by("bob").pause(1)


def test_an_arbiter_is_dismissed_like_it_was_appointed_or_resigns(world: World) -> None:
    deployer, arbiter = world.by("deployer"), world.address("arbiter")
    assert deployer.holds(Office.ARBITER, arbiter)
    with world.undone():
        world.clock.now = deployer.schedule(Office.ARBITER, arbiter, is_appointed=False)
        deployer.carry_out(Office.ARBITER, arbiter, is_appointed=False)
        assert not deployer.holds(Office.ARBITER, arbiter)
    world.by("arbiter").resign(Office.ARBITER)
    assert not world.by("bob").holds(Office.ARBITER, arbiter)
    slash_id = world.accuse(world.report(amount=STAKE))
    world.by("alice").appeal_slash(slash_id)
    with refused("AccessControlUnauthorizedAccount"):
        world.by("arbiter").resolve_appeal(slash_id, True)


def test_nobody_administers_the_timelock(world: World) -> None:
    council, timelock = world.by("bob")._council, world.by("bob").timelock
    admin = council.functions.DEFAULT_ADMIN_ROLE().call()
    assert council.functions.hasRole(admin, timelock.address).call()
    for name in world.people:
        assert not council.functions.hasRole(admin, world.address(name)).call()
        assert not timelock.functions.hasRole(admin, world.address(name)).call()
