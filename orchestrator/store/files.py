"""Files of a folder that are there as a whole, and still there after the power was cut, before anybody is told.

A disk takes milliseconds to keep a file, and as long for many at once: what comes while some are being kept is
kept with the next ones, and the event loop waits for none.
"""

import asyncio
import os
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
AT_ONCE = 16
"""Files being kept at once: the disk commits them together."""


@dataclass(frozen=True, slots=True)
class BeingKept:
    """A file on its way to the disk, and who waits for it."""

    path: Path
    data: bytes
    answer: "asyncio.Future[None]"


class Files:
    """Writes files, each under a name of its own and then renamed into place."""

    def __init__(self) -> None:
        self._waiting: list[BeingKept] = []
        self._keeper: asyncio.Task[None] | None = None
        self._threads = ThreadPoolExecutor(AT_ONCE, "disk")

    async def keep(self, path: Path, data: bytes) -> None:
        """Return once a file is on the disk; raise `OSError` where it does not fit, and leave nothing of it."""
        kept = BeingKept(path, data, asyncio.get_running_loop().create_future())
        self._waiting.append(kept)
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep_all())
        await kept.answer

    async def _keep_all(self) -> None:
        loop, files = asyncio.get_running_loop(), list[BeingKept]()
        try:
            while self._waiting:
                files, self._waiting = self._waiting, []
                found = await loop.run_in_executor(None, self._write_all, files)
                for file, error in zip(files, found, strict=True):
                    if file.answer.done():  # its sender has gone
                        continue
                    if error is None:
                        file.answer.set_result(None)
                    else:
                        file.answer.set_exception(error)
        finally:
            for file in (*files, *self._waiting):  # nobody waits for a keeper that is gone
                file.answer.cancel()
            self._waiting, self._keeper = [], None

    def _write_all(self, files: Sequence[BeingKept]) -> list[OSError | None]:
        found = list(self._threads.map(_write, files))
        folders = {file.path.parent for file, error in zip(files, found, strict=True) if not error}
        lost = dict(zip(folders, self._threads.map(_sync, folders), strict=True))
        return [error or lost[file.path.parent] for file, error in zip(files, found, strict=True)]


def _write(file: BeingKept) -> OSError | None:
    """Write a file and rename it into place; its folder is still to be synced."""
    new = Path(f"{file.path}#{secrets.token_hex(8)}")
    try:
        try:
            number = os.open(new, NEW, 0o666)
        except FileNotFoundError:
            _make(new.parent)
            number = os.open(new, NEW, 0o666)
        with os.fdopen(number, "wb") as opened:
            opened.write(file.data)
            opened.flush()
            os.fdatasync(opened.fileno())
        new.rename(file.path)
    except OSError as error:
        with suppress(OSError):
            new.unlink()
        return error
    return None


def _make(folder: Path) -> None:
    """Make a folder, and keep it in the one above."""
    if not folder.exists():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> OSError | None:
    try:
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
    except OSError as error:
        return error
    return None
