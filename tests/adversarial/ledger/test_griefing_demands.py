"""Asking for leaves for ever, so that an honest epoch is never final."""

from dataclasses import astuple

from ledger.state import DisputeKind
from protocol.epoch import EpochHeader
from tests.stage.epochs import Epoch
from tests.stage.ledger_lab import Lab
from tests.stage.world import RATE, STAKE, WINDOW, refused

BOND = STAKE // 100


def test_free_demands_put_finality_off_for_ever(lab: Lab) -> None:
    weak = lab.weak("AsksForFree")
    for _ in range(20):
        lab.world.wait(WINDOW - 2)
        lab.send(weak.functions.demand())
    assert not weak.functions.isFinal().call()


def test_answered_demands_cost_the_asker_and_end(lab: Lab) -> None:
    epoch = lab.epoch(alice=[10] * 12)
    header = lab.post(epoch)
    lab.allow("bob", lab.registry, 12 * BOND)
    most = int(lab.disputes.functions.MAX_ROUNDS().call())
    before, rounds = lab.balance("bob"), 0
    with refused("TooManyRounds", most=most):
        for rounds in range(12):
            lab.world.wait(WINDOW - 5)
            answer(lab, epoch, header, rounds, ask(lab, header, rounds, by="bob"))
    assert rounds == most
    assert before - lab.balance("bob") == rounds * BOND
    lab.finalise()
    assert lab.run().num_final == 1
    assert lab.claim("alice", 0, epoch) == 120 * RATE
    # A quarter to whom answered, for its gas; the rest to the treasury.
    assert lab.credit("stranger") == rounds * (BOND // 4)
    assert lab.credit("treasury") == rounds * (BOND - BOND // 4)


def test_one_leaf_is_asked_for_once_by_each_asker(lab: Lab) -> None:
    epoch = lab.epoch(alice=100)
    header = lab.post(epoch)
    lab.allow("bob", lab.registry, STAKE)
    answer(lab, epoch, header, 0, ask(lab, header, 0, by="bob"))
    with refused("WrongDispute"):
        ask(lab, header, 0, by="bob")


def test_who_cannot_pay_the_bond_holds_nothing(lab: Lab) -> None:
    header = lab.post(lab.epoch(alice=100))
    with refused("ERC20InsufficientAllowance"):
        ask(lab, header, 0, by="stranger")
    lab.finalise()
    assert lab.run().num_final == 1


def test_an_epoch_that_only_waits_for_a_call_can_be_held_no_more(lab: Lab) -> None:
    header = lab.post(lab.epoch(alice=100))
    lab.allow("bob", lab.registry, STAKE)
    lab.world.wait(WINDOW)
    with refused("TooLate"):
        ask(lab, header, 0, by="bob")


def ask(lab: Lab, header: EpochHeader, index: int, *, by: str) -> bytes:
    """Demand one leaf; return the dispute."""
    call = lab.disputes.functions.demand(astuple(header), DisputeKind.WORK, [index])
    return lab.dispute_id(lab.send(call, by))


def answer(lab: Lab, epoch: Epoch, header: EpochHeader, index: int, dispute: bytes) -> None:
    opened, signature = epoch.work(index), epoch.signature(index)
    call = lab.disputes.functions.answerWork(
        dispute, astuple(header), [index], [0], [opened], [signature]
    )
    lab.send(call)
