"""One weighed operation, and one design's cost for each contribution."""

from dataclasses import dataclass

MOST_ABOVE = 1.05


@dataclass(frozen=True, slots=True)
class Row:
    """What one operation used. `reference` is the design's figure, where it has one."""

    operation: str
    gas: int
    reference: int | None = None

    @property
    def ratio(self) -> float | None:
        return None if self.reference is None else self.gas / self.reference

    @property
    def is_too_much(self) -> bool:
        return self.ratio is not None and self.ratio > MOST_ABOVE


@dataclass(frozen=True, slots=True)
class Design:
    """What a design costs for one contribution: to record it, and with its share of being paid."""

    name: str
    recorded: float
    paid: float
