"""Seed bugs into the contracts, one at a time, and see whether Forge's tests catch each.

`python -m contracts.tools.mutants [--write] [--only WORD]`. Works in scratch copies of this folder; needs
what `make contracts` needs. The bugs are in `mutations.toml`. Exits 1 when one survives. With --write, the
table becomes `contracts/MUTANTS.md`. A test suite that misses a bug here would miss the same bug in earnest.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from contracts.tools.build import forge

HERE = Path(__file__).parents[1]
BUGS = HERE / "mutations.toml"
PAGE = HERE / "MUTANTS.md"
PARTS = ("src", "test", "forge", "foundry.toml", "solc")
NUM_COPIES = 2
FAILURE = re.compile(r"^\[FAIL.*\] (\w+)\(", re.MULTILINE)
PASSED = re.compile(r"^Ran \d+ test suites? in .* tests passed, 0 failed, ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mutation:
    """One seeded bug: `old`, which stands once in the source, becomes `new`.

    `suite` names the Forge contracts that run first; the others run on each bug that these let live.
    """

    source: str
    suite: str
    what: str
    old: str
    new: str = ""

    @property
    def path(self) -> str:
        """Where it is applied, from `contracts/`."""
        return f"src/{self.source}.sol"


def mutations() -> list[Mutation]:
    """Return every bug of `mutations.toml`."""
    return [Mutation(**bug) for bug in tomllib.loads(BUGS.read_text("utf-8"))["mutation"]]


class MutationError(Exception):
    """A mutation that says nothing: it does not fit the source, or makes no valid program."""


@dataclass(frozen=True, slots=True)
class MutantOutcome:
    """What became of one mutation; `killer` is the first test that failed, None if none did."""

    mutation: Mutation
    killer: str | None


class Copy:
    """A scratch copy of the contracts with its own build cache."""

    def __init__(self, folder: Path, executable: Path) -> None:
        self.folder, self.executable = folder, executable
        for part in PARTS:
            source = HERE / part
            if source.is_dir():
                shutil.copytree(source, folder / part)
            else:
                shutil.copy2(source, folder / part)
        (folder / "node_modules").symlink_to(HERE / "node_modules")

    def forge(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Forge here, with build outputs that no other copy shares."""
        places = {
            "FOUNDRY_OUT": "out",
            "FOUNDRY_CACHE_PATH": "cache",
            "FOUNDRY_FUZZ_FAILURE_PERSIST_DIR": "failures",
            "FOUNDRY_INVARIANT_FAILURE_PERSIST_DIR": "failures",
        }
        settings = {name: str(self.folder / place) for name, place in places.items()}
        # A failure is enough; finding the shortest one takes minutes.
        settings["FOUNDRY_INVARIANT_SHRINK_RUN_LIMIT"] = "0"
        return subprocess.run(
            [self.executable, *arguments],
            cwd=self.folder,
            env=os.environ | settings,
            capture_output=True,
            text=True,
            check=False,
        )

    def killer(self, suite: str) -> str | None:
        """Return the first test of `suite` that fails, or None when all pass."""
        done = self.forge("test", "--fail-fast", "--match-contract", suite)
        if failed := FAILURE.search(done.stdout):
            return failed.group(1)
        if done.returncode == 0 and PASSED.search(done.stdout):
            return None
        raise MutationError((done.stdout + done.stderr)[-3000:])

    @contextmanager
    def seeded(self, mutation: Mutation) -> Iterator[None]:
        """Hold the copy with this bug in it."""
        path = self.folder / mutation.path
        sound = path.read_text("utf-8")
        path.write_text(mutated(sound, mutation), "utf-8")
        try:
            yield
        finally:
            path.write_text(sound, "utf-8")


def mutated(text: str, mutation: Mutation) -> str:
    """Return the source with the bug in it."""
    if (count := text.count(mutation.old)) != 1:
        raise MutationError(f"{mutation.path} has {count} times, not once: {mutation.old}")
    return text.replace(mutation.old, mutation.new)


def outcome(copy: Copy, mutation: Mutation) -> MutantOutcome:
    """Run the tests of its suite and, if it survives them, all tests."""
    with copy.seeded(mutation):
        fitting = "|".join(f"{name}Test" for name in mutation.suite.split())
        return MutantOutcome(mutation, copy.killer(fitting) or copy.killer(".*"))


def outcomes(mutations: Sequence[Mutation]) -> Iterator[MutantOutcome]:
    """Yield what becomes of each mutation, in order, two at a time."""
    executable = forge()
    if executable is None:
        raise MutationError("no Forge: run make contracts/node_modules/.ready")
    with tempfile.TemporaryDirectory() as scratch:
        copies: SimpleQueue[Copy] = SimpleQueue()
        first = Copy(Path(scratch) / "0", executable)
        if killer := first.killer(".*"):
            raise MutationError(f"{killer} fails without any mutation")
        copies.put(first)
        for number in range(1, NUM_COPIES):
            # Share the first copy's compiled code: a mutation then recompiles only what it touches.
            copies.put(_twin(first, Path(scratch) / str(number)))

        def attempt(mutation: Mutation) -> MutantOutcome:
            copy = copies.get()
            try:
                return outcome(copy, mutation)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(NUM_COPIES) as pool:
            yield from pool.map(attempt, mutations)


def _twin(first: Copy, folder: Path) -> Copy:
    twin = Copy(folder, first.executable)
    for built in ("out", "cache"):
        shutil.copytree(first.folder / built, folder / built)
    return twin


def page(results: Sequence[MutantOutcome]) -> str:
    """Return the text of MUTANTS.md."""
    killed = sum(result.killer is not None for result in results)
    rows = [
        f"| `{result.mutation.source}` | {result.mutation.what} | "
        f"{f'`{result.killer}`' if result.killer else '**survived**'} |"
        for result in results
    ]
    return "\n".join(
        [
            "# Mutants",
            "",
            f"{len(results)} seeded bugs of `mutations.toml`, one at a time, {killed} caught by Forge's tests. "
            "Written by `make contracts-mutants`.",
            "",
            "| source | what goes wrong | caught first by |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> None:
    """Print the table; with --write make it MUTANTS.md; exit 1 if a bug survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="rewrite MUTANTS.md")
    parser.add_argument("--only", default="", help="only mutations whose words contain this")
    options = parser.parse_args()
    chosen = [m for m in mutations() if options.only in f"{m.source} {m.what}"]
    results = []
    for result in outcomes(chosen):
        results.append(result)
        print(f"{result.mutation.source}: {result.mutation.what}: {result.killer}", flush=True)
    if options.write:
        PAGE.write_text(page(results), "utf-8")
    if survivors := [result.mutation.what for result in results if result.killer is None]:
        sys.exit(f"{len(survivors)} survived: {'; '.join(survivors)}")


if __name__ == "__main__":
    main()
