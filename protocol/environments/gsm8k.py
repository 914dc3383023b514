"""GSM8K word problems (arXiv:2110.14168) from a local file or a pinned data set.

An answer is compared by its value, and arithmetic as `36/2` is an answer too. The digest covers the rows themselves, so a file and a download of the same rows
are the same environment. Left out: judging the reasoning before the answer.
"""

import json
from fractions import Fraction
from pathlib import Path

from protocol.canonical import content_digest, encode
from protocol.environments import answers
from protocol.environments.answers import ANSWER_LINE, INSTRUCTION, is_number
from protocol.environments.base import (
    FULL_SCORE,
    Config,
    Problem,
    environment_digest,
    with_defaults,
)
from protocol.environments.numerals import number
from protocol.errors import Malformed, NotFound

NAME = "gsm8k"
DEFAULTS: Config = {"path": "", "dataset": "openai/gsm8k", "revision": "", "split": "train"}
Rows = list[tuple[str, str]]
MOST_FILE_BYTES = 64 << 20
"""An operator names the file, and every party of its run reads it; the real rows have 5 MB."""


class Gsm8k:
    """Rows of `path`, a JSONL file, or else of `dataset` at the commit `revision`."""

    def __init__(self, config: Config) -> None:
        settings = with_defaults(config, DEFAULTS)
        self._rows = (
            _file_rows(Path(str(settings["path"])))
            if settings["path"]
            else _hub_rows(
                str(settings["dataset"]), str(settings["revision"]), str(settings["split"])
            )
        )
        self._golds = [_gold(answer) for _, answer in self._rows]
        self._digest = environment_digest(
            NAME,
            {},
            sources=(__file__, *answers.SOURCES),
            extra=content_digest(encode([list(row) for row in self._rows])),
        )

    @property
    def name(self) -> str:
        return NAME

    @property
    def digest(self) -> bytes:
        return self._digest

    @property
    def num_problems(self) -> int | None:
        return len(self._rows)

    def problem(self, index: int) -> Problem:
        if not 0 <= index < len(self._rows):
            raise IndexError(f"index {index} is outside the {len(self._rows)} rows")
        question, solution = self._rows[index]
        return Problem(f"{question}\n{INSTRUCTION}\n", self._golds[index], solution)

    def score(self, problem: Problem, completion: str) -> int:
        return FULL_SCORE if is_number(completion, Fraction(problem.gold), expressions=True) else 0


def _gold(answer: str) -> str:
    gold = number(answer.rpartition(ANSWER_LINE)[2].strip())
    if gold is None:
        raise Malformed(f"row ends in {answer[-40:]!r}; it must end in '{ANSWER_LINE} <number>'")
    return str(gold)


def _file_rows(path: Path) -> Rows:
    """Read JSON lines; `splitlines` would also split at U+2028 inside a question."""
    rows: Rows = []
    for at, line in enumerate(_file_text(path).split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
                rows.append((str(row["question"]), str(row["answer"])))
                "".join(rows[-1]).encode()  # half of a pair of surrogates is no text
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise Malformed(f"{path} line {at} is no question and answer: {error}") from error
    return rows


def _file_text(path: Path) -> str:
    """Read at most `MOST_FILE_BYTES`, whatever size a file says that it has."""
    if not path.is_file():
        raise NotFound(f"path = {str(path)!r} is no file; give a JSONL file or a revision")
    with path.open("rb") as file:
        data = file.read(MOST_FILE_BYTES + 1)
    if len(data) > MOST_FILE_BYTES:
        raise Malformed(f"{path} has more than {MOST_FILE_BYTES} bytes: give a file of fewer rows")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"{path} is no UTF-8 text at byte {error.start}") from error


def _hub_rows(dataset: str, revision: str, split: str) -> Rows:
    """Download at a full commit: a branch or tag may move, and with it every reward."""
    if len(revision) != 40 or not set(revision) <= set("0123456789abcdef"):
        raise Malformed(
            f"revision = {revision!r} must be a full commit of {dataset}; "
            "or give `path`, a local JSONL file with question and answer in each line"
        )
    from datasets import load_dataset

    rows = load_dataset(dataset, "main", revision=revision, split=split)
    return [(row["question"], row["answer"]) for row in rows]
