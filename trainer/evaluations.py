"""The folder that a trainer shares with its evaluator: weights that wait, and findings.

    00000005.waiting     published weights, to be measured
    00000005.measuring   the same, while the evaluator is at it
    held_out.jsonl       one finding a line, naming its version

The names are the whole state, so either side may be killed at any time: the next evaluator takes up
what the last one left. The trainer adds versions and removes superseded ones: at most the start (version
0, which all others are compared with) and the newest version wait. So the last one is always measured.
No torch here: the live view reads this too.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from local.files import numbered, read_lines, tell_damaged, write_whole
from protocol.policies import patch
from protocol.policies.manifest import Weights

WAITING, MEASURING = ".waiting", ".measuring"


def superseded(waiting: list[int]) -> list[int]:
    """Return the waiting versions that need no measurement any more."""
    return [version for version in waiting if 0 < version < max(waiting)]


@dataclass(frozen=True, slots=True)
class Evaluations:
    """One run's evaluations on the trainer's disk."""

    folder: Path

    def put(self, version: int, weights: Weights) -> None:
        """Have a version measured, unless it is or was already: published weights never change."""
        self.folder.mkdir(parents=True, exist_ok=True)
        done = {finding["version"] for finding in self.findings()}
        if version in done or self._path(version, MEASURING).exists():
            return
        write_whole(self._path(version, WAITING), patch.anchor_bytes(weights))
        for old in superseded(self.waiting()):
            self._path(old, WAITING).unlink(missing_ok=True)  # or the evaluator has just taken it

    def waiting(self) -> list[int]:
        return self._versions(WAITING)

    def measuring(self) -> list[int]:
        """Return the version being measured, if any; a killed evaluator leaves its version here."""
        return self._versions(MEASURING)

    def unfinished(self) -> list[int]:
        """Return the versions that are not measured yet."""
        return sorted({*self.measuring(), *self.waiting()})

    def findings(self) -> list[dict[str, Any]]:
        """Return the whole lines so far."""
        return read_lines(self._lines, _finding)

    @contextmanager
    def take(self) -> Iterator[tuple[int, bytes] | None]:
        """Lend the first version that is to be measured, with its anchor; None if there is none."""
        done = {finding["version"] for finding in self.findings()}
        for version in self.unfinished():
            measuring = self._path(version, MEASURING)
            if not measuring.exists():
                try:
                    self._path(version, WAITING).rename(measuring)
                except FileNotFoundError:
                    continue  # superseded since it was listed
            if version not in done:
                yield version, measuring.read_bytes()
            measuring.unlink()
            if version not in done:
                return
        yield None

    def append(self, file: IO[bytes], finding: Mapping[str, Any]) -> None:
        """Add a line to the findings."""
        file.write(json.dumps(finding, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())

    @contextmanager
    def writing(self) -> Iterator[IO[bytes]]:
        """Lend the findings file to one evaluator at a time; cut a half line that a killed one left."""
        import fcntl

        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lines.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            data = file.read()
            file.truncate(data.rfind(b"\n") + 1)
            if odd := data.count(b"\n") - len(self.findings()):
                tell_damaged(self._lines, f"{odd} lines cannot be read", "they are passed over")
            yield file

    @property
    def _lines(self) -> Path:
        return self.folder / "held_out.jsonl"

    def _path(self, version: int, suffix: str) -> Path:
        return self.folder / f"{version:08d}{suffix}"

    def _versions(self, suffix: str) -> list[int]:
        return list(numbered(self.folder, "", suffix))


def _finding(line: bytes) -> dict[str, Any]:
    finding: dict[str, Any] = json.loads(line)
    return {"version": int(finding["version"]), **finding}
