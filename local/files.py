"""Files that are whole or not there, and what is done with one that is damaged all the same.

A new file is written beside the old one, flushed and renamed over it, and a growing one takes a record whole
or not at all; so a crash leaves nothing torn. A disk, a loss of power or another program may still damage a
file. Then what cannot be read is not believed: the next older state stands, the log names the file, and
the owner keeps a copy aside.
"""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import structlog

from protocol.errors import Malformed
from protocol.user_error import UserError

Item = TypeVar("Item")


UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading JSON and taking values out of it raise for bytes that are none of ours."""


class NotWritten(UserError, OSError):
    """Bytes did not fit; what was there is as it was."""


def write_whole(path: Path, data: bytes | str) -> None:
    """Put bytes, or text in UTF-8, in a file's place for good; raise `NotWritten` where they do not fit."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        flush(path.parent)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise NotWritten(
            f"{path} cannot be written ({error.strerror or error}): free space on its disk, or let this "
            "account write there; what was in it is whole"
        ) from error


def append(path: Path, data: bytes) -> None:
    """Append a record; raise `NotWritten`, with nothing of it in the file, where it does not fit."""
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            written = file.write(data)
            problem = f"{written} of {len(data)} bytes fitted"
        except OSError as error:
            written, problem = 0, str(error)
        if written == len(data):
            return
        file.truncate(before)
    raise NotWritten(
        f"{path} takes no more ({problem}): free space on its disk and start again; what is in it is whole"
    )


def flush(path: Path) -> None:
    """Return once a file, or the names in a folder, would outlive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(path: Path) -> Path:
    """Copy a damaged file beside itself, under a name that nothing reads; return that."""
    aside, number = path.with_name(f"{path.name}.damaged"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{number}")
    shutil.copyfile(path, aside)
    return aside


def tell_damaged(path: Path, problem: object, done: str) -> None:
    """Log that a file was not believed, and what was done instead."""
    structlog.get_logger().warning(
        "file is damaged", file=str(path), problem=str(problem), done=done
    )


def numbered(folder: Path, prefix: str, suffix: str = "") -> dict[int, Path]:
    """Return what is named by a number between prefix and suffix, in order; other names are passed over."""
    found = {}
    for path in folder.glob(f"{prefix}*{suffix}"):
        number = path.name.removeprefix(prefix).removesuffix(suffix)
        if number.isascii() and number.isdecimal():
            found[int(number)] = path
    return dict(sorted(found.items()))


def read_lines(path: Path, read: Callable[[bytes], Item]) -> list[Item]:
    """Return what can be read of the whole lines of a file that another program may be writing."""
    return [item for _, item in _readable(_lines(path), read)]


def mended_lines(path: Path, read: Callable[[bytes], Item]) -> list[Item]:
    """Return what can be read of the lines of one's own file, and leave just that in it.

    A last line that a crash cut short was told to nobody, and is cut off. Any other is damage: a copy of
    the file is kept aside.
    """
    lines = _lines(path)
    found = _readable(lines, read)
    if len(found) < len(lines):
        aside = set_aside(path)
        done = f"{len(found)} of {len(lines)} lines go on; the file is kept as {aside.name}"
        tell_damaged(path, f"{len(lines) - len(found)} lines cannot be read", done)
    whole = b"".join(line + b"\n" for line, _ in found)
    if path.exists() and path.read_bytes() != whole:
        write_whole(path, whole)
    return [item for _, item in found]


def _lines(path: Path) -> list[bytes]:
    """Return the lines that end."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def _readable(lines: list[bytes], read: Callable[[bytes], Item]) -> list[tuple[bytes, Item]]:
    found = []
    for line in lines:
        with suppress(Malformed, *UNREADABLE):
            found.append((line, read(line)))
    return found
