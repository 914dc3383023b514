"""The table of forms in the documents says what the scorers do."""

import json
import re
from pathlib import Path

import pytest

from protocol.environments.answers import INSTRUCTION
from protocol.environments.base import FULL_SCORE, Problem
from protocol.environments.generated import Generated
from protocol.environments.gsm8k import Gsm8k
from tests.environments.forms import written

PAGE = Path(__file__).parents[2] / "protocol/environments/answers.md"

QUESTIONS = {
    "e6": f"convert the base-6 number 1022 to hexadecimal\n{INSTRUCTION}\n",
    "12043": f"convert the hexadecimal number 382 to base-5\n{INSTRUCTION}\n",
}


def rows() -> list[tuple[str, str, str, int]]:
    """Return scorer, completion, gold and marks of every cell of the page's tables."""
    found, scorers = [], []
    for line in PAGE.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[:1] == ["completion"]:
            scorers = [re.findall(r"`(\w+)`", cell) for cell in cells[2:]]
        elif cells and cells[0].startswith("`"):
            for names, marks in zip(scorers, cells[2:], strict=True):
                found += [(name, spanned(cells[0]), cells[1], int(marks)) for name in names]
    return found


def spanned(cell: str) -> str:
    """Return what a code span of a table holds."""
    span = cell.strip("`").removesuffix(" ") if cell.startswith("``") else cell[1:-1]
    return written(span.replace("\\|", "|"))


@pytest.fixture(scope="module")
def scorers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Gsm8k | Generated]:
    path = tmp_path_factory.mktemp("gsm8k") / "rows.jsonl"
    path.write_text(json.dumps({"question": "?", "answer": "#### 1"}))
    generated = {name: Generated(name, {}) for name in ("chain_sum", "gcd", "base_conversion")}
    return {"gsm8k": Gsm8k({"path": str(path)}), **generated}


def test_the_tables_are_read_whole() -> None:
    assert len(rows()) > 550
    assert {row[0] for row in rows()} == {"gsm8k", "chain_sum", "gcd", "base_conversion"}
    for scorer in ("gsm8k", "gcd", "base_conversion"):
        assert {marks for name, *_, marks in rows() if name == scorer} == {0, 1}


@pytest.mark.parametrize(("scorer", "completion", "gold", "marks"), rows())
def test_a_form_earns_what_its_row_says(
    scorers: dict[str, Gsm8k | Generated], scorer: str, completion: str, gold: str, marks: int
) -> None:
    problem = Problem(QUESTIONS.get(gold, ""), gold, "")
    assert scorers[scorer].score(problem, completion) == marks * FULL_SCORE
