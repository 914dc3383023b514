"""Slashing by reports, with appeal: what it takes, what it cannot reach, and who decides."""

import pytest

from ledger.errors import LedgerError
from ledger.state import SlashStatus
from protocol.canonical import keccak256
from tests.stage.world import APPEAL, STAKE, UNBOND, World, refused


def test_unappealed_stake_is_taken_exactly_when_the_window_has_passed(world: World) -> None:
    slash_id = world.accuse(world.report())
    slash = world.by("alice").slash(slash_id)
    assert (slash.status, slash.held) == (SlashStatus.PROPOSED, STAKE)
    assert slash_id == world.by("alice").slash_id(
        1, world.address("alice"), world.report().work_digest
    )
    world.clock.now = slash.deadline - 1
    with refused("TooEarly", earliest=slash.deadline):
        world.by("stranger").execute_slash(slash_id)
    world.clock.now = slash.deadline
    world.by("stranger").execute_slash(slash_id)
    assert world.by("alice").stake_of(world.address("alice")) == 0
    assert world.by("alice").slash(slash_id).status is SlashStatus.EXECUTED
    # All of it goes to the treasury: neither reporters nor caller gain by accusing.
    assert world.by("alice").stake_credit(world.address("treasury")) == STAKE
    world.by("treasury").withdraw_stake_credit()
    assert world.by("treasury").balance(world.address("treasury")) == STAKE
    with refused("WrongStatus"):
        world.by("stranger").execute_slash(slash_id)


def test_final_earnings_are_out_of_a_slashs_reach(world: World) -> None:
    accounts = world.settle(alice=100)
    slash_id = world.accuse(world.report())
    world.wait(APPEAL)
    world.by("stranger").execute_slash(slash_id)
    assert world.claim("alice", 0, accounts) == 1000


def test_a_report_needs_the_runs_quorum_and_a_worker_that_joined(world: World) -> None:
    with refused("QuorumTooSmall", signatures=1, threshold=2):
        world.accuse(world.report(), "v0")
    with pytest.raises(LedgerError, match="no verifier"):
        world.accuse(world.report(), "v0", "bob")
    with refused("NotJoined", worker=world.address("v2")):
        world.accuse(world.report("v2"))
    with refused("ZeroAmount"):
        world.accuse(world.report(amount=0))
    world.accuse(world.report())


def test_a_report_signed_for_less_cannot_take_more(world: World) -> None:
    signatures = world.signed(world.report(amount=1).struct_hash(), "v0", "v1")
    with refused("WrongSigner"):
        world.by("stranger").propose_slash(world.report(amount=STAKE), signatures)


def test_one_work_is_reported_once_whatever_the_outcome(world: World) -> None:
    slash_id = world.accuse(world.report(amount=1))
    with refused("AlreadyReported", status=SlashStatus.PROPOSED):
        world.accuse(world.report(amount=1))
    world.by("alice").appeal_slash(slash_id)
    world.by("arbiter").resolve_appeal(slash_id, False)
    with refused("AlreadyReported", status=SlashStatus.DISMISSED):
        world.accuse(world.report(amount=1))


def test_a_report_is_neither_from_the_future_nor_older_than_unbonding(world: World) -> None:
    now = int(world.chain.head.header.timestamp) + 1_000
    world.clock.now = now
    with refused("BadReportTime"):
        world.accuse(world.report(reported_at=now + 1))
    with refused("BadReportTime"):
        world.accuse(world.report(reported_at=now - UNBOND - 1))
    world.accuse(world.report(reported_at=now - UNBOND + 1))


def test_an_accusation_stands_although_nothing_is_left_to_hold(world: World) -> None:
    """It is what answers an omission: whoever cheated and left must not be able to claim one."""
    world.by("alice").unbond(STAKE)
    world.wait(UNBOND)
    world.by("alice").withdraw_stake()
    slash_id = world.accuse(world.report())
    assert world.by("bob").slash(slash_id).held == 0
    assert world.by("bob").at_risk(1, world.address("alice")) > 0
    world.wait(APPEAL)
    world.by("bob").execute_slash(slash_id)
    assert world.by("bob").stake_credit(world.address("treasury")) == 0


def test_an_appeal_leaves_the_decision_to_the_arbiter(world: World) -> None:
    slash_id = world.accuse(world.report())
    with refused("NotAccused", caller=world.address("bob")):
        world.by("bob").appeal_slash(slash_id)
    with refused("WrongStatus"):
        world.by("arbiter").resolve_appeal(slash_id, True)
    world.by("alice").appeal_slash(slash_id, keccak256(b"my replay differs"))
    world.wait(APPEAL)
    with refused("WrongStatus"):
        world.by("stranger").execute_slash(slash_id)
    for name in ("alice", "operator", "deployer", "guardian", "v0"):
        with refused("AccessControlUnauthorizedAccount", account=world.address(name)):
            world.by(name).resolve_appeal(slash_id, False)
    world.by("arbiter").resolve_appeal(slash_id, True)
    assert world.by("alice").stake_of(world.address("alice")) == 0


def test_an_appeal_can_come_too_late(world: World) -> None:
    slash_id = world.accuse(world.report())
    deadline = world.by("alice").slash(slash_id).deadline
    world.clock.now = deadline
    with refused("TooLate", deadline=deadline):
        world.by("alice").appeal_slash(slash_id)
    world.clock.now = deadline - 1
    height = world.chain.head.number
    world.by("alice").appeal_slash(slash_id)
    assert world.chain.head.number == height + 1


def test_disputes_refuse_a_deployment_they_are_not_wired_into(world: World) -> None:
    with refused("WrongWiring"):
        world.contract("Disputes", world.deployment.ledger, 10, 10, 10)
