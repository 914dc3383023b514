"""`rollcall owed`: from the worker's own receipts and a node, with the market switched off."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from audit.omissions import KeptReceipt
from ledger.state import LedgerStatus
from protocol.epoch import header_of
from protocol.messages import Account, Contribution, EpochFile
from protocol.signing import Domain, sign
from protocol.user_error import UserError
from rollcall.cli import run as run_commands
from rollcall.cli import stake as stake_commands
from rollcall.cli.owed import claim_owed
from rollout_worker.pay.receipts import ReceiptBook
from tests.rollcall.test_claim import epoch_file
from tests.stage.counter import Counter, told
from tests.stage.owed import Promise, end, kept_of, taken
from tests.stage.world import BUDGET, RATE, RESPONSE, SECRET, WINDOW, World


def book_of(folder: Path, *promises: Promise) -> Path:
    book = ReceiptBook(folder / "receipts")
    for work, receipt in promises:
        book.keep(kept_of(work, receipt))
    return folder / "receipts"


def owed(world: World, book: Path, files: Sequence[EpochFile] = (), name: str = "alice") -> str:
    """Run the command once; return what it said."""
    counter = Counter.of(world, name)
    claim_owed(counter.desk, book, files, worker=None, only=None)
    return counter.said


def test_a_closed_run_pays_what_its_receipts_promise(world: World, tmp_path: Path) -> None:
    book = book_of(tmp_path, *(taken(world, "alice", nonce, 7) for nonce in (1, 2, 3)))
    assert "none is overdue before" in owed(world, book)
    end(world)
    said = owed(world, book)
    assert "3 groups are in no epoch: 21 units" in said
    assert "3 groups claimed, 21 units" in said
    assert "paid from" in said
    assert "groups claimed" not in owed(world, book), "each is claimed once"
    counter = Counter.of(world, "alice")
    stake_commands.stake(counter.desk)
    assert "claimed of run 1 by receipts: 0.00000000000000021 RTEST" in counter.said
    counter = Counter.of(world, "operator")
    with told(world, counter, "receipts have time until"):
        run_commands.refund(counter.desk, world.run_id)
    world.wait(WINDOW + RESPONSE)
    run_commands.refund(counter.desk, world.run_id)
    assert "1 workers claim" in counter.said
    assert "are credited to" in owed(world, book)
    token = world.deployment.token
    assert world.by("alice").credit(world.address("alice"), token) == 21 * RATE
    assert world.by("alice").credit(world.address("operator"), token) == BUDGET - 21 * RATE
    assert "credited" not in owed(world, book), "once"
    counter = Counter.of(world, "alice")
    stake_commands.stake(counter.desk)
    assert "by receipts" not in counter.said


def test_an_operator_that_is_silent_is_ended_step_by_step(world: World, tmp_path: Path) -> None:
    book = book_of(tmp_path, taken(world, "alice", 1, 7), taken(world, "alice", 2, 7))
    world.wait(WINDOW)
    assert "2 groups claimed" in owed(world, book)
    assert "stopped" not in owed(world, book)
    world.wait(RESPONSE)
    assert "run 1 is stopped" in owed(world, book)
    assert "epochs are posted until" in owed(world, book)
    world.wait(WINDOW + 1)
    assert "is closed with" in owed(world, book)
    assert world.by("alice").run(1).status is LedgerStatus.CLOSED
    world.wait(WINDOW + RESPONSE)
    assert "are credited to" in owed(world, book)


def test_what_an_epoch_pays_is_not_claimed(world: World, tmp_path: Path) -> None:
    book = book_of(tmp_path, taken(world, "alice", 1, 7), taken(world, "alice", 2, 7))
    file = epoch_file(world, 0, world.settle(alice=7))
    with pytest.raises(UserError, match="the file of epoch 0 of run 1 is not here"):
        owed(world, book)
    end(world)
    assert "1 groups are in no epoch: 7 units" in owed(world, book, [file])
    assert world.by("alice").owed(1, world.address("alice")) == 7


def passing_over(world: World, nonces: Sequence[int], last: int) -> EpochFile:
    """Post an epoch that pays alice for these nonces, and return its file."""
    key = bytes(world.people["alice"].key)
    domain = Domain(world.deployment.chain_id, world.deployment.ledger)
    contributions = []
    for nonce in nonces:
        work, _ = taken(world, "alice", nonce, 7)
        fields = {
            name: getattr(work, name) for name in Contribution.model_fields if hasattr(work, name)
        }
        signature = sign(key, domain.digest(work))
        contributions.append(Contribution(**fields, units=7, signature=signature))
    run = world.by("alice").run(world.run_id)
    before = (
        world.by("alice").epoch(world.run_id, run.num_posted - 1).account_root
        if run.num_posted
        else bytes(32)
    )
    earned = (run.committed // RATE) + 7 * len(nonces)
    file = EpochFile(
        run_id=world.run_id,
        epoch=run.num_posted,
        generation=0,
        prev_account_root=before,
        secret=SECRET,
        contributions=tuple(contributions),
        accounts=(Account(worker=world.address("alice"), earned=earned, last_nonce=last),),
    )
    world.open()
    world.post(header_of(file, file.canonical()))
    world.wait(WINDOW)
    world.by("stranger").advance(world.run_id)
    return file


def test_what_an_epoch_passed_over_is_claimed_where_the_files_show_it(
    world: World, tmp_path: Path
) -> None:
    book = book_of(tmp_path, *(taken(world, "alice", nonce, 7) for nonce in range(1, 6)))
    first = passing_over(world, [1], 1)
    second = passing_over(world, [2, 4], 4)
    end(world)
    said = owed(world, book, [second])
    assert "1 groups are in no epoch: 7 units" in said, (
        "without the first epoch's file 3 may have been in it"
    )
    forged = second.model_copy(update={"contributions": second.contributions[:1]})
    assert "1 groups are in no epoch" in owed(world, book, [first, forged])
    assert "2 groups are in no epoch: 14 units" in owed(world, book, [first, second])
    assert world.by("alice").owed(1, world.address("alice")) == 14


def test_a_file_that_is_not_the_chains_is_not_believed(world: World, tmp_path: Path) -> None:
    book = book_of(tmp_path, taken(world, "alice", 1, 7))
    world.settle(alice=7)
    false = epoch_file(world, 0, world.accounts(bob=7))
    with pytest.raises(UserError, match="costs stake: get it from"):
        owed(world, book, [false])


def test_a_reported_worker_and_one_without_receipts_claim_nothing(
    world: World, tmp_path: Path
) -> None:
    book = book_of(tmp_path, taken(world, "alice", 1, 7))
    with pytest.raises(UserError, match="has no receipt of"):
        owed(world, book, name="bob")
    end(world)
    world.accuse(world.report("alice"))
    assert "a quorum reported this worker" in owed(world, book)
    assert world.by("alice").owed(1, world.address("alice")) == 0


def test_a_rejected_group_is_no_promise(world: World, tmp_path: Path) -> None:
    work, receipt = taken(world, "alice", 1, 7)
    rejected: KeptReceipt = kept_of(work, receipt.model_copy(update={"rejection": "bad_length"}))
    ReceiptBook(tmp_path / "receipts").keep(rejected)
    with pytest.raises(UserError, match="has no receipt of"):
        owed(world, tmp_path / "receipts")
