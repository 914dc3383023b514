"""A worker leases no more while too much of its work is in no epoch, and goes on when one has it."""

from pathlib import Path

from client.connection import Connection
from client.public import PublicRoutes
from ledger.amounts import Token
from protocol.epoch import AccountLeaf, RetractEpoch
from rollout_worker.pay.bookkeeping import Bookkeeper, EpochShelf
from rollout_worker.pay.earnings import Earnings, earned_of
from rollout_worker.pay.exposure import Exposure
from rollout_worker.pay.receipts import ReceiptBook
from rollout_worker.wallet import RunPermit
from tests.ledger.test_disputing import docket
from tests.stage.owed import kept_of, taken
from tests.stage.world import RATE, WINDOW, World

NOWHERE = "http://127.0.0.1:9"
"""Nothing is fetched: the epoch's file is on this disk."""


def bookkeeper(world: World, folder: Path, book: ReceiptBook) -> Bookkeeper:
    return Bookkeeper(
        world.by("alice"),
        PublicRoutes(Connection(NOWHERE, give_up=lambda: True)),
        run_id=world.run_id,
        worker=world.address("alice"),
        receipts=book,
        folder=folder / "epochs",
        proves=False,
        give_up=lambda: True,
    )


def keep(world: World, book: ReceiptBook, *nonces: int) -> None:
    for nonce in nonces:
        book.keep(kept_of(*taken(world, "alice", nonce, 5)))


def test_it_stops_beyond_its_bound_and_goes_on_when_an_epoch_has_the_work(
    world: World, tmp_path: Path
) -> None:
    book = ReceiptBook(tmp_path / "receipts")
    books = bookkeeper(world, tmp_path, book)
    permit = RunPermit(world.by("alice"), world.run_id, seconds=10**9)
    exposure = Exposure(permit, books, most_groups=2)
    keep(world, book, 1, 2)
    books.step()
    assert books.unposted() == (2, 10)
    assert exposure.hindrance() is None, "the bound itself is allowed"
    keep(world, book, 3)
    stopped = exposure.hindrance()
    assert stopped is not None
    assert "3 groups of 15 tokens are in no posted epoch, and most_unposted_groups is 2" in str(
        stopped.reason
    )
    assert not stopped.is_over
    keep(world, book, 4)
    assert exposure.hindrance() == stopped, "said once"


def test_what_a_posted_epoch_has_counts_no_more_and_a_rejected_group_never(
    world: World, tmp_path: Path
) -> None:
    case = docket(world)
    book = ReceiptBook(tmp_path / "receipts")
    keep(world, book, 1, 2, 3, 5)
    work, receipt = taken(world, "alice", 6, 5)
    book.keep(kept_of(work, receipt.model_copy(update={"rejection": "bad_length"})))
    # The worker looks at a disk that others wrote before it started.
    books = bookkeeper(world, tmp_path, ReceiptBook(tmp_path / "receipts"))
    assert books.unposted() == (0, 0), "not known before the first look"
    EpochShelf(tmp_path / "epochs", world.run_id).put(0, case.file.canonical())
    books.step()
    assert books.unposted() == (1, 5)


def test_a_voided_epoch_is_owed_again(world: World, tmp_path: Path) -> None:
    case = docket(world)
    book = ReceiptBook(tmp_path / "receipts")
    keep(world, book, 1, 2, 3)
    books = bookkeeper(world, tmp_path, book)
    EpochShelf(tmp_path / "epochs", world.run_id).put(0, case.file.canonical())
    books.step()
    assert books.unposted() == (0, 0)
    taken_back = RetractEpoch(world.run_id, 0, 0, case.header.struct_hash()).struct_hash()
    signatures = world.signed(taken_back, "v0", "v1")
    world.by("stranger").retract_epoch(world.run_id, 0, signatures)
    books.step()
    assert books.unposted() == (3, 15)


def test_what_was_earned_stands_in_one_stage_at_a_time(world: World, tmp_path: Path) -> None:
    case = docket(world)
    book = ReceiptBook(tmp_path / "receipts")
    keep(world, book, 1, 2, 3, 5)
    books = bookkeeper(world, tmp_path, book)
    EpochShelf(tmp_path / "epochs", world.run_id).put(0, case.file.canonical())
    assert books.earnings() is None, "not known before the first look"
    accounts = [AccountLeaf(a.worker, a.earned, a.last_nonce) for a in case.file.accounts]
    earned = earned_of(accounts, world.address("alice")) * RATE
    assert earned > 0
    books.step()
    assert books.earnings() == Earnings(5 * RATE, earned, 0, 0)
    world.wait(WINDOW)
    world.by("stranger").advance(world.run_id)
    books.step()
    assert books.earnings() == Earnings(5 * RATE, 0, earned, 0)
    world.claim("alice", 0, accounts)
    assert books.earnings() == Earnings(5 * RATE, 0, 0, earned)
    shown = Earnings(5 * RATE, 0, 0, earned).shown(Token("", "RTEST", 1))
    assert shown["accepted"] == "5 RTEST"
