"""What the lab's models are asked: sums, or for the model that can read, word problems in a chat.

GSM8K's own problems come from a file of its format (`--gsm8k`). Without one a few problems of our own
stand in for them, with other numbers each time, so that the lab needs no download.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from protocol.environments.arithmetic import Arithmetic
from protocol.environments.base import Draws, Environment, Problem
from protocol.environments.gsm8k import Gsm8k

NUM_OWN_PROBLEMS = 2_048

_OWN: tuple[tuple[str, str, int], ...] = (
    (
        "Mia packs {a} boxes with {b} apples each and gives {c} apples away. How many are left?",
        "She packs {a} × {b} apples and keeps {n}.",
        -1,
    ),
    (
        "A train has {a} cars with {b} seats each. {c} more seats stand in the dining car. "
        "How many seats does the train have?",
        "There are {a} × {b} seats in the cars, and with the dining car {n}.",
        +1,
    ),
    (
        "Tom saves {a} dollars a week for {b} weeks. He already had {c} dollars. How much has he now?",
        "He saves {a} × {b} dollars and has {n}.",
        +1,
    ),
    (
        "A farmer fills {a} crates with {b} eggs each, and {c} eggs break. How many whole eggs are there?",
        "Of {a} × {b} eggs {n} stay whole.",
        -1,
    ),
)
"""Question, solution, and whether c is added to a × b or taken from it."""


@dataclass(frozen=True, slots=True)
class Task:
    """An environment, and how long its completions and contexts may get."""

    environment: Environment
    max_tokens: int
    max_model_len: int
    kv_cache_mib: int


def sums() -> Task:
    return Task(Arithmetic({}), max_tokens=64, max_model_len=128, kv_cache_mib=256)


def word_problems(gsm8k: Path | None, cache: Path) -> Task:
    """Return GSM8K's problems, or our own without a file; the longest question has 188 tokens."""
    path = gsm8k or _own_problems(cache / "word_problems.jsonl")
    return Task(
        InChat(Gsm8k({"path": str(path)})), max_tokens=128, max_model_len=384, kv_cache_mib=1_024
    )


class InChat:
    """An environment whose prompts are a user's turn in ChatML, and whose completions answer it."""

    def __init__(self, asked: Environment) -> None:
        self._asked = asked
        self.name = asked.name
        self.digest = asked.digest
        self.num_problems = asked.num_problems
        self.agreed_config = asked.agreed_config

    def problem(self, index: int) -> Problem:
        asked = self._asked.problem(index)
        turn = f"<|im_start|>user\n{asked.prompt.strip()}<|im_end|>\n<|im_start|>assistant\n"
        return Problem(turn, asked.gold, asked.solution)

    def score(self, problem: Problem, completion: str) -> int:
        return self._asked.score(problem, completion)


def _own_problems(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    draws = Draws(b"rollcall/attacks/word-problems")
    lines = []
    for i in range(NUM_OWN_PROBLEMS):
        question, solution, sign = _OWN[i % len(_OWN)]
        a, b, c = draws.between(3, 12), draws.between(4, 20), draws.between(2, 11)
        numbers = {"a": a, "b": b, "c": c, "n": a * b + sign * c}
        answer = solution.format(**numbers) + f"\n#### {numbers['n']}"
        lines.append(json.dumps({"question": question.format(**numbers), "answer": answer}))
    path.write_text("\n".join(lines) + "\n")
    return path
