"""A watcher on a real EVM: lies that a file hides are found by demands, and demands about the truth are answered."""

from dataclasses import replace
from pathlib import Path

import pytest

from audit.hidden.responder import open_slots
from audit.history import Dispute, History
from audit.published import Opened
from ledger.state import DisputeKind, Fault
from protocol.messages import EpochFile
from tests.stage.books import (
    account_leaves,
    header_of,
    opened,
    with_accounts,
    with_work,
    work_leaves,
)
from tests.stage.watching import Stage, staged, work
from tests.stage.world import RESPONSE, STAKE, WINDOW, World


@pytest.fixture
def stage(world: World, tmp_path: Path) -> Stage:
    return staged(world, tmp_path)


def padded(file: EpochFile, by: int = 100) -> Opened:
    """Return the epoch whose signed tree pads its sums from the middle on, unlike its file."""
    honest = opened(file)
    leaves = work_leaves(honest)
    middle = len(leaves) // 2
    for place in range(middle, len(leaves)):
        leaf = leaves[place]
        leaves[place] = replace(leaf, epoch_sum=leaf.epoch_sum + by)
    return with_work(honest, leaves, total=honest.header.total + by)


def many(stage: Stage, count: int) -> EpochFile:
    return stage.file(*(stage.book.work("alice", nonce + 1, 2) for nonce in range(count)))


def answer(stage: Stage, truth: Opened, name: str = "v0") -> int:
    """Have somebody who knows the signed trees answer every open demand; return how many."""
    ledger = stage.world.by(name)
    history = History.of(ledger.events().poll())
    open_now = [d for d in history.disputes.values() if d.is_open]
    for dispute in open_now:
        slots = list(range(len(dispute.indices)))
        common = (dispute.dispute_id, truth.header, dispute.indices, slots)
        if dispute.kind is DisputeKind.WORK:
            leaves = [truth.work_at(place) for place in dispute.indices]
            signatures = [truth.signatures[place] for place in dispute.indices]
            ledger.answer_work(*common, leaves, signatures)
        else:
            ledger.answer_accounts(*common, [truth.account_at(p) for p in dispute.indices])
    return len(open_now)


def test_sums_that_the_file_hides_are_found_by_demands(stage: Stage) -> None:
    file = many(stage, 150)
    stage.publish(file)
    false = padded(file)
    stage.post(false.header)
    stage.fund("stranger")
    quiet, watcher = stage.watcher(), stage.watcher(demands=True)
    quiet.step()
    assert stage.faults() == [], "without bonds a watcher can only tell"
    rounds = 0
    while not stage.faults() and rounds < 2:
        watcher.step()
        rounds += answer(stage, false)
        watcher.step()
    assert rounds <= 2, "ceil(log100(150))"
    assert stage.faults() == [Fault.BAD_PAIR]
    assert stage.state().num_posted == 0


def test_silence_about_demanded_leaves_voids_the_epoch(stage: Stage) -> None:
    file = many(stage, 3)
    stage.publish(file)
    stage.post(padded(file).header)
    stage.fund("stranger")
    watcher = stage.watcher(demands=True)
    watcher.step()
    credit = stage.world.by("stranger").stake_credit(stage.world.address("stranger"))
    stage.world.wait(RESPONSE)
    watcher.step()
    assert stage.faults() == [Fault.UNANSWERED]
    gained = stage.world.by("stranger").stake_credit(stage.world.address("stranger")) - credit
    assert gained > STAKE // 4, "the bond, and a quarter of what two signers lost"


def test_accounts_that_the_file_hides_are_found_by_demands(stage: Stage) -> None:
    file = stage.file(*work(stage))
    stage.publish(file)
    honest = opened(file)
    accounts = account_leaves(honest)
    accounts[0] = replace(accounts[0], earned=accounts[0].earned + 50)
    false = with_accounts(honest, accounts)
    stage.post(false.header)
    stage.fund("stranger")
    watcher = stage.watcher(demands=True)
    watcher.step()
    assert answer(stage, false) == 1
    watcher.step()
    assert stage.faults() == [Fault.BAD_ACCOUNT]


def test_a_withheld_file_is_brought_before_the_arbiter_once_its_time_has_passed(
    stage: Stage,
) -> None:
    file = stage.file(*work(stage))
    stage.post(header_of(file))
    stage.fund("stranger")
    watcher = stage.watcher(escalates=True)
    watcher.step()
    assert not stage_disputes(stage), "a file may come a little late"
    stage.world.wait(WINDOW // 2)
    watcher.step()
    [dispute] = stage_disputes(stage)
    assert dispute.kind is DisputeKind.ESCALATION
    watcher.step()
    assert len(stage_disputes(stage)) == 1
    stage.world.by("arbiter").rule(dispute.dispute_id, True)
    assert stage.faults() == [Fault.ESCALATION]


def test_a_withheld_file_without_an_arbiter_is_asked_for_by_its_edges(stage: Stage) -> None:
    stage.post(header_of(stage.file(*work(stage))))
    stage.fund("stranger")
    stage.world.wait(WINDOW // 2)
    stage.watcher(demands=True).step()
    [dispute] = stage_disputes(stage)
    assert (dispute.kind, dispute.indices) == (DisputeKind.WORK, (0, 1, 2))


# ------------------------------------------------------------------ answering, and the rest of a life


def stage_disputes(stage: Stage) -> list[Dispute]:
    history = History.of(stage.world.by("stranger").events().poll())
    return list(history.disputes.values())


@pytest.mark.parametrize("tree", [DisputeKind.WORK, DisputeKind.ACCOUNTS])
def test_a_griefing_demand_about_an_honest_epoch_is_answered(
    stage: Stage, tree: DisputeKind
) -> None:
    file = many(stage, 60) if tree is DisputeKind.WORK else stage.file(*work(stage))
    stage.post_honest(file)
    stage.fund("bob")
    count = 60 if tree is DisputeKind.WORK else 2
    stage.world.by("bob").demand(header_of(file), tree, tuple(range(count)))
    stage.watcher(answers=False).step()
    assert stage_disputes(stage)[0].is_open
    stage.watcher().step()
    [dispute] = stage_disputes(stage)
    assert not dispute.is_open
    assert dispute.answered == set(range(count))
    assert stage.faults() == []


def test_a_demand_that_is_answered_in_part_is_answered_for_the_rest(stage: Stage) -> None:
    file = many(stage, 4)
    stage.post_honest(file)
    stage.fund("bob")
    stage.world.by("bob").demand(header_of(file), DisputeKind.WORK, (0, 1, 3))
    [asked] = stage_disputes(stage)
    truth = opened(file)
    question = (asked.dispute_id, truth.header, asked.indices, [1])
    stage.world.by("v0").answer_work(*question, [truth.work_at(1)], [truth.signatures[1]])
    unanswered = stage.world.by("bob").dispute(asked.dispute_id).unanswered
    assert open_slots(unanswered, 3) == [0, 2]
    stage.watcher().step()
    assert not stage_disputes(stage)[0].is_open


def test_an_open_slot_is_told_by_the_ledger_and_not_by_the_place_it_names() -> None:
    assert open_slots(0b10, 2) == [1], "of a leaf demanded twice, both slots want an answer"
    assert open_slots(0, 100) == []
