"""A worker's sequential test: many groups show cheats that are too faint for one.

One CUSUM (Page 1954, Biometrika 41) per term runs over one worker's groups, in the order in which a
verifier replayed them:

    S ← max(0, S + min(excess, bound / 3))

The test alarms if some S > bound, and starts again from zero. A term's excess is the group's total less its
reference times its tokens, so that two short groups weigh as much as a long one of as many tokens. The cap
keeps one outlier, or three, from alarming. Restarting at zero keeps a worker from saving up honest groups
to spend on cheating.

The terms are the three statistics of a replay, and two of near-tie forks. A worker that takes the runner-up
at near ties can choose rewards, though each mismatch alone looks like rounding. Then mismatches stand in
rollouts above the group's mean reward, or below it, more often than by chance. Weighed by their advantage,
honest mismatches sum to zero on average, and vary less than their number (an advantage is within ±1, its
square below 1/4 on average if rewards are 0 or 1). So half of the mismatches' own distance between mean and
reference, with their bound, alarms more rarely than the mismatches do.

All integers, from signed `ReplayStats` and agreed `Thresholds`: the same groups in the same order give
everybody the same state. Left out: one group's own bounds (`verdict.judge`), and what an alarm
costs (`evidence.py`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from protocol.constants import MICRO
from protocol.verdict import NOTHING_MEASURED, ReplayStats, Statistic, Thresholds, excess, judge
from protocol.wire import U64, Wire

OUTLIERS = 3
"""So many groups cannot raise an alarm, whatever they hold; the fourth can."""
FORK_SHARE = 4
"""The forks' reference is the mismatches' over this: half of what the honest mean is below it."""


class Sum(Wire):
    """One CUSUM: S in its term's unit, and the groups and tokens since S was last zero."""

    total: U64 = 0
    num_groups: U64 = 0
    num_tokens: U64 = 0


class Drift(Wire):
    """The state of one worker's test. A new worker's, and one after an alarm, is `Drift()`.

    Example: `drift = folded(drift, stats, thresholds)` after each replay that `judge` accepted, then
    `crossed(drift, thresholds)`.
    """

    mismatches: Sum = Sum()
    margin: Sum = Sum()
    gap: Sum = Sum()
    forks_for: Sum = Sum()
    forks_against: Sum = Sum()


@dataclass(frozen=True, slots=True)
class Term:
    """One CUSUM's term: a group's excess, the integer that one token or one nat is, and the bound."""

    name: str
    label: str
    unit: int
    excess: int
    bound: int


class Alarm(NamedTuple):
    """Which term crossed, and the line that says so."""

    name: str
    detail: str


def terms(stats: ReplayStats, thresholds: Thresholds) -> Iterator[Term]:
    """Yield every term with what a group adds to it."""
    for statistic in Statistic:
        bounds = thresholds.bounds(statistic)
        surplus = excess(stats, statistic, bounds)
        yield Term(statistic.value, statistic.label, statistic.unit, surplus, bounds.drift)
    fork = stats.forks_for_micro - stats.forks_against_micro
    allowed = thresholds.mismatches.reference * stats.num_tokens // FORK_SHARE
    bound = thresholds.mismatches.drift
    label = "tokens lost at near ties, by the advantage they"
    yield Term("forks_for", f"{label} gained", MICRO, fork - allowed, bound)
    yield Term("forks_against", f"{label} lost", MICRO, -fork - allowed, bound)


def folded(drift: Drift, stats: ReplayStats, thresholds: Thresholds) -> Drift:
    """Return the state after one more group."""
    return Drift(
        **{
            term.name: _added(getattr(drift, term.name), stats, term)
            for term in terms(stats, thresholds)
        }
    )


def crossed(drift: Drift, thresholds: Thresholds) -> Alarm | None:
    """Return the first term above its bound, or None for honest work."""
    for term in terms(NOTHING_MEASURED, thresholds):
        found: Sum = getattr(drift, term.name)
        if found.total > term.bound:
            return Alarm(
                term.name,
                f"{term.label}: {found.total / term.unit:.6g} above the reference over the last "
                f"{found.num_groups} groups replayed ({found.num_tokens} tokens); honest work in "
                f"{thresholds.compute_dtype} stays at or below {term.bound / term.unit:.6g}",
            )
    return None


def check(groups: Sequence[ReplayStats], thresholds: Thresholds) -> str | None:
    """Return the first bound that one group or the whole sequence breaks; None for honest work."""
    drift = Drift()
    for stats in groups:
        if (broken := judge(stats, thresholds)) is not None:
            return broken[1]
        drift = folded(drift, stats, thresholds)
        if (alarm := crossed(drift, thresholds)) is not None:
            return alarm.detail
    return None


def _added(before: Sum, stats: ReplayStats, term: Term) -> Sum:
    total = before.total + min(term.excess, term.bound // OUTLIERS)
    if total <= 0:
        return Sum()
    return Sum(
        total=total,
        num_groups=before.num_groups + 1,
        num_tokens=before.num_tokens + stats.num_tokens,
    )
