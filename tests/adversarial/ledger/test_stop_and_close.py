"""Attack: take work, sign receipts, post no epoch, and get the whole budget back.

The operator stops its run and closes it, or falls silent, or passes one worker over. Without a claim it
keeps the money: that is the ledger as it would be if receipts were worth nothing. Claims bind what was
never committed before it is refunded, and no invented worker or stale receipt takes it away again.
"""

import pytest

from ledger.state import LedgerStatus
from tests.stage.owed import close, condemned, decide, end, taken
from tests.stage.world import BUDGET, RATE, RESPONSE, STAKE, WINDOW, World, refused

UNITS = BUDGET // RATE
SOLD = UNITS // 2


def credit(world: World, name: str) -> int:
    return world.by(name).credit(world.address(name), world.deployment.token)


def test_without_a_claim_the_operator_keeps_all_of_it(world: World) -> None:
    taken(world, "alice", 1, SOLD)
    end(world)
    decide(world)
    world.by("operator").refund_run(world.run_id)
    assert (credit(world, "operator"), credit(world, "alice")) == (BUDGET, 0)


def test_with_a_claim_the_worker_is_paid_and_the_operator_has_the_rest(world: World) -> None:
    promise = taken(world, "alice", 1, SOLD)
    end(world)
    with refused("TooEarly"):
        world.by("operator").refund_run(world.run_id)
    world.by("alice").claim_owed([promise])
    decide(world)
    world.by("operator").refund_run(world.run_id)
    world.by("stranger").pay_owed(world.run_id, world.address("alice"))
    assert credit(world, "alice") == SOLD * RATE
    assert credit(world, "operator") == BUDGET - SOLD * RATE
    assert world.by("alice").run(world.run_id).available == 0


def test_silence_does_not_keep_it_either(world: World) -> None:
    """Neither stopped nor closed: anybody ends the run for work that is overdue and unanswered."""
    promise = taken(world, "alice", 1, SOLD)
    world.wait(WINDOW)
    with refused("NotOperator"):
        world.by("alice").stop_run(world.run_id)
    world.by("alice").claim_owed([promise])
    world.wait(RESPONSE)
    world.by("alice").stop_overdue(promise[0])
    assert world.by("alice").run(world.run_id).status is LedgerStatus.STOPPED
    close(world)
    decide(world)
    assert world.by("alice").pay_owed(world.run_id, world.address("alice")) == SOLD * RATE


def test_a_worker_that_is_passed_over_is_paid_though_others_epochs_go_on(world: World) -> None:
    promise = taken(world, "alice", 1, 100)
    world.settle(bob=50)
    world.wait(WINDOW)
    world.by("alice").claim_owed([promise])
    world.wait(RESPONSE)
    world.by("alice").stop_overdue(promise[0])
    close(world)
    decide(world)
    world.by("operator").refund_run(world.run_id)
    world.by("alice").pay_owed(world.run_id, world.address("alice"))
    assert credit(world, "alice") == 100 * RATE
    assert credit(world, "operator") == BUDGET - 150 * RATE


@pytest.mark.parametrize("first", ["alice", "bob"])
def test_an_invented_worker_does_not_crowd_a_real_one_out(world: World, first: str) -> None:
    """The operator signs a receipt for all there is, for a worker of its own that joined and staked."""
    operator = world.by("operator")
    operator.register(STAKE, world.address("operator"), world.address("operator"))
    invented, promise = taken(world, "bob", 1, UNITS), taken(world, "alice", 1, SOLD)
    end(world)
    world.by("bob").claim_owed([invented])
    world.by("alice").claim_owed([promise])
    decide(world)
    with refused("NothingLeft"):
        operator.refund_run(world.run_id)
    for name in (first, "bob" if first == "alice" else "alice"):
        operator.pay_owed(world.run_id, world.address(name))
    assert credit(world, "alice") == SOLD * RATE
    assert credit(world, "bob") == BUDGET - SOLD * RATE
    assert operator.stake_of(world.address("operator")) == 0, "it signed for more than there was"


def test_an_identity_that_never_joined_or_has_no_stake_has_no_part(world: World) -> None:
    promise = taken(world, "alice", 1, SOLD)
    strange = taken(world, "stranger", 1, UNITS)
    end(world)
    with refused("NotJoined"):
        world.by("stranger").claim_owed([strange])
    world.by("alice").unbond(STAKE)
    with refused("StakeTooLow"):
        world.by("alice").claim_owed([promise])


def test_receipts_dated_back_by_a_stranger_or_after_the_end_are_worth_nothing(world: World) -> None:
    forged = taken(world, "alice", 1, 100, by="bob")
    end(world)
    late = taken(world, "alice", 2, 100)
    with refused("NotOperatorsKey"):
        world.by("alice").claim_owed([forged])
    with refused("NotPayable"):
        world.by("alice").claim_owed([late])


def test_a_worker_cannot_have_condemned_work_paid_by_waiting_for_the_end(world: World) -> None:
    promise = taken(world, "alice", 1, SOLD)
    end(world)
    world.by("alice").claim_owed([promise])
    world.by("operator").answer_condemned(promise[0], condemned(world, promise[0], "v0", "v1"))
    with refused("AlreadyClaimed"):
        world.by("alice").claim_owed([promise])
    decide(world)
    world.by("operator").refund_run(world.run_id)
    assert (credit(world, "operator"), credit(world, "alice")) == (BUDGET, 0)


def test_a_worker_is_not_paid_twice_by_two_claims(world: World) -> None:
    promise = taken(world, "alice", 1, 100)
    end(world)
    world.by("alice").claim_owed([promise])
    with refused("AlreadyClaimed"):
        world.by("alice").claim_owed([promise])
    decide(world)
    world.by("alice").pay_owed(world.run_id, world.address("alice"))
    with refused("NothingOwed"):
        world.by("alice").pay_owed(world.run_id, world.address("alice"))
    with refused("TooLate"):
        world.by("alice").claim_owed([taken(world, "alice", 2, 100, at=promise[1].received_at)])


@pytest.mark.parametrize("is_reported", [False, True])
def test_a_cheats_claim_does_not_halve_an_honest_workers_pay(
    world: World, is_reported: bool
) -> None:
    """Bob cheated and claims all the same; more is claimed than there is, and alice is asked first.

    Where his claim counts (the defence off) she gets an equal part, and the operator pays for her loss.
    """
    operator = world.by("operator")
    operator.register(STAKE, world.address("operator"), world.address("operator"))
    mine, false = taken(world, "alice", 1, UNITS * 6 // 10), taken(world, "bob", 1, UNITS * 5 // 10)
    end(world)
    world.by("alice").claim_owed([mine])
    world.by("bob").claim_owed([false])
    if is_reported:
        world.accuse(world.report("bob"))
    decide(world)
    world.by("bob").pay_owed(world.run_id, world.address("alice"))
    paid, left = (BUDGET * 6 // 10, STAKE) if is_reported else (BUDGET // 2, 0)
    assert credit(world, "alice") == paid
    assert operator.stake_of(world.address("operator")) == left
