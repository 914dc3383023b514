"""One process for one folder: two would overwrite each other's totals, receipts and checkpoints."""

import fcntl
import os
from pathlib import Path
from typing import Any, TextIO

from protocol.user_error import UserError

OWN = ("data_dir", "work_dir")
"""Settings that name a process's own folder."""
FILE = "lock"
ROOM = "look at its rights and at the room left there"


def hold(settings: Any) -> TextIO | None:
    """Hold the folder that a role's settings name, for as long as what is returned stays open.

    Raises `UserError` naming the process that holds it. A process that was killed holds nothing.
    """
    name = next((name for name in OWN if hasattr(settings, name)), None)
    return None if name is None else hold_folder(getattr(settings, name), name)


def hold_folder(folder: Path, setting: str) -> TextIO:
    """Hold a folder; `setting` is what chose it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / FILE).open("a+")
    except OSError as error:
        raise UserError(
            f"{setting} {folder} cannot be written: {error.strerror}: {ROOM}"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise UserError(
            f"{folder} is in use by process {holder}: stop that one, or give this one a folder of its own "
            f"with {setting if setting.startswith('--') else f'--set {setting}=…'}"
        ) from error
    try:
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), str(os.getpid()).encode())
    except OSError as error:
        file.close()
        raise UserError(
            f"{setting} {folder} cannot be written: {error.strerror}: {ROOM}"
        ) from error
    return file
