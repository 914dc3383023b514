"""A worker's sequential test: cheats too faint for one group, told from many.

One CUSUM (Page 1954, Biometrika 41) per statistic of a replay, over the groups of one worker in
the order in which a verifier replayed them:

    S ← max(0, S + min(excess, bound / 3)),  excess = total over the group's tokens − reference × tokens

The test stands above its bound where some S > bound. Counting excess by tokens makes two short groups
weigh what a long one of as many tokens does. The cap keeps one outlier, or three, from condemning
anyone. Restarting at zero keeps a worker from saving up honest groups to spend on cheating.

All integers, from signed `ReplayStats` and agreed `Thresholds`: whoever folds the same groups in the
same order gets the same state. `rollcall calibrate` sets the bounds for a stated rate of false alarms.
Left out: one group's own bounds (`verdict.judge`), and what a crossing costs.
"""

from protocol.constants import MICRO
from protocol.verdict import Rejection, ReplayStats, Statistic, Thresholds, excess
from protocol.wire import U64, Wire

OUTLIERS = 3
"""Groups that cannot condemn a worker by themselves, whatever they hold: the fourth can."""

CEILING = 2
"""S stops at so many times its bound: a worker that was repaired is heard again."""


class Sum(Wire):
    """One CUSUM: S in millionths, and the groups and tokens since it last was zero."""

    total: U64 = 0
    num_groups: U64 = 0
    num_tokens: U64 = 0


class Drift(Wire):
    """The state of one worker's test. A new worker's is `Drift()`.

    Example: `drift = folded(drift, stats, thresholds)` after each replay that `judge` accepted, then
    `crossed(drift, thresholds)`.
    """

    num_groups: U64 = 0
    """Groups folded in, since the first."""
    num_tokens: U64 = 0
    mismatches: Sum = Sum()
    margin: Sum = Sum()
    gap: Sum = Sum()

    def sum(self, statistic: Statistic) -> Sum:
        """Return one statistic's CUSUM."""
        found: Sum = getattr(self, statistic.value)
        return found


def folded(drift: Drift, stats: ReplayStats, thresholds: Thresholds) -> Drift:
    """Return the state after one more group."""
    mismatches, margin, gap = (
        _added(drift.sum(name), stats, excess(stats, name, bounds), bounds.drift.high)
        for name, bounds in ((name, thresholds.bounds(name)) for name in Statistic)
    )
    return Drift(
        num_groups=drift.num_groups + 1,
        num_tokens=drift.num_tokens + stats.num_tokens,
        mismatches=mismatches,
        margin=margin,
        gap=gap,
    )


def crossed(drift: Drift, thresholds: Thresholds) -> tuple[Rejection, str] | None:
    """Return the first statistic above its bound with what was found, or None for honest work."""
    for name in Statistic:
        found, bound = drift.sum(name), thresholds.bounds(name).drift.high
        if found.total > bound:
            return Rejection.REPLAY_DRIFT, (
                f"{name.label}: {found.total / MICRO:.6g} above the reference over the last "
                f"{found.num_groups} groups replayed ({found.num_tokens} tokens); honest work in "
                f"{thresholds.compute_dtype} stays at or below {bound / MICRO:.6g}"
            )
    return None


def _added(before: Sum, stats: ReplayStats, surplus: int, bound: int) -> Sum:
    total = min(before.total + min(surplus, bound // OUTLIERS), CEILING * bound)
    if total <= 0:
        return Sum()
    return Sum(
        total=total,
        num_groups=before.num_groups + 1,
        num_tokens=before.num_tokens + stats.num_tokens,
    )
