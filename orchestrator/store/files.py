"""Files of a folder that are there as a whole, and still there after the power was cut, before anybody is told.

A disk takes milliseconds to keep anything, and as long for much at once. What comes while it is busy is therefore
kept together: one write and one sync of a log, and the files themselves are left to the system, which
writes them out in its own time. `log.py` puts back what a cut of the power took.
"""

import asyncio
import os
import secrets
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from local.files import flush
from orchestrator.store.log import Log, end, mend, write_all

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
AT_ONCE = 16
"""Large files being kept at once: the disk commits them together."""
LARGE_BYTES = 1 << 18
"""A longer file is synced by itself: to write it twice costs more."""
LOG_BYTES = 1 << 24
"""A longer log is begun anew: a start after a cut of the power reads this much, of each process."""


@dataclass(slots=True)
class Change:
    """Files that are kept, or removed, together, and who waits for that."""

    files: dict[str, bytes | bool | None]
    done: asyncio.Future[None]
    problem: OSError | None = None


class Files:
    """Writes files, each under a name of its own and then renamed into place."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = (f"{secrets.token_hex(8)}-{n}" for n in count())
        self._threads = ThreadPoolExecutor(AT_ONCE, "disk")
        self._waiting: list[Change] = []
        self._writer: asyncio.Task[None] | None = None
        self._log: Log | None = None
        self._ending: Future[None] | None = None

    async def keep(self, files: Mapping[str, bytes | None]) -> None:
        """Return once files are on the disk, in this order, or gone where they are None.

        Raises `OSError` where one does not fit; nothing of that one is left.
        """
        loop, logged = asyncio.get_running_loop(), dict[str, bytes | bool | None](files)
        for name, data in files.items():
            if data is not None and len(data) > LARGE_BYTES:
                await loop.run_in_executor(self._threads, self._put, name, data, True)
                logged[name] = True
        change = Change(logged, loop.create_future())
        self._waiting.append(change)
        if self._writer is None:
            self._writer = loop.create_task(self._write())
        await change.done

    async def _write(self) -> None:
        """Keep what waits until nothing does, all that came meanwhile at once."""
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await loop.run_in_executor(self._threads, self._commit, batch)
                for change in (change for change in batch if not change.done.done()):
                    if change.problem is None:
                        change.done.set_result(None)
                    else:
                        change.done.set_exception(change.problem)
        finally:
            self._writer = None

    def _commit(self, batch: list[Change]) -> None:
        try:
            self._logged().append({name: d for change in batch for name, d in change.files.items()})
        except OSError as error:
            for change in batch:
                change.problem = error
            return
        for change in batch:
            try:
                for name, data in change.files.items():
                    if data is None:
                        (self._folder / name).unlink(missing_ok=True)
                    elif not isinstance(data, bool):
                        self._put(name, data)
            except OSError as error:
                change.problem = error

    def _logged(self) -> Log:
        """Return the log, of which a new one is begun where the last is long and the one before is gone."""
        if self._log is None:
            self._threads.submit(end, mend(self._folder, self._put))
            self._log = Log(self._folder)
        elif self._log.size > LOG_BYTES and (self._ending is None or self._ending.done()):
            self._ending = self._threads.submit(self._log.end)
            self._log = Log(self._folder)
        return self._log

    def _put(self, name: str, data: bytes, is_synced: bool = False) -> None:
        path = self._folder / name
        new = self._folder / f"{name}#{next(self._names)}"
        try:
            try:
                number = os.open(new, NEW, 0o666)
            except FileNotFoundError:
                _make(path.parent)
                number = os.open(new, NEW, 0o666)
            try:
                write_all(number, data)
                if is_synced:
                    os.fdatasync(number)
            finally:
                os.close(number)
            new.rename(path)
        except OSError:
            with suppress(OSError):
                new.unlink()
            raise
        if is_synced:
            flush(path.parent)


def _make(folder: Path) -> None:
    """Make a folder, and keep it in the one above."""
    if not folder.exists():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        flush(folder.parent)
