"""The receipts a worker holds, kept on its own disk: they are its evidence when an epoch skips work.

One append-only file of records, each a length of four bytes and the canonical bytes of a
`KeptReceipt`. A record is written in one call, so a process that dies loses none that it told of and
at most tears the last; a torn end is passed over, and cut off before the next record. One process
writes, anyone may read. Nothing is ever removed: a hundred thousand groups with short prompts are about
100 MB.
"""

import threading
from collections.abc import Iterator
from pathlib import Path

import structlog

from audit.omissions import KeptReceipt
from protocol.errors import Malformed
from rollout_worker.growing_file import append

LENGTH = 4
MOST_BYTES = 1 << 20
"""A record with the longest prompt and the largest group is far smaller: more is a damaged file."""


class ReceiptBook:
    """One file of receipts, for the threads of one process.

    Example: book = ReceiptBook(data_dir / "receipts"); book.keep(kept); list(book.of_run(1))
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._ends_whole = False
        self._tokens: dict[int, dict[int, int]] | None = None
        """Of accepted work by run and nonce: the file is long, and is asked for it all the time."""

    def keep(self, kept: KeptReceipt) -> None:
        """Append one receipt; it outlives this process from here on."""
        data = kept.canonical()
        with self._lock:
            if not self._ends_whole:
                self._cut_torn_end()
            append(self._path, len(data).to_bytes(LENGTH, "big") + data)
            if self._tokens is not None:
                _note(self._tokens, kept)

    def all(self) -> list[KeptReceipt]:
        """Return every receipt, oldest first."""
        return [KeptReceipt.from_canonical(data) for data in _records(self._bytes())]

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

    def _cut_torn_end(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        data = self._bytes()
        whole = sum(LENGTH + len(record) for record in _records(data))
        if whole < len(data):
            with self._path.open("r+b") as file:
                file.truncate(whole)
            log = structlog.get_logger()
            log.warning("torn receipt cut off", file=str(self._path), bytes=len(data) - whole)
        self._ends_whole = True


def _note(tokens: dict[int, dict[int, int]], kept: KeptReceipt) -> None:
    if not kept.receipt.rejection:
        tokens.setdefault(kept.work.run_id, {})[kept.work.nonce] = kept.work.tokens


def _records(data: bytes) -> Iterator[bytes]:
    """Yield whole records, up to a torn end."""
    at = 0
    while at + LENGTH <= len(data):
        length = int.from_bytes(data[at : at + LENGTH], "big")
        if length > MOST_BYTES:
            raise Malformed(f"a receipt of {length} bytes at offset {at}: the file is damaged")
        end = at + LENGTH + length
        if end > len(data):
            return
        yield data[at + LENGTH : end]
        at = end
