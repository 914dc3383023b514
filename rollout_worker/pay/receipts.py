"""The receipts a worker holds, kept on its own disk: they are its evidence when an epoch skips work.

One append-only file of records, each a length of four bytes and the canonical bytes of a
`KeptReceipt`. A record is written in one call, so a process that dies loses none that it told of and
at most tears the last; a torn end is passed over, and cut off before the next record. Of a damaged file
every receipt that stands in it is read, and before the next record it is kept aside whole. One process
writes, anyone may read. Nothing is ever removed: a hundred thousand groups with short prompts are about
100 MB.
"""

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from audit.omissions import KeptReceipt
from local.files import append, set_aside, tell_damaged, write_whole
from protocol.errors import Malformed

LENGTH = 4
MOST_BYTES = 1 << 20
"""A record with the longest prompt and the largest group is far smaller: more is a damaged file."""
FIRST_BYTE = bytes([0x80 | len(KeptReceipt.model_fields)])
"""How MessagePack begins a map of a record's fields."""


class ReceiptBook:
    """One file of receipts, for the threads of one process.

    Example: book = ReceiptBook(data_dir / "receipts"); book.keep(kept); list(book.of_run(1))
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._is_whole = False
        self._tokens: dict[int, dict[int, int]] | None = None
        """Of accepted work by run and nonce: the file is long, and is asked for it all the time."""

    def keep(self, kept: KeptReceipt) -> None:
        """Append one receipt; it outlives this process from here on."""
        data = kept.canonical()
        with self._lock:
            if not self._is_whole:
                self._mend()
            append(self._path, len(data).to_bytes(LENGTH, "big") + data)
            if self._tokens is not None:
                _note(self._tokens, kept)

    def all(self) -> list[KeptReceipt]:
        """Return every receipt, oldest first."""
        return [kept for kept, _, _ in _records(self._bytes())]

    def promises(self, run_id: int) -> list[KeptReceipt]:
        """Return what was taken of one run's work, oldest first."""
        return [k for k in self.all() if k.receipt.run_id == run_id and not k.receipt.rejection]

    def promised_above(self, run_id: int, nonce: int) -> tuple[int, int]:
        """Return how many groups of a run were taken above a nonce, and their tokens."""
        with self._lock:
            if self._tokens is None:
                self._tokens = {}
                for kept in self.all():
                    _note(self._tokens, kept)
            found = [n for at, n in self._tokens.get(run_id, {}).items() if at > nonce]
        return len(found), sum(found)

    def of_work(self, work_digest: bytes) -> KeptReceipt | None:
        """Return the receipt for the work under this digest, or None where none is held."""
        return next((k for k in self.all() if k.receipt.work_digest == work_digest), None)

    def _bytes(self) -> bytes:
        return self._path.read_bytes() if self._path.exists() else b""

    def _mend(self) -> None:
        """Leave just what can be read, so that a record may follow it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        data = self._bytes()
        places = [(start, end) for _, start, end in _records(data)]
        whole = b"".join(data[start:end] for start, end in places)
        lost = len(data) - len(whole)
        if data.startswith(whole) and _is_torn(data[len(whole) :]):
            done = "torn end cut off"
        else:
            aside = set_aside(self._path)
            done = f"{len(places)} receipts go on; the file is kept as {aside.name}: look at it before it is lost"
        if lost:
            tell_damaged(self._path, f"{lost} bytes are no receipt", done)
            write_whole(self._path, whole)
        self._is_whole = True


def _note(tokens: dict[int, dict[int, int]], kept: KeptReceipt) -> None:
    if not kept.receipt.rejection:
        tokens.setdefault(kept.work.run_id, {})[kept.work.nonce] = kept.work.tokens


def _records(data: bytes) -> Iterator[tuple[KeptReceipt, int, int]]:
    """Yield what can be read, and from where to where it stands, passing over what is damaged between."""
    at = 0
    while (start := data.find(FIRST_BYTE, at + LENGTH) - LENGTH) >= at:
        length = int.from_bytes(data[start : start + LENGTH], "big")
        end = start + LENGTH + length
        at = start + 1
        if length <= MOST_BYTES and end <= len(data):
            with suppress(Malformed):
                yield KeptReceipt.from_canonical(data[start + LENGTH : end]), start, end
                at = end


def _is_torn(tail: bytes) -> bool:
    """Return whether this is the beginning of a record, or nothing: what a write that was cut leaves."""
    length = int.from_bytes(tail[:LENGTH], "big")
    return len(tail) < LENGTH or len(tail) - LENGTH < length <= MOST_BYTES
