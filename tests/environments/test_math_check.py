"""The killable child: what it decides, and that nothing a stranger sends outlives its deadline."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.environments.base import Undecidable
from protocol.environments.math_check import MathCheck

BOMB = "9^{9^{9^{9}}}"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def check() -> Iterator[MathCheck]:
    check = MathCheck()
    yield check
    check.close()


@pytest.mark.parametrize(
    ("answer", "equal"),
    [
        ("36/2", True),
        ("\\frac{36}{2}", True),
        ("3 \\cdot 6", True),
        ("\\sqrt{324}", True),
        ("x = 18", True),
        ("18\\text{ eggs}", True),
        ("37/2", False),
        ("17 or 18", False),
        ("\\{17, 18\\}", False),
        ("[17, 19]", False),
        ("x < 19", False),
        ("35.99999999999/2", False),
    ],
)
def test_expressions_are_compared_by_value(check: MathCheck, answer: str, equal: bool) -> None:
    assert check.equal("18", answer) is equal


def test_a_bomb_never_ends_without_the_deadline() -> None:
    program = (
        "from protocol.environments.math_check import _equal; import sys; _equal(*sys.argv[1:])"
    )
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-c", program, "18", BOMB], cwd=ROOT, timeout=3, check=True)


def test_a_bomb_is_undecidable_at_the_deadline_and_the_next_answer_is_judged() -> None:
    check = MathCheck(deadline_seconds=5.0)
    assert check.equal("18", "36/2") is True
    assert isinstance(check.equal("18", BOMB), Undecidable)
    assert check.equal("18", "36/2") is True
    check.close()


def test_a_child_that_was_killed_is_started_again() -> None:
    check = MathCheck()
    assert check.equal("18", "36/2") is True
    assert check._child is not None
    check._child.kill()
    check._child.wait()
    assert check.equal("18", "37/2") is False
    check.close()


def test_closing_leaves_no_process() -> None:
    check = MathCheck()
    assert check.equal("18", "36/2") is True
    assert check._child is not None
    pid = check._child.pid
    check.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_fork_uses_a_child_of_its_own() -> None:
    """Sharing the parent's pipes would hand one process the answer to another's question."""
    check = MathCheck()
    assert check.equal("18", "36/2") is True
    pid = os.fork()
    if pid == 0:
        os._exit(0 if check.equal("18", "37/2") is False else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert check.equal("18", "36/2") is True
    check.close()


def test_code_in_an_answer_is_not_run(check: MathCheck, tmp_path: Path) -> None:
    target = tmp_path / "written"
    attack = f"open('{target}', 'w').close()"
    eval(attack)  # noqa: S307 - the attack works where an answer is evaluated
    assert target.exists()
    target.unlink()
    for wrapped in (attack, f"1 + {attack}", f"\\text{{{attack}}}", f"$ {attack} $"):
        assert check.equal("18", wrapped) is not True
    assert not target.exists()
