"""Runs: creating, funding, joining, halting, stopping, closing; and what is left at the end."""

from ledger.state import LedgerStatus
from protocol.canonical import keccak256
from tests.stage.world import BUDGET, RATE, STAKE, WINDOW, World, refused

MONTH = 30 * 86_400


def test_a_run_starts_as_its_operator_said(world: World) -> None:
    params, run = world.params(), world.by("alice").run(1)
    assert run.operator == world.address("operator")
    assert run.status is LedgerStatus.ACTIVE
    assert (run.budget, run.committed, run.claimed, run.available) == (BUDGET, 0, 0, BUDGET)
    assert (run.verifiers, run.stewards) == (params.verifiers, params.stewards)
    said = ("rate", "min_stake", "threshold", "spec_hash", "challenge_window", "compute_cap")
    for name in (*said, "base_model", "num_parameters", "permit_period", "token", "gate"):
        assert getattr(run, name) == getattr(params, name)
    assert world.by("alice").num_runs() == 1


def test_a_run_that_could_not_work_is_refused(world: World) -> None:
    with refused("BadThreshold", threshold=1, members=3):
        world.by("operator").create_run(world.params(threshold=1), 0, "")


def test_anyone_may_fund_and_a_token_with_a_fee_is_refused(world: World) -> None:
    world.by("stranger").mint(world.address("stranger"), 5)
    world.by("stranger").fund_run(1, 5)
    assert world.by("alice").run(1).budget == BUDGET + 5
    with refused("ZeroAmount"):
        world.by("stranger").fund_run(1, 0)
    fee = world.contract("FeeToken")
    world.transact(fee.functions.mint(world.address("operator"), 100))
    with refused("TransferMismatch", expected=100, received=99):
        world.by("operator").create_run(world.params(token=fee.address), 100, "")


def test_joining_needs_registration_stake_and_a_first_time(world: World) -> None:
    with refused("NotRegistered", worker=world.address("stranger")):
        world.by("stranger").join_run(1)
    world.by("stranger").mint(world.address("stranger"), STAKE)
    world.by("stranger").register(STAKE - 1, world.address("stranger"), world.address("stranger"))
    with refused("StakeTooLow", have=STAKE - 1, need=STAKE):
        world.by("stranger").join_run(1)
    world.by("stranger").stake(1)
    world.by("stranger").join_run(1)
    assert world.by("alice").is_joined(1, world.address("stranger"))
    with refused("AlreadyJoined"):
        world.by("stranger").join_run(1)


def test_a_gate_decides_who_joins_and_nothing_else(world: World) -> None:
    gate = world.contract("ListGate", keccak256(b"friend"))
    world.run_id = world.by("operator").create_run(world.params(gate=gate.address), BUDGET, "")
    with refused("NotEligible", worker=world.address("alice")):
        world.by("alice").join_run(world.run_id, b"foe")
    world.by("alice").join_run(world.run_id, b"friend")
    accounts = world.settle(bob=5)  # never joined, and accepted all the same: still paid
    assert world.claim("bob", 0, accounts) == 5 * RATE


def test_unknown_runs_are_named(world: World) -> None:
    for call in (world.by("alice").run, world.by("alice").join_run, world.by("alice").advance):
        with refused("NoSuchRun", runId=10**6):
            call(10**6)


def test_a_stopped_run_settles_and_closing_refunds_what_was_never_committed(world: World) -> None:
    operator, me = world.by("operator"), world.address("operator")
    world.open()
    world.open()
    with refused("NotOperator"):
        world.by("stranger").stop_run(1)
    operator.stop_run(1)
    until = operator.run(1).settle_until
    for call in (operator.stop_run, operator.halt_run, world.by("alice").join_run):
        with refused("WrongStatus"):
            call(1)
    accounts = world.accounts(alice=100)
    world.clock.now = until
    world.post(world.header(accounts))
    world.wait(1)
    with refused("SettleWindowOver", until=until):
        world.post(world.header(world.accounts(alice=150)))
    with refused("EpochsPending", numFinal=0, numPosted=1):
        world.by("stranger").close_run(1)
    world.wait(WINDOW)
    assert world.by("stranger").close_run(1) == BUDGET - 1000
    dates = operator.owed_dates(1)
    assert dates is not None
    world.clock.now = dates.paid_from - 1
    with refused("TooEarly"):
        operator.refund_run(1)
    world.clock.now = dates.paid_from
    assert world.by("stranger").refund_run(1) == BUDGET - 1000
    before = operator.balance(me)
    assert operator.credit(me, world.deployment.token) == BUDGET - 1000
    operator.withdraw_credit(world.deployment.token)
    assert operator.balance(me) == before + BUDGET - 1000
    with refused("NoCredit"):
        operator.withdraw_credit(world.deployment.token)
    assert world.claim("alice", 0, accounts) == 1000
    assert operator.balance(world.deployment.ledger) == 0
    with refused("WrongStatus"):
        operator.close_run(1)
    with refused("WrongStatus"):
        operator.stop_run(1)
    with refused("WrongStatus"):
        operator.fund_run(1, 1)
