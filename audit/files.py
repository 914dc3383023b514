"""The epoch files that a watcher has: fetched once, checked against the chain, kept in a folder.

Kept files can still answer demands if their publisher withholds them later.
"""

from collections.abc import Callable
from pathlib import Path

import structlog

from audit.history import Posted
from audit.published import Opened, Published
from local.files import tell_damaged, write_whole
from protocol.canonical import keccak256
from protocol.errors import MarketError
from protocol.messages import EpochFile

Files = Callable[[Posted], bytes | None]
"""Where published files come from. Any bytes may come back: they are checked here."""

MAX_LEAVES_HELD = 400_000
"""Work leaves in memory, at about 3 KB each with their trees; older files are read from disk again."""


class Shelf:
    """Example: `Shelf(folder, fetch).read(posted)`"""

    def __init__(self, folder: Path, files: Files) -> None:
        self._folder = folder
        self._files = files
        self._held: dict[bytes, Published] = {}
        self._unreadable: set[bytes] = set()

    def read(self, posted: Posted) -> Published | None:
        """Return a posting's file; None if there is none, or if what was signed is no epoch file."""
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
        self._held[posted.data_hash] = published
        self._forget_oldest()
        return published

    def opened(self, posted: Posted) -> Opened | None:
        """Return the whole epoch, where the file that is here is the one that was signed."""
        published = self.read(posted)
        header = published.header(posted.data_hash) if published else None
        if published is None or header is None or header.struct_hash() != posted.header_hash:
            return None
        return published.under(header)

    def _forget_oldest(self) -> None:
        while (
            len(self._held) > 1 and sum(len(p.work) for p in self._held.values()) > MAX_LEAVES_HELD
        ):
            del self._held[next(iter(self._held))]

    def _bytes(self, posted: Posted) -> bytes | None:
        kept = self._folder / f"{posted.data_hash.hex()}.epoch"
        if kept.exists():
            data = kept.read_bytes()
            if keccak256(data) == posted.data_hash:
                return data
            tell_damaged(kept, "its bytes are others", "it is fetched anew")
        found = self._files(posted)
        if found is None or keccak256(found) != posted.data_hash:
            return None
        write_whole(kept, found)
        return found
