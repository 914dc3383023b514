"""Sums of two or three terms, worked column by column before the answer.

Small enough for a model of half a million parameters, with a reward that needs no parsing: the
answer is the exact string after the only `#`. Left out: partial credit for right columns.
"""

from collections.abc import Mapping, Sequence

from protocol.environments.base import (
    FULL_SCORE,
    INDEX_LIMIT,
    Config,
    Draws,
    Problem,
    environment_digest,
    integer_setting,
    item_seed,
    with_defaults,
)

NAME = "arithmetic"
DEFAULTS: Config = {"seed": 0, "smallest_term": 10, "largest_term": 99, "three_term_percent": 20}
ANSWER_MARK = "#"


class Arithmetic:
    """Sums with terms from `smallest_term` to `largest_term`; some of them have three terms.

    `seed` only tells one run's problems from another's: like all settings it enters every item.
    """

    def __init__(self, config: Config) -> None:
        self.config = with_defaults(config, DEFAULTS)
        integer_setting(self.config, "seed", low=0, high=INDEX_LIMIT - 1)
        self._smallest = integer_setting(self.config, "smallest_term", low=0, high=10**9)
        self._largest = integer_setting(self.config, "largest_term", low=self._smallest, high=10**9)
        self._three_term_percent = integer_setting(
            self.config, "three_term_percent", low=0, high=100
        )
        self._digest = environment_digest(NAME, self.config, sources=(__file__,))

    @property
    def name(self) -> str:
        return NAME

    @property
    def digest(self) -> bytes:
        return self._digest

    @property
    def num_problems(self) -> int | None:
        return None

    def terms(self, index: int) -> tuple[int, ...]:
        """Return the terms of one sum."""
        draws = Draws(item_seed(NAME, self.config, index))
        count = 3 if draws.below(100) < self._three_term_percent else 2
        return tuple(draws.between(self._smallest, self._largest) for _ in range(count))

    def problem(self, index: int) -> Problem:
        terms = self.terms(index)
        return Problem(prompt(terms), str(sum(terms)), worked_solution(terms, slips={}))

    def score(self, problem: Problem, completion: str) -> int:
        """Pay the exact answer after the only mark; a list of guesses earns nothing."""
        _, mark, answer = completion.partition(ANSWER_MARK)
        return FULL_SCORE if mark and answer == problem.gold else 0


def prompt(terms: Sequence[int]) -> str:
    """Return the question for these terms."""
    return "+".join(map(str, terms)) + "=?"


def worked_solution(terms: Sequence[int], *, slips: Mapping[int, int]) -> str:
    """Add the terms column by column, from the ones, and give the answer after the mark.

    Each column is a running sum, `7+8=15`, or `4+3=7+1=8` with a carry: every step is the sum of
    two numbers, which is what a tiny model can learn. `slips` adds an error to the total of a
    column; everything after it stays consistent with it, as in a pupil's work.
    """
    width = max(len(str(term)) for term in terms)
    carry = 0
    columns: list[str] = []
    answer = ""
    for column in range(width):
        digits = [term // 10**column % 10 for term in terms if len(str(term)) > column]
        addends = [*digits, carry] if carry else digits
        total = sum(addends) + slips.get(column, 0)
        columns.append(_running_sum(addends, total))
        carry, ones = divmod(total, 10)
        answer = (str(total) if column == width - 1 else str(ones)) + answer
    return ",".join(columns) + ANSWER_MARK + answer


def _running_sum(addends: Sequence[int], total: int) -> str:
    """Write one column; `total` stands last, whatever the addends come to."""
    text = str(addends[0])
    running = addends[0]
    for addend in addends[1:-1]:
        running += addend
        text += f"+{addend}={running}"
    return text + (f"+{addends[-1]}" if len(addends) > 1 else "") + f"={total}"
