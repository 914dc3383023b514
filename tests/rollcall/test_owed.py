"""`rollcall owed`: from the worker's own receipts and a node, with the market switched off."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from audit.omissions import KeptReceipt
from ledger.state import LedgerStatus
from protocol.messages import EpochFile
from protocol.user_error import UserError
from rollcall.cli import run as run_commands
from rollcall.cli.owed import claim_owed
from rollout_worker.pay.receipts import ReceiptBook
from tests.rollcall.test_claim import epoch_file
from tests.stage.counter import Counter, told
from tests.stage.owed import Promise, end, kept_of, taken
from tests.stage.world import BUDGET, RATE, RESPONSE, WINDOW, World


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
