"""How many blocks of events to ask a node for at once: what it takes is found out, and kept. Pure."""

from dataclasses import dataclass

MOST = 2_000
"""What public nodes commonly allow in one query."""
GROWS_AFTER = 8
"""Full ranges that a node answered before a larger one is tried; doubled by each refusal."""


@dataclass(frozen=True, slots=True)
class Span:
    """The size that is asked for. A node's limit may be of blocks, of results or of bytes, so it varies."""

    size: int = MOST
    worked: int = 0
    """The largest size that was answered since the last refusal; 0 for none."""
    answers: int = 0
    patience: int = GROWS_AFTER

    @property
    def is_limited(self) -> bool:
        return self.size < MOST

    def refused(self, asked: int) -> "Span":
        """Return what follows a refusal of `asked` blocks: the size that worked before, or half."""
        known = self.worked if self.worked < asked else 0
        return Span(
            known or max(1, asked // 2), 0, 0, 2 * self.patience if known else self.patience
        )

    def answered(self, asked: int) -> "Span":
        """Return what follows an answer: a larger size after many."""
        if asked < self.size:
            return self
        answers = self.answers + 1
        if answers < self.patience or self.size == MOST:
            return Span(self.size, self.size, answers, self.patience)
        return Span(min(MOST, self.size + max(1, self.size // 4)), self.size, 0, self.patience)
