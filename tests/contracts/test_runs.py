"""Runs: creating, funding, joining, halting, stopping, closing; and what is left at the end."""

from typing import Any

import pytest

from ledger.state import RunStatus
from protocol.canonical import keccak256
from tests.contracts.world import BUDGET, RATE, STAKE, UNBOND, WINDOW, World, refused

MONTH = 30 * 86_400


def test_a_run_starts_as_its_operator_said(world: World) -> None:
    params, run = world.params(), world.by("alice").run(1)
    assert run.operator == world.address("operator")
    assert run.status is RunStatus.ACTIVE
    assert (run.budget, run.committed, run.claimed, run.available) == (BUDGET, 0, 0, BUDGET)
    assert (run.verifiers, run.stewards) == (params.verifiers, params.stewards)
    said = ("rate", "min_stake", "threshold", "spec_hash", "challenge_window", "compute_cap")
    for name in (*said, "base_model", "num_parameters", "permit_period", "token", "gate"):
        assert getattr(run, name) == getattr(params, name)
    assert world.by("alice").num_runs() == 1


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"rate": 0}, "ZeroAmount"),
        ({"token": "0x" + "00" * 20}, "ZeroAddress"),
        ({"threshold": 0}, "BadThreshold"),
        ({"threshold": 1}, "BadThreshold"),  # two quorums of one could disagree
        ({"threshold": 4}, "BadThreshold"),
        ({"verifiers": ()}, "BadThreshold"),
        ({"steward_threshold": 0}, "BadThreshold"),
        ({"steward_threshold": 3}, "BadThreshold"),
        ({"stewards": ()}, "BadThreshold"),
        ({"challenge_window": 1}, "BadWindow"),
        # Stake would leave before fraud can be shown twice.
        ({"challenge_window": (UNBOND - 1) // 2 + 1}, "BadWindow"),
        ({"permit_period": 1}, "BadWindow"),
        ({"permit_period": MONTH + 1}, "BadWindow"),  # silence would not stop it
        ({"min_stake": 99}, "AmountTooSmall"),  # a hundredth of it is a demand's bond
        ({"num_parameters": 0}, "ZeroAmount"),  # nothing would weigh anything
        ({"base_model": bytes(31) + b"\1"}, "AmountTooSmall"),  # some address's meter
        ({"parent_run": 2}, "NoSuchRun"),
        ({"settle_window": 1}, "BadWindow"),
        ({"resume_delay": MONTH + 1}, "BadWindow"),
    ],
)
def test_a_run_that_could_not_work_is_refused(
    world: World, changes: dict[str, Any], error: str
) -> None:
    with refused(error):
        world.by("operator").create_run(world.params(**changes), 0, "")


@pytest.mark.parametrize(
    "changes",
    [{"challenge_window": 2}, {"challenge_window": (UNBOND - 1) // 2}, {"permit_period": MONTH}],
)
def test_windows_at_their_bounds_are_accepted(world: World, changes: dict[str, Any]) -> None:
    assert world.by("operator").create_run(world.params(**changes), 0, "") == 2


def test_members_must_ascend_and_be_at_most_64(world: World) -> None:
    ordered = world.params().verifiers
    for bad in (ordered[::-1], (*ordered[:2], ordered[1])):
        with refused("NotAscending"):
            world.by("operator").create_run(world.params(verifiers=bad), 0, "")
    crowd = tuple(f"0x{n:040x}" for n in range(1, 66))
    create = world.by("operator").create_run
    with refused("AmountTooLarge", amount=65, most=64):
        create(world.params(verifiers=crowd, threshold=33), 0, "")
    assert create(world.params(verifiers=crowd[:64], threshold=33), 0, "") == 2


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
        with refused("NoSuchRun", runId=99):
            call(99)


def test_the_operator_halts_at_once_and_resumes_after_the_delay(world: World) -> None:
    operator = world.by("operator")
    world.open()
    operator.halt_run(1)
    run = operator.run(1)
    assert (run.status, run.halted_at) == (RunStatus.HALTED, operator.block_time())
    assert operator.is_owed(1, run.halted_at)
    assert not operator.is_owed(1, run.halted_at + 1)
    with refused("WrongStatus"):
        world.open()
    with refused("WrongStatus"):
        operator.halt_run(1)
    world.post(world.header(world.accounts(alice=10)))  # work done before is paid
    world.clock.now = run.halted_at + WINDOW - 1
    with refused("TooEarly", earliest=run.halted_at + WINDOW):
        operator.resume_run(1)
    world.clock.now += 1
    with refused("NotOperator"):
        world.by("s0").resume_run(1)
    operator.resume_run(1)
    assert operator.run(1).status is RunStatus.ACTIVE
    resumed_at = operator.block_time()
    owed = [operator.is_owed(1, at) for at in (resumed_at - 1, resumed_at, resumed_at + 1)]
    assert owed == [False, True, True]


def test_stewards_halt_by_vote_and_only_stewards_lift_it(world: World) -> None:
    with refused("NotSteward", caller=world.address("stranger")):
        world.by("stranger").halt_run(1)
    world.by("s0").halt_run(1)
    assert world.by("s0").run(1).status is RunStatus.ACTIVE
    with refused("AlreadyVoted"):
        world.by("s0").halt_run(1)
    world.by("s1").halt_run(1)
    assert world.by("s0").run(1).status is RunStatus.HALTED
    world.wait(WINDOW)
    with refused("NotSteward", caller=world.address("operator")):
        world.by("operator").resume_run(1)
    world.by("s0").resume_run(1)
    assert world.by("s0").run(1).status is RunStatus.HALTED
    world.by("s1").resume_run(1)
    assert world.by("s0").run(1).status is RunStatus.ACTIVE


def test_an_operators_halt_does_not_wipe_the_stewards_ballots(world: World) -> None:
    world.by("s0").halt_run(1)
    world.by("operator").halt_run(1)
    world.wait(WINDOW)
    world.by("operator").resume_run(1)
    world.by("s1").halt_run(1)
    run = world.by("s0").run(1)
    assert run.status is RunStatus.HALTED
    assert run.halted_by_stewards


def test_stewards_take_over_an_operators_halt(world: World) -> None:
    world.by("operator").halt_run(1)
    halted_at = world.by("s0").run(1).halted_at
    world.by("s0").halt_run(1)
    world.by("s1").halt_run(1)
    run = world.by("s0").run(1)
    assert run.halted_by_stewards
    # Work is owed until the first halt, and the stewards' delay counts from their own.
    assert not world.by("s0").is_owed(1, halted_at + 1)
    world.clock.now = run.halted_at + WINDOW
    with refused("NotSteward", caller=world.address("operator")):
        world.by("operator").resume_run(1)


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


def test_a_run_closes_only_after_its_settle_window(world: World) -> None:
    with refused("WrongStatus"):
        world.by("operator").close_run(1)
    world.by("operator").stop_run(1)
    until = world.by("operator").run(1).settle_until
    world.clock.now = until
    with refused("TooEarly", earliest=until + 1):
        world.by("operator").close_run(1)
    world.clock.now = until + 1
    assert world.by("operator").close_run(1) == BUDGET
