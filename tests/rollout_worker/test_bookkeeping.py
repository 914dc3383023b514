"""The files a worker keeps of its pay: believed only where the header on chain commits to them."""

from pathlib import Path

import pytest

from audit.published import Published
from protocol.canonical import keccak256
from protocol.messages import EpochFile
from rollout_worker.pay.bookkeeping import EpochShelf, published
from tests.rollout_worker.test_omissions import BOOK


def header_hash(file: EpochFile) -> bytes:
    return Published.of(file).header(keccak256(file.canonical())).struct_hash()


@pytest.fixture
def file() -> EpochFile:
    return BOOK.file(0, [BOOK.work("alice", 1), BOOK.work("bob", 1)])


def test_a_kept_file_is_read_under_its_header_only(tmp_path: Path, file: EpochFile) -> None:
    shelf = EpochShelf(tmp_path, 1)
    other = BOOK.file(0, [BOOK.work("alice", 1)])
    shelf.put(0, file.canonical())
    found = shelf.get(0, header_hash(file))
    assert found is not None
    assert found.file == file
    assert shelf.get(0, header_hash(other)) is None, "voided, and another posted in its place"
    assert shelf.get(1, header_hash(file)) is None
    assert EpochShelf(tmp_path, 2).get(0, header_hash(file)) is None


def test_bytes_that_are_no_epoch_file_are_nothing(file: EpochFile) -> None:
    data = file.canonical()
    assert published(data, header_hash(file)) is not None
    for wrong in (b"", data[:-1], data + b"\0", data[:40] + bytes([data[40] ^ 1]) + data[41:]):
        assert published(wrong, header_hash(file)) is None


def test_only_the_newest_final_file_and_later_ones_are_kept(
    tmp_path: Path, file: EpochFile
) -> None:
    shelf = EpochShelf(tmp_path, 1)
    neighbour = EpochShelf(tmp_path, 11)
    stray = tmp_path / "run-1-epoch-0 (copy).bin"
    stray.write_bytes(b"somebody's own")
    for epoch in range(4):
        shelf.put(epoch, file.canonical())
        neighbour.put(epoch, file.canonical())
    shelf.drop_before(2)
    assert [shelf.path(n).exists() for n in range(4)] == [False, False, True, True]
    assert all(neighbour.path(n).exists() for n in range(4))
