"""Sums of two or three terms, worked column by column before the answer.

Small enough for a model of half a million parameters, with a reward that needs no parsing: the
answer is the exact string after the only `#`. There are only 8,100 two-term sums, so leases
come to cover them all; were held-out problems told apart by index alone, accuracy on them would
partly be memory of leased ones. One sum in eight is therefore held out by what it is: indices from
`HELD_OUT_START` on give only those, lower ones never do. Left out: partial credit for right
columns, and which indices a run leases (its spec says; it must respect `HELD_OUT_START`).
"""

from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement

from protocol.canonical import content_digest, encode
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
from protocol.errors import Malformed

NAME = "arithmetic"
DEFAULTS: Config = {"seed": 0, "smallest_term": 10, "largest_term": 99, "three_term_percent": 20}
ANSWER_MARK = "#"

HELD_OUT_START = 2**32
"""Indices from here on give held-out sums, and no index below it does."""

HELD_OUT_BUCKETS = 8
"""One of so many hash buckets is held out: some 500 two-term sums to measure on by default, and
seven eighths of all sums left to learn from. Changing it changes every run's problems."""

NUM_SEARCHED_TERMS = 32
"""How many of the smallest terms are searched for a sum on either side: 528 pairs, which all lie
on one side with a chance of 1e-30. Fewer terms than that are searched exhaustively."""


class Arithmetic:
    """Sums with terms from `smallest_term` to `largest_term`; some of them have three terms.

    `seed` only tells one run's problems from another's: like all settings it enters every item.
    It does not move a sum between the leased and the held-out side, nor does the order of terms,
    so a model trained on one run's leases has not seen another run's held-out sums either.
    `Malformed` where the terms are so few that one of the sides would be empty.
    """

    def __init__(self, config: Config) -> None:
        self.config = with_defaults(config, DEFAULTS)
        integer_setting(self.config, "seed", low=0, high=INDEX_LIMIT - 1)
        self._smallest = integer_setting(self.config, "smallest_term", low=0, high=10**9)
        self._largest = integer_setting(self.config, "largest_term", low=self._smallest, high=10**9)
        self._three_term_percent = integer_setting(
            self.config, "three_term_percent", low=0, high=100
        )
        self._require_both_sides()
        self._digest = environment_digest(NAME, self.config, sources=(__file__,))

    @property
    def name(self) -> str:
        return NAME

    @property
    def digest(self) -> bytes:
        return self._digest

    @property
    def agreed_config(self) -> Config:
        return self.config

    @property
    def num_problems(self) -> int | None:
        return None

    def terms(self, index: int) -> tuple[int, ...]:
        """Return the terms of one sum, from the side of the split that the index asks for.

        They are drawn again until they lie on that side, which the constructor has found to have
        sums of either length: eight draws on average for a held-out index. Their number is drawn
        once, so `three_term_percent` holds on both sides.
        """
        draws = Draws(item_seed(NAME, self.config, index))
        count = 3 if draws.below(100) < self._three_term_percent else 2
        while True:
            terms = tuple(draws.between(self._smallest, self._largest) for _ in range(count))
            if is_held_out(terms) == (index >= HELD_OUT_START):
                return terms

    def problem(self, index: int) -> Problem:
        terms = self.terms(index)
        return Problem(prompt(terms), str(sum(terms)), worked_solution(terms, slips={}))

    def score(self, problem: Problem, completion: str) -> int:
        """Pay the exact answer after the only mark; a list of guesses earns nothing."""
        _, mark, answer = completion.partition(ANSWER_MARK)
        return FULL_SCORE if mark and answer == problem.gold else 0

    def _require_both_sides(self) -> None:
        """Refuse terms that give no leased or no held-out sum: its draws would never end."""
        searched = range(
            self._smallest, min(self._largest + 1, self._smallest + NUM_SEARCHED_TERMS)
        )
        counts = [2] if self._three_term_percent < 100 else []
        counts += [3] if self._three_term_percent > 0 else []
        for count in counts:
            for side in (True, False):
                sums = combinations_with_replacement(searched, count)
                if not any(is_held_out(terms) == side for terms in sums):
                    raise Malformed(
                        f"terms from smallest_term = {self._smallest} to largest_term = "
                        f"{self._largest} give no {count}-term sum to "
                        f"{'hold out' if side else 'lease'}: widen them"
                    )


def is_held_out(terms: Sequence[int]) -> bool:
    """Return on which side a sum lies, whatever the order of its terms."""
    bucket = content_digest(encode(["rollcall/arithmetic/side", sorted(terms)]))[0]
    return bucket % HELD_OUT_BUCKETS == 0


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
