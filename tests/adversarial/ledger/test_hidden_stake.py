"""Putting one's stake into a dispute of one's own, where no slash can reach it."""

from dataclasses import astuple

from ledger.state import DisputeStatus
from tests.stage.ledger_lab import QUORUM, Lab
from tests.stage.world import STAKE, refused


def test_stake_that_becomes_a_bond_is_out_of_reach_and_comes_back(lab: Lab) -> None:
    weak = lab.weak("BondsFromStake", lab.token.address)
    lab.allow("v0", weak, STAKE)
    before = lab.balance("v0")
    lab.send(weak.functions.stake(STAKE), "v0")
    lab.send(weak.functions.dispute(STAKE), "v0")
    assert weak.functions.slash(lab.address("v0"), STAKE).call() == 0
    lab.send(weak.functions.closeDispute(), "v0")
    assert lab.balance("v0") == before


def test_a_bond_comes_out_of_the_purse_and_the_stake_stays_in_reach(lab: Lab) -> None:
    epoch, header = lab.padded()
    lab.allow("v0", lab.registry, STAKE)
    purse = lab.balance("v0")
    escalate = lab.disputes.functions.escalate(astuple(header), b"\1" * 32)
    dispute = lab.dispute_id(lab.send(escalate, "v0"))
    assert lab.balance("v0") == purse - STAKE
    lab.send(lab.bad_edge(epoch, header))
    assert [lab.stake(name) for name in QUORUM] == [0, 0]
    # The dispute is moot, its bond returns; the lie was paid for all the same.
    lab.send(lab.disputes.functions.expire(dispute))
    status = lab.disputes.functions.disputeOf(dispute).call()[1]
    assert status == DisputeStatus.MOOT
    assert lab.credit("v0") == STAKE


def test_stake_alone_holds_nothing(lab: Lab) -> None:
    _, header = lab.padded()
    escalate = lab.disputes.functions.escalate(astuple(header), b"\1" * 32)
    with refused("ERC20InsufficientAllowance"):
        lab.send(escalate, "v0")


def test_a_dispute_cannot_keep_stake_from_being_held_for_a_report(lab: Lab) -> None:
    header = lab.post(lab.epoch(alice=100))
    lab.allow("alice", lab.registry, STAKE)
    lab.send(lab.disputes.functions.escalate(astuple(header), b"\1" * 32), "alice")
    slash_id = lab.world.accuse(lab.world.report("alice"))
    assert lab.world.by("stranger").slash(slash_id).held == STAKE
