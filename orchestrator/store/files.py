"""Files of a folder that are there as a whole, and still there after the power was cut, before anybody is told.

A disk takes milliseconds to keep a file, and as long for many at once, so many are kept at once; the event
loop waits for none.
"""

import asyncio
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from local.files import flush

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
AT_ONCE = 16
"""Files being kept at once: the disk commits them together."""


class Files:
    """Writes files, each under a name of its own and then renamed into place."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, "disk")

    async def keep(self, path: Path, data: bytes) -> None:
        """Return once a file is on the disk; raise `OSError` where it does not fit, and leave nothing of it."""
        await asyncio.get_running_loop().run_in_executor(self._threads, _keep, path, data)


def _keep(path: Path, data: bytes) -> None:
    new = Path(f"{path}#{secrets.token_hex(8)}")
    try:
        try:
            number = os.open(new, NEW, 0o666)
        except FileNotFoundError:
            _make(new.parent)
            number = os.open(new, NEW, 0o666)
        with os.fdopen(number, "wb") as opened:
            opened.write(data)
            opened.flush()
            os.fdatasync(opened.fileno())
        new.rename(path)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise
    flush(path.parent)


def _make(folder: Path) -> None:
    """Make a folder, and keep it in the one above."""
    if not folder.exists():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        flush(folder.parent)
