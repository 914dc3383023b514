"""What a worker can prove from its own receipts, and what it keeps them in."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from audit.omissions import Due, KeptReceipt, Omission, omissions
from audit.published import Openable, Published
from protocol.canonical import keccak256
from protocol.epoch import AccountLeaf
from protocol.merkle import Tree
from protocol.messages import Contribution, EpochFile
from protocol.rollout import Receipt, Work
from protocol.signing import Domain
from rollout_worker.pay.receipts import ReceiptBook
from tests.stage.books import Book
from tests.stage.owed import kept_of

AT = 1_800_000_000
BOOK = Book(
    Domain(31_337, "0x5FbDB2315678afecb367f032d93F642f64180aa3"),
    run_id=1,
    keys={name: keccak256(name.encode()) for name in ("alice", "bob", "carol")},
    at=AT,
)
EVERYTHING_OWED = Due(posted_at=AT + 60, overdue_at=AT - 600, is_owed=lambda _: True)


def kept(item: Contribution, *, received_at: int = AT, rejection: str = "") -> KeptReceipt:
    """Return the receipt for a contribution as its worker holds it."""
    signed = item.model_dump(exclude={"units", "signature"}, mode="python")
    work = Work(run_id=1, **signed)
    receipt = Receipt(
        run_id=1,
        worker=item.worker,
        nonce=item.nonce,
        work_digest=BOOK.domain.digest(work),
        received_at=received_at,
        rejection=rejection,
        detail="",
        signature=bytes(65),
    )
    return kept_of(work, receipt)


def found(
    receipts: list[KeptReceipt],
    file: EpochFile,
    before: EpochFile | None = None,
    due: Due = EVERYTHING_OWED,
) -> list[Omission]:
    told = Published.of(file)
    opened = told.under(told.header(keccak256(file.canonical())))
    accounts: Openable[AccountLeaf] = Openable.whole((), Tree([]))
    if before is not None:
        earlier = Published.of(before)
        accounts = Openable.whole(earlier.accounts, earlier.account_tree)
    return list(omissions(receipts, opened, accounts, due))


def test_work_below_a_later_nonce_that_is_paid_was_skipped() -> None:
    paid, skipped, late = (BOOK.work("alice", nonce) for nonce in (1, 2, 3))
    file = BOOK.file(0, [paid, late, BOOK.work("bob", 1)])
    [omission] = found([kept(paid), kept(skipped), kept(late)], file)
    assert omission.work.nonce == 2
    assert [opening.leaf.nonce for opening in omission.around] == [1, 3]


def test_work_after_the_last_paid_nonce_may_still_come() -> None:
    first, second = BOOK.work("alice", 1), BOOK.work("alice", 2)
    file = BOOK.file(0, [first, BOOK.work("bob", 1)])
    assert not found([kept(first), kept(second)], file)


def test_work_received_long_before_the_epoch_opened_was_skipped_whatever_follows() -> None:
    item = BOOK.work("carol", 1)
    file = BOOK.file(0, [BOOK.work("alice", 1)])
    due = Due(posted_at=AT + 60, overdue_at=AT, is_owed=lambda _: True)
    assert len(found([kept(item, received_at=AT)], file, due=due)) == 1
    assert not found([kept(item, received_at=AT + 1)], file, due=due)


def test_work_of_an_earlier_epoch_was_paid() -> None:
    before = BOOK.file(0, [BOOK.work("alice", 1), BOOK.work("alice", 2)])
    file = BOOK.file(1, [BOOK.work("alice", 4)], before)
    assert not found([kept(BOOK.work("alice", 2))], file, before)
    assert len(found([kept(BOOK.work("alice", 3))], file, before)) == 1


@pytest.mark.parametrize(
    ("receipt", "due"),
    [
        (kept(BOOK.work("alice", 2), rejection="wrong_prompt"), EVERYTHING_OWED),
        (kept(BOOK.work("alice", 2), received_at=AT + 61), EVERYTHING_OWED),
        (kept(BOOK.work("alice", 2)), Due(AT + 60, AT - 600, is_owed=lambda at: at < AT)),
        (kept(BOOK.work("alice", 2)), Due(AT - 1, AT - 600, is_owed=lambda _: True)),
    ],
)
def test_work_that_could_not_be_paid_was_not_skipped(receipt: KeptReceipt, due: Due) -> None:
    file = BOOK.file(0, [BOOK.work("alice", 1), BOOK.work("alice", 3)])
    assert len(found([kept(BOOK.work("alice", 2))], file)) == 1
    assert not found([receipt], file, due=due)


# the book that receipts are kept in


def test_receipts_outlive_the_process_that_kept_them(tmp_path: Path) -> None:
    book = ReceiptBook(tmp_path / "receipts")
    taken = [kept(BOOK.work("alice", nonce)) for nonce in (1, 2)]
    refused = kept(BOOK.work("alice", 3), rejection="wrong_prompt")
    for item in (*taken, refused):
        book.keep(item)
    again = ReceiptBook(tmp_path / "receipts")
    assert again.all() == [*taken, refused]
    assert again.promises(1) == taken
    assert not again.promises(2)


@pytest.mark.parametrize("torn", [1, 3, 5, 100])
def test_a_torn_end_is_cut_off_and_written_over(tmp_path: Path, torn: int) -> None:
    path = tmp_path / "receipts"
    first, second = kept(BOOK.work("alice", 1)), kept(BOOK.work("alice", 2))
    book = ReceiptBook(path)
    book.keep(first)
    book.keep(second)
    path.write_bytes(path.read_bytes()[:-torn])
    again = ReceiptBook(path)
    assert again.all() == [first]
    again.keep(second)
    assert again.all() == [first, second]


@pytest.mark.parametrize("at", ["length", "inside", "start", "zeros at the end"])
def test_a_damaged_book_loses_no_receipt_that_stands_in_it_and_is_kept_aside(
    tmp_path: Path, at: str
) -> None:
    path = tmp_path / "receipts"
    book = ReceiptBook(path)
    taken = [kept(BOOK.work("alice", nonce)) for nonce in (1, 2, 3)]
    sizes = []
    for item in taken:
        book.keep(item)
        sizes.append(path.stat().st_size)
    data = bytearray(path.read_bytes())
    match at:
        case "length":
            data[sizes[0]] = 0xFF
            left = [taken[0], taken[2]]
        case "inside":
            data[sizes[0] + 40] ^= 0xFF
            left = [taken[0], taken[2]]
        case "start":
            data[:8] = b"\xff" * 8
            left = taken[1:]
        case _:
            data += bytes(4096)
            left = taken
    path.write_bytes(data)
    again = ReceiptBook(path)
    assert again.all() == left
    assert path.read_bytes() == data, "a reader changes nothing"
    with capture_logs() as said:
        again.keep(kept(BOOK.work("alice", 4)))
    assert [entry["event"] for entry in said] == ["file is damaged"]
    assert ReceiptBook(path).all() == [*left, kept(BOOK.work("alice", 4))]
    assert (tmp_path / "receipts.damaged").read_bytes() == data


def test_a_file_of_something_else_is_kept_aside_and_not_read_as_receipts(tmp_path: Path) -> None:
    path = tmp_path / "receipts"
    path.write_bytes(b"\xff" * 8)
    ReceiptBook(path).keep(kept(BOOK.work("alice", 1)))
    assert (tmp_path / "receipts.damaged").read_bytes() == b"\xff" * 8
    assert ReceiptBook(path).all() == [kept(BOOK.work("alice", 1))]
