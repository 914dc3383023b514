"""The epoch files that a watcher has: fetched once, checked against the chain, kept in a folder.

What is kept can be answered from when its publisher withholds it later.
"""

from collections.abc import Callable
from pathlib import Path

import structlog

from contracts.history import Posted
from contracts.openings import Published
from protocol.canonical import keccak256
from protocol.errors import MarketError
from protocol.messages import EpochFile

Files = Callable[[Posted], bytes | None]
"""Where published files come from. Any bytes may come back: they are checked here."""

MAX_HELD = 16
"""Files in memory: those of the pending epochs of a run or two, and the ones before."""


class Shelf:
    """Example: `Shelf(folder, fetch).read(posted)`"""

    def __init__(self, folder: Path, files: Files) -> None:
        self._folder = folder
        self._files = files
        self._held: dict[bytes, Published] = {}
        self._unreadable: set[bytes] = set()

    def read(self, posted: Posted) -> Published | None:
        """Return a posting's file; None where there is none, or what was signed is no epoch file."""
        held = self._held.get(posted.data_hash)
        if held is not None or posted.data_hash in self._unreadable:
            return held
        data = self._bytes(posted)
        if data is None:
            return None
        try:
            published = Published.of(EpochFile.from_canonical(data))
        except (MarketError, ValueError) as error:
            self._unreadable.add(posted.data_hash)
            log = structlog.get_logger()
            log.warning("file cannot be read", epoch=posted.epoch, reason=str(error))
            return None
        if len(self._held) >= MAX_HELD:
            self._held.pop(next(iter(self._held)))
        self._held[posted.data_hash] = published
        return published

    def _bytes(self, posted: Posted) -> bytes | None:
        kept = self._folder / f"{posted.data_hash.hex()}.epoch"
        if kept.exists():
            return kept.read_bytes()
        data = self._files(posted)
        if data is None or keccak256(data) != posted.data_hash:
            return None
        temporary = kept.with_suffix(".tmp")
        temporary.write_bytes(data)
        temporary.replace(kept)
        return data
