"""Inputs that are kept, one a line in hexadecimal, in a file for each decoder.

`seeds/` is made by `seeds.py`, `found/` has what a campaign saw reach new code, and `crashes/` what once broke a
decoder: nothing is taken out of there.
"""

from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
SEEDS, FOUND, CRASHES = (HERE / name for name in ("seeds", "found", "crashes"))
MOST_FOUND = 24
MOST_BYTES = 512
"""Of one that was found: seeds hold what long inputs are like."""


def names() -> list[str]:
    """Return the decoders that have inputs."""
    return sorted(path.stem for path in SEEDS.glob("*.txt"))


def inputs(name: str) -> list[bytes]:
    """Return what is kept for a decoder."""
    return [data for folder in (SEEDS, FOUND, CRASHES) for data in _read(folder, name)]


def seed(name: str, seeds: Iterable[bytes]) -> None:
    """Take these for a decoder's seeds."""
    _write(SEEDS, name, seeds)


def find(name: str, found: Iterable[bytes]) -> None:
    """Keep the shortest of what reached new code."""
    short = {data for data in found if 0 < len(data) <= MOST_BYTES} - set(inputs(name))
    both = [*_read(FOUND, name), *short]
    _write(FOUND, name, sorted(both, key=lambda data: (len(data), data))[:MOST_FOUND])


def _read(folder: Path, name: str) -> list[bytes]:
    path = folder / f"{name}.txt"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return [bytes.fromhex(line) for line in lines]


def _write(folder: Path, name: str, inputs: Iterable[bytes]) -> None:
    folder.mkdir(exist_ok=True)
    lines = sorted({data.hex() for data in inputs}, key=lambda line: (len(line), line))
    (folder / f"{name}.txt").write_text("\n".join(lines) + "\n" if lines else "", "utf-8")
