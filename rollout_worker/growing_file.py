"""Append to a file that only grows, whole or not at all: what stands after a torn record cannot be read."""

from pathlib import Path

from protocol.user_error import UserError


class NotWritten(UserError):
    """A record did not fit; the file holds what it held."""


def append(path: Path, data: bytes) -> None:
    """Append bytes; raise `NotWritten`, with nothing of them in the file, where they do not fit."""
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
