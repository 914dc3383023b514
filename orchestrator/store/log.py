"""The log of a folder's files: what was kept in them, until the system has written them out by itself.

Each process appends to a log of its own, and holds a lock on it as long as it lives. Whoever begins a log first looks
at those of processes that are gone. Where the machine was started since, their files may be torn or missing: what
the logs say is put back, in the order of its time. An entry is MessagePack, its length and its CRC-32 before it.
"""

import fcntl
import os
import struct
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgpack

from local.files import flush

FOLDER = "log"
BOOT = Path("/proc/sys/kernel/random/boot_id")
HEAD = struct.Struct("<II")

Entry = tuple[int, dict[str, bytes | bool | None]]
"""When, and by name what a file says; None where it was removed, True where it was synced by itself."""


class Log:
    """What this process kept in a folder."""

    def __init__(self, folder: Path) -> None:
        logs = folder / FOLDER
        self.size = 0
        self._path = logs / f"{time.time_ns()}-{os.getpid()}-{boot()}"
        new = Path(f"{self._path}#")  # nobody ends what has no lock yet
        self._number = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        fcntl.flock(self._number, fcntl.LOCK_EX)
        new.rename(self._path)
        flush(logs)

    def append(self, files: Mapping[str, bytes | bool | None]) -> None:
        """Return once an entry is on the disk; raise `OSError`, with nothing of it in the log, where it does not fit."""
        entry = msgpack.packb((time.time_ns(), files))
        try:
            write_all(self._number, HEAD.pack(len(entry), zlib.crc32(entry)) + entry)
            os.fdatasync(self._number)
        except OSError:
            os.ftruncate(self._number, self.size)
            raise
        self.size += HEAD.size + len(entry)

    def end(self) -> None:
        """Remove the log once all that it says is in its files on the disk."""
        end([self._path])
        os.close(self._number)


def end(logs: Collection[Path]) -> None:
    """Remove logs once all that they say is in their files on the disk."""
    if logs:
        os.sync()
    for path in logs:
        path.unlink(missing_ok=True)


def mend(folder: Path, put: Callable[[str, bytes], None]) -> list[Path]:
    """Put back what processes that are gone had kept, where a cut of the power may have taken it.

    Returns the logs of the others that are gone, which may be ended.
    """
    logs = folder / FOLDER
    logs.mkdir(parents=True, exist_ok=True)
    flush(folder)
    with _locked(logs):
        gone = [path for path in sorted(logs.glob("*[!#]")) if _is_gone(path)]
        torn = [path for path in gone if not boot() or not path.name.endswith(boot())]
        entries = sorted((e for path in torn for e in _entries(path)), key=lambda entry: entry[0])
        files = {name: data for _, changes in entries for name, data in changes.items()}
        for name, data in files.items():
            path = folder / name
            if data is None:
                path.unlink(missing_ok=True)
            elif not isinstance(data, bool) and not (path.exists() and path.read_bytes() == data):
                put(name, data)
        end(torn)
    return [path for path in gone if path not in torn]


def boot() -> str:
    """Return what names the time since this machine was started; empty where the system does not say."""
    try:
        return BOOT.read_text().strip()
    except OSError:
        return ""


def write_all(number: int, data: bytes) -> None:
    """Write bytes to a descriptor, which may take them by parts."""
    left = memoryview(data)
    while left:
        left = left[os.write(number, left) :]


def _is_gone(path: Path) -> bool:
    """Return whether no process holds a log."""
    try:
        with path.open("rb") as log:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, FileNotFoundError):
        return False
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep others from mending: who finds a log in use must find its files mended."""
    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def _entries(path: Path) -> Iterator[Entry]:
    """Yield a log's entries, up to one that a crash cut short."""
    data, at = path.read_bytes(), 0
    while len(data) - at >= HEAD.size:
        size, checksum = HEAD.unpack_from(data, at)
        entry = data[at + HEAD.size : at + HEAD.size + size]
        if len(entry) < size or zlib.crc32(entry) != checksum:
            return
        when, files = msgpack.unpackb(entry)
        yield when, files
        at += HEAD.size + size
