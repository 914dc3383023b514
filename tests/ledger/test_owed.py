"""What receipts are worth, through the client: each call fills its struct and finds its event."""

from ledger.state import LedgerStatus
from protocol.signing import hash_struct
from tests.ledger.test_disputing import docket, skipped
from tests.stage.owed import close, condemned, decide, end, taken
from tests.stage.world import BUDGET, RATE, RESPONSE, STAKE, WINDOW, World, refused

BOND = STAKE // 100


def test_receipts_are_claimed_of_a_closed_run_and_paid_and_the_rest_is_refunded(
    world: World,
) -> None:
    alice, operator, run_id = world.by("alice"), world.by("operator"), world.run_id
    promises = [taken(world, "alice", nonce, 100) for nonce in (1, 2)]
    assert operator.owed_dates(run_id) is None
    end(world)
    alice.claim_owed(promises)
    assert alice.owed(run_id, world.address("alice")) == 200
    assert alice.owed_in_all(run_id) == (200, 1)
    assert alice.claimed_at(promises[0][0]) == alice.block_time()
    dates = operator.owed_dates(run_id)
    assert dates is not None
    assert dates.claims_until == operator.run(run_id).closed_at + WINDOW
    assert dates.paid_from == dates.claims_until + operator.response_window()
    with refused("TooEarly"):
        alice.pay_owed(run_id, world.address("alice"))
    decide(world)
    assert operator.refund_run(run_id) == BUDGET - 200 * RATE
    assert world.by("stranger").pay_owed(run_id, world.address("alice")) == 200 * RATE
    assert alice.credit(world.address("alice"), world.deployment.token) == 200 * RATE
    alice.withdraw_credit(world.deployment.token)
    operator.withdraw_credit(world.deployment.token)
    assert alice.balance(world.deployment.ledger) == 0
    with refused("NothingOwed"):
        alice.pay_owed(run_id, world.address("alice"))


def test_a_silent_operators_run_is_ended_and_pays(world: World) -> None:
    alice, run_id = world.by("alice"), world.run_id
    promise = taken(world, "alice", 1, 100)
    with refused("NotYetDue", nonce=1):
        alice.claim_owed([promise])
    world.wait(WINDOW)
    alice.claim_owed([promise])
    with refused("TooEarly"):
        alice.stop_overdue(promise[0])
    world.wait(RESPONSE)
    world.by("stranger").stop_overdue(promise[0])
    assert alice.run(run_id).status is LedgerStatus.STOPPED
    close(world)
    decide(world)
    assert alice.pay_owed(run_id, world.address("alice")) == 100 * RATE


def test_a_claim_is_answered_by_the_epoch_that_paid(world: World) -> None:
    case = docket(world)
    promise = skipped(case, 2)
    world.wait(WINDOW)
    world.by("bob").advance(world.run_id)
    world.by("alice").claim_owed([promise])
    place = case.opened.work.place_of((int(world.address("alice"), 16), 2))
    assert place is not None
    world.by("stranger").answer_paid(promise[0], case.header, case.opened.work_at(place))
    assert world.by("alice").claimed_at(promise[0]) == 0
    assert (case.stake("alice"), case.credit("stranger")) == (STAKE - BOND, BOND // 4)


def test_a_claim_is_answered_by_verdicts_and_a_reported_worker_is_paid_nothing(
    world: World,
) -> None:
    operator, alice, run_id = world.by("operator"), world.by("alice"), world.run_id
    false, other = taken(world, "alice", 1, 100), taken(world, "alice", 2, 100)
    end(world)
    alice.claim_owed([false, other])
    with refused("QuorumTooSmall", signatures=1, threshold=2):
        operator.answer_condemned(false[0], condemned(world, false[0], "v1"))
    operator.answer_condemned(false[0], condemned(world, false[0], "v0", "v2"))
    assert operator.is_condemned(false[0])
    assert alice.claimed_at(false[0]) == 0
    assert alice.owed(run_id, world.address("alice")) == 100
    world.accuse(world.report("alice"))
    assert alice.owed_in_all(run_id) == (0, 0)
    with refused("WasReported"):
        operator.answer_condemned(other[0], condemned(world, other[0], "v0", "v2"))
    decide(world)
    with refused("NothingOwed"):
        operator.pay_owed(run_id, world.address("alice"))
    assert operator.refund_run(run_id) == BUDGET


def test_an_omission_of_condemned_work_is_answered_by_verdicts(world: World) -> None:
    case = docket(world, skipping=(2,))
    work, receipt = skipped(case, 2)
    around = case.opened.work_around(work.worker, work.nonce)
    assert around is not None
    dispute = world.by("alice").prove_omission(case.header, work, receipt, around, ())
    about = (dispute, world.run_id, hash_struct(work))
    other = hash_struct(taken(world, "alice", 2, 6)[0])
    verdicts = condemned(world, work, "v0", "v1")
    with refused("BadWitness"):
        world.by("operator").answer_omission(dispute, world.run_id, other, verdicts)
    world.by("operator").answer_omission(*about, verdicts)
    assert world.by("operator").epoch(world.run_id, 0).holds == 0
