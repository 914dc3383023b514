"""Where each work and each payload of a run was paid, so that paying it again can be proven.

An index on disk, because a run pays forever and a repetition may come at any time.
"""

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

from audit.fraud import Paid, PaidBefore
from audit.history import History, Posted
from audit.published import Published, key_of
from local.files import NotWritten, tell_damaged
from protocol.epoch import WorkLeaf

SCHEMA = """
CREATE TABLE IF NOT EXISTS paid (
    run INTEGER, what BLOB, header BLOB, place INTEGER,
    PRIMARY KEY (run, what, header, place)
) WITHOUT ROWID
"""


class PaidIndex:
    """Example: `index.add(1, header_hash, leaves); index.find(1, leaf)`"""

    def __init__(self, path: Path | str = ":memory:") -> None:
        # One caller at a time, but an orchestrator's rounds run on any free thread.
        self._path = path
        try:
            self._rows = sqlite3.connect(path, check_same_thread=False)
        except sqlite3.OperationalError as error:
            raise self._not_written(error) from error
        if (problem := self._problem()) is not None:
            tell_damaged(Path(path), problem, "the index is made anew from the epoch files")
            self._rows.close()
            Path(path).unlink()
            self._rows = sqlite3.connect(path, check_same_thread=False)
            self._rows.execute(SCHEMA)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is noted: where epochs were paid, what their files say must be noted again."""
        return self._rows.execute("SELECT 1 FROM paid LIMIT 1").fetchone() is None

    def _problem(self) -> str | None:
        try:
            self._rows.execute(SCHEMA)
            [found] = self._rows.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            return str(error)
        return None if found == "ok" else str(found)

    def _not_written(self, error: sqlite3.OperationalError) -> NotWritten:
        return NotWritten(
            f"{self._path} cannot be written ({error}): free space on its disk, or let this account write there"
        )

    def add(self, run_id: int, header_hash: bytes, leaves: Iterable[WorkLeaf]) -> None:
        """Note every leaf under a header; doing so again changes nothing."""
        rows = (
            (run_id, what, header_hash, place)
            for place, leaf in enumerate(leaves)
            for what in _names(leaf)
        )
        try:
            with self._rows:
                self._rows.executemany("INSERT OR IGNORE INTO paid VALUES (?, ?, ?, ?)", rows)
        except sqlite3.OperationalError as error:
            raise self._not_written(error) from error

    def find(self, run_id: int, leaf: WorkLeaf) -> list[tuple[bytes, int]]:
        """Return (header hash, place) of every leaf with this payload or this (worker, nonce)."""
        query = "SELECT header, place FROM paid WHERE run = ? AND what IN (?, ?)"
        return self._rows.execute(query, (run_id, *_names(leaf))).fetchall()

    def of_work(self, run_id: int, worker: str, nonce: int) -> list[tuple[bytes, int]]:
        """Return (header hash, place) of every leaf of this worker and nonce."""
        query = "SELECT header, place FROM paid WHERE run = ? AND what = ?"
        return self._rows.execute(query, (run_id, _name_of(int(worker, 16), nonce))).fetchall()

    def of_payload(self, run_id: int, payload_digest: bytes) -> set[bytes]:
        """Return the hashes of the headers that have a leaf with this payload."""
        query = "SELECT header FROM paid WHERE run = ? AND what = ?"
        return {header for [header] in self._rows.execute(query, (run_id, payload_digest))}

    def before(
        self, posted: Posted, history: History, read: Callable[[Posted], Published | None]
    ) -> PaidBefore:
        """Return a look-up of the same work in earlier epochs that stand beside `posted`."""

        def paid_before(leaf: WorkLeaf) -> Paid | None:
            for header_hash, place in self.find(posted.run_id, leaf):
                other = history.postings.get(header_hash)
                if other is None or not other.pays or other.epoch >= posted.epoch:
                    continue
                published = read(other)
                if published is not None:
                    header = published.header(other.data_hash)
                    return Paid(header, published.under(header).work_at(place))
            return None

        return paid_before

    def close(self) -> None:
        self._rows.close()


def _names(leaf: WorkLeaf) -> tuple[bytes, bytes]:
    return leaf.payload_digest, _name_of(*key_of(leaf))


def _name_of(worker: int, nonce: int) -> bytes:
    return worker.to_bytes(20, "big") + nonce.to_bytes(8, "big")
