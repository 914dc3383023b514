"""Whether a machine's honest work would be paid: its groups' figures beside a run's bounds.

Pure. A machine is fit if no group breaks a bound of `judge` and its sequential test
(`protocol/checks/sequential.py`) has no reason ever to cross: the test falls back to zero as long as the
machine's mean excess per group is negative. Otherwise it climbs by the mean, and crosses after about
bound / mean groups (Wald's identity, without the overshoot). A mean counts against a machine if it is
above zero at its lower 95 % end; if only its estimate is, more groups are asked for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from protocol.checks.sequential import OUTLIERS, Drift, crossed, folded
from protocol.precision import ComputeDtype
from protocol.verdict import ReplayStats, Statistic, Thresholds, excess, judge

NORMAL_95 = 1.645
"""A mean lies above its estimate less so many standard errors 19 times in 20."""
LONG_RUN_GROUPS = 10_000
"""Groups that a worker of the demo's speed sells in about an hour; a test that takes longer to cross
is reported and does not count against the machine."""


class Prospect(StrEnum):
    """The fate of this machine's work."""

    EARNS = "earns"
    REJECTED = "rejected"
    DRIFTS = "drifts"


@dataclass(frozen=True, slots=True)
class Reading:
    """One statistic: this machine's groups beside the bounds. Per token, in its own unit."""

    statistic: Statistic
    mean: float
    reference: float
    worst_use: float
    """The share of its bound that the worst group uses: above 1 it is rejected, below 0 it uses none."""
    groups_until_crossing: float | None
    """Of the sequential test, at this machine's mean; None if it always falls back to zero."""
    is_certain: bool
    """Whether so few groups are enough to say that the test climbs."""


@dataclass(frozen=True, slots=True)
class Fitness:
    """The whole result.

    Example: `assess(stats, bounds)` of 64 honest groups is `Prospect.EARNS` with no reasons.
    """

    compute_dtype: ComputeDtype
    verdict: Prospect
    reasons: tuple[str, ...]
    readings: tuple[Reading, ...]
    num_groups: int
    num_tokens: int
    match: float
    num_rejected: int
    """Groups that `judge` would reject by themselves."""
    crossed_after: int | None
    """Groups after which the sequential test crossed here, if it did."""


def assess(stats: Sequence[ReplayStats], bounds: Thresholds) -> Fitness:
    """Compare measured groups with bounds. Raises `ValueError` without any tokens."""
    measured = [group for group in stats if group.num_tokens]
    if not measured:
        raise ValueError("no tokens were measured: sample at least one group")
    rejected = [found for group in measured if (found := judge(group, bounds)) is not None]
    crossing = _crossing(measured, bounds)
    readings = tuple(_reading(measured, bounds, statistic) for statistic in Statistic)
    reasons = [detail for _, detail in rejected[:1]]
    reasons += [crossing[1]] if crossing else []
    reasons += [_will_cross(reading) for reading in readings if _drifts(reading)]
    num_tokens = sum(group.num_tokens for group in measured)
    return Fitness(
        compute_dtype=bounds.compute_dtype,
        verdict=_verdict(bool(rejected), bool(reasons)),
        reasons=tuple(reasons),
        readings=readings,
        num_groups=len(measured),
        num_tokens=num_tokens,
        match=sum(group.num_matched for group in measured) / num_tokens,
        num_rejected=len(rejected),
        crossed_after=crossing[0] if crossing else None,
    )


def _verdict(is_rejected: bool, has_reasons: bool) -> Prospect:
    if is_rejected:
        return Prospect.REJECTED
    return Prospect.DRIFTS if has_reasons else Prospect.EARNS


def _crossing(measured: Sequence[ReplayStats], bounds: Thresholds) -> tuple[int, str] | None:
    drift = Drift()
    for number, group in enumerate(measured, start=1):
        drift = folded(drift, group, bounds)
        if (alarm := crossed(drift, bounds)) is not None:
            return number, alarm.detail
    return None


def _reading(measured: Sequence[ReplayStats], bounds: Thresholds, statistic: Statistic) -> Reading:
    limits, unit = bounds.bounds(statistic), statistic.unit
    num_tokens = sum(group.num_tokens for group in measured)
    step, error = _mean_step(measured, bounds, statistic)
    return Reading(
        statistic=statistic,
        mean=sum(group.total(statistic) for group in measured) / num_tokens / unit,
        reference=limits.reference / unit,
        worst_use=max(excess(group, statistic, limits) for group in measured) / limits.group,
        groups_until_crossing=max(1.0, limits.drift / step) if step > 0 else None,
        is_certain=step - NORMAL_95 * error > 0,
    )


def _mean_step(
    measured: Sequence[ReplayStats], bounds: Thresholds, statistic: Statistic
) -> tuple[float, float]:
    """Return the mean that a group adds to the sequential test, and its standard error."""
    limits = bounds.bounds(statistic)
    cap = limits.drift // OUTLIERS
    steps = [min(excess(group, statistic, limits), cap) for group in measured]
    mean = sum(steps) / len(steps)
    variance = sum((step - mean) ** 2 for step in steps) / max(1, len(steps) - 1)
    return mean, math.sqrt(variance / len(steps))


def _drifts(reading: Reading) -> bool:
    groups = reading.groups_until_crossing
    return groups is not None and groups < LONG_RUN_GROUPS and reading.is_certain


def _will_cross(reading: Reading) -> str:
    return (
        f"{reading.statistic.label}: {reading.mean:.6g} per token against a reference of "
        f"{reading.reference:.6g}: the sequential test would cross after about "
        f"{reading.groups_until_crossing:.0f} groups"
    )
