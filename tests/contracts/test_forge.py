"""The contracts' own tests: they pass, and MUTANTS.md lists every bug that is seeded for them."""

import os
import re
import subprocess

import pytest

from contracts.tools.build import HERE, can_compile, forge
from contracts.tools.mutants import (
    PAGE,
    MutantOutcome,
    Mutation,
    MutationError,
    mutated,
    mutations,
    page,
)
from contracts.tools.slither import excuses_without_reason


@pytest.mark.parametrize("mutation", mutations(), ids=lambda m: f"{m.source}: {m.what}")
def test_every_seeded_bug_fits_the_source(mutation: Mutation) -> None:
    source = (HERE / mutation.path).read_text("utf-8")
    assert mutated(source, mutation) != source
    assert all((HERE / "forge" / f"{name}.t.sol").exists() for name in mutation.suite.split())


def test_a_bug_that_fits_nowhere_or_twice_is_an_error() -> None:
    mutation = Mutation("Council", "Powers", "nothing", "once")
    for source in ("", "once once"):
        with pytest.raises(MutationError, match="not once"):
            mutated(source, mutation)


def test_the_page_names_the_test_that_catches_every_seeded_bug() -> None:
    written = PAGE.read_text("utf-8")
    killers = re.findall(r"^\| `\w+` \| .* \| `(test\w+)` \|$", written, re.MULTILINE)
    assert written == page(
        [MutantOutcome(*pair) for pair in zip(mutations(), killers, strict=True)]
    )
    tests = "".join(path.read_text("utf-8") for path in HERE.glob("forge/*.t.sol"))
    assert [name for name in killers if f"function {name}(" not in tests] == []


def test_a_bug_that_survives_is_marked() -> None:
    survivor = Mutation("Council", "Powers", "nothing", "once")
    assert "1 seeded bugs" in page([MutantOutcome(survivor, None)])
    assert "| `Council` | nothing | **survived** |" in page([MutantOutcome(survivor, None)])


def test_no_detector_is_silenced_without_a_reason() -> None:
    for path in HERE.glob("src/**/*.sol"):
        assert not excuses_without_reason(path.read_text("utf-8")), path


def test_an_excuse_without_a_reason_is_found() -> None:
    silent = "// slither-disable-next-line unused-return"
    assert excuses_without_reason(f"a\n{silent}\n{silent} -- said why\n") == [2]


QUICK = {"FUZZ_RUNS": "32", "INVARIANT_RUNS": "4", "INVARIANT_DEPTH": "100"}
"""Seconds instead of minutes; `make contracts` draws more."""


@pytest.mark.skipif(forge() is None or not can_compile(), reason="needs Node and its packages")
def test_forges_tests_pass() -> None:
    executable = forge()
    assert executable is not None
    environment = os.environ | {f"FOUNDRY_{name}": value for name, value in QUICK.items()}
    done = subprocess.run(
        [executable, "test"], cwd=HERE, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert re.search(r"^Ran \d+ test suites .* 0 failed, 0 skipped", done.stdout, re.MULTILINE)
