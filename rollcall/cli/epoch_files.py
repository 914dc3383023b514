"""Read a claim's epoch files from an orchestrator, or from a file or folder that somebody kept."""

from collections.abc import Iterable
from pathlib import Path

from client.public import Reader
from protocol.errors import MarketError
from protocol.messages import EpochFile
from protocol.user_error import UserError
from rollcall.cli.desk import Desk

MOST_FILE_BYTES = 1 << 30
"""More than the largest epoch file: a bigger file is something else."""


def from_orchestrator(desk: Desk, url: str) -> Iterable[EpochFile]:
    """Yield the newest final epoch's file of every run that an orchestrator serves."""
    with Reader(url) as reader:
        for info in reader.runs():
            num_final = desk.run(info.run_id).num_final
            if num_final == 0:
                desk.say(f"run {info.run_id}: no epoch is final yet")
                continue
            newest = reader.epoch(info.run_id, num_final - 1).file
            yield EpochFile.from_canonical(reader.blob(newest))


def from_market(desk: Desk, url: str, kept: Path | None) -> Iterable[EpochFile]:
    """Return an orchestrator's files or, if it does not answer, those that this worker kept."""
    try:
        return list(from_orchestrator(desk, url))
    except UserError as error:
        if kept is None or not kept.is_dir():
            raise
        desk.say(f"{error}; claiming from what is kept in {kept}")
        return from_files(desk, kept)


def from_files(desk: Desk, path: Path) -> Iterable[EpochFile]:
    """Yield the epoch files at `path`, a file or a folder of them."""
    if not path.exists():
        raise UserError(f"no epoch file at {path}: a worker keeps them in <data_dir>/epochs")
    if path.is_file():
        yield _read(path)
        return
    for item in sorted(path.iterdir()):
        if not item.is_file():
            continue
        try:
            yield _read(item)
        except UserError as error:
            desk.say(f"left out: {error}")


def _read(path: Path) -> EpochFile:
    if path.stat().st_size > MOST_FILE_BYTES:
        raise UserError(f"{path} is too large for an epoch file")
    try:
        return EpochFile.from_canonical(path.read_bytes())
    except (MarketError, ValueError) as error:
        raise UserError(f"{path} is no epoch file: {error}") from error
