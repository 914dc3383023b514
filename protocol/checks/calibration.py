"""Set the bounds of honest replay from honest groups. Pure; `rollout_worker/replay/calibrate.py` measures.

Groups come in samples: one per policy, engine, instruction set, number of threads and batch shape that was
measured. Tokens of one group err together (one cache, one problem), so every bound is extrapolated from
groups. The sample that needs the loosest bound sets it, times a stated room for machines that were not
measured. Floors per dtype keep a bound from tightening because a machine was lucky.

- `reference`: `REFERENCE` times the largest honest mean per token.
- `group`: the excess that honest groups exceed at a third of the false-reject rate, times `ROOM`.
  Beyond the 90th percentile it is taken as exponential (peaks over a threshold: Pickands 1975, Balkema and
  de Haan 1974, with shape 0), which is conservative for means of bounded errors; mismatches are counted, so
  their tail is its whole-numbered sister, the geometric.
- `drift`: the bound at which a CUSUM of the honest groups' excesses alarms at a third of the
  false-alarm rate: the average run length of its Markov chain (Brook and Evans 1972, Biometrika 59).
  Never below the group limit: honest groups near in time err together more than the chain says.

The floors follow from `logit_error`, the most that rounding changes a logit on honest machines.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocol.checks.sequential import OUTLIERS
from protocol.constants import MICRO, NANO
from protocol.precision import ComputeDtype
from protocol.verdict import Bounds, ReplayStats, Statistic, Thresholds, judge

REFERENCE: Final = {Statistic.MISMATCHES: 2.0, Statistic.MARGIN: 2.5, Statistic.GAP: 1.5}
"""Over the honest mean. A CUSUM is quickest for a shift of about twice its distance from the mean, and rare
events get a low bound only at a distance. An unmeasured machine may stand above all measured ones: in
bfloat16 two processors' means differed by 1.2 (0.026 and 0.0309 nats of gap), and a reference of 1.2 times
the first condemned honest work on the second."""
ROOM: Final = 1.5
"""Group and drift limits, as multiples of what the loosest sample needs."""
ROUNDINGS: Final = {
    ComputeDtype.FLOAT32: 1024,
    ComputeDtype.FLOAT16: 8,
    ComputeDtype.BFLOAT16: 8,
}
"""Unit roundoffs in `logit_error`. In float32 the sums themselves are rounded, in another order on every
machine; the 16-bit dtypes add up in float32 and round each token's activations a few times."""
TIES_LOST: Final = 16
"""Honest work is taken to lose one of so many tokens that stand nearer to a tie than the logit error."""
TAIL_QUANTILE: Final = 0.9
NUM_TESTS: Final = len(Statistic)
MIN_GROUPS: Final = 100
"""A mean of fewer than ten peaks over the 90th percentile says nothing."""
NUM_STATES: Final = 128
LONGEST_RUN: Final = 1e12
"""In groups. Longer average run lengths are not told apart, and float64 could not."""
INT8_CAUGHT: Final = 0.5
"""Least share of int8 groups that one group's bounds must reject, unless a user accepts less in words."""

Floats = NDArray[np.float64]


def logit_error(dtype: ComputeDtype) -> float:
    """Return by how many nats an honest engine's logit may err, for the floors."""
    return ROUNDINGS[dtype] * dtype.unit_roundoff


def thresholds_of(
    honest: Sequence[Sequence[ReplayStats]],
    *,
    compute_dtype: ComputeDtype,
    model_digest: bytes,
    varied: Sequence[str],
    int8: Sequence[Sequence[ReplayStats]],
    false_rejects_per_million: int,
    false_alarms_per_million: int,
) -> Thresholds:
    """Set the bounds from honest groups, one sequence per sample, and hold int8 groups to them.

    Raises `ValueError` if a sample has fewer than `MIN_GROUPS` groups.
    """
    if (fewest := min(map(len, honest), default=0)) < MIN_GROUPS:
        raise ValueError(
            f"{fewest} groups are too few to calibrate on: measure at least {MIN_GROUPS}"
        )
    every = [stats for sample in honest for stats in sample]
    num_tokens = sum(stats.num_tokens for stats in every)
    mismatches, margin, gap = (
        bounds_of(
            honest,
            statistic,
            compute_dtype,
            rejects=false_rejects_per_million / MICRO / NUM_TESTS,
            alarms=false_alarms_per_million / MICRO / NUM_TESTS,
        )
        for statistic in Statistic
    )
    found = Thresholds(
        compute_dtype=compute_dtype,
        model_digest=model_digest,
        mismatches=mismatches,
        margin=margin,
        gap=gap,
        varied=tuple(varied),
        num_honest_groups=len(every),
        num_honest_tokens=num_tokens,
        honest_match_millionths=sum(s.num_matched for s in every) * MICRO // num_tokens,
        int8_caught_millionths=0,
        false_rejects_per_million_groups=false_rejects_per_million,
        false_alarms_per_million_groups=false_alarms_per_million,
    )
    shares = [share_caught(sample, found) for sample in int8]
    return found.model_copy(update={"int8_caught_millionths": int(min(shares, default=0) * MICRO)})


def share_caught(sample: Sequence[ReplayStats], thresholds: Thresholds) -> float:
    """Return the share of groups that `judge` rejects."""
    return sum(judge(stats, thresholds) is not None for stats in sample) / len(sample)


def bounds_of(
    honest: Sequence[Sequence[ReplayStats]],
    statistic: Statistic,
    dtype: ComputeDtype,
    *,
    rejects: float,
    alarms: float,
) -> Bounds:
    """Set one statistic's bounds; `rejects` and `alarms` are shares of honest groups."""
    samples = [_totals(sample, statistic, dtype) for sample in honest]
    seen = REFERENCE[statistic] * max(_mean(totals[1:], tokens[1:]) for totals, tokens in samples)
    # Include the one more group, so that no sample of this size climbs by it.
    unseen = ROOM * max(_mean(totals, tokens) for totals, tokens in samples)
    reference = int(np.ceil(max(_floor(statistic, dtype), seen, unseen)))
    tail = count_tail if statistic is Statistic.MISMATCHES else tail_bound
    excesses = [totals - reference * tokens for totals, tokens in samples]
    loosest = max(least_total(statistic, dtype), *(tail(values, rejects) for values in excesses))
    drift = max(loosest, *(drift_bound(values, alarms) for values in excesses))
    return Bounds(
        reference=reference, group=int(np.ceil(ROOM * loosest)), drift=int(np.ceil(ROOM * drift))
    )


def least_total(statistic: Statistic, dtype: ComputeDtype) -> float:
    """Return the assumed total of one more group: one near tie, lost, or misjudged so far.

    An engine that never differed from its replay in a thousand groups may still do so in a million.
    """
    if statistic is Statistic.MISMATCHES:
        return float(MICRO)
    return 2 * logit_error(dtype) * NANO


def run_length(sample: Sequence[ReplayStats], thresholds: Thresholds) -> float:
    """Return the average number of groups like these until a statistic's test alarms falsely."""
    rates = []
    for statistic in Statistic:
        bounds = thresholds.bounds(statistic)
        totals, tokens = _totals(sample, statistic, thresholds.compute_dtype)
        rates.append(alarm_rate(totals - bounds.reference * tokens, bounds.drift))
    return 1 / sum(rates)


def _mean(totals: Floats, tokens: Floats) -> float:
    return float(totals.sum() / tokens.sum())


def _floor(statistic: Statistic, dtype: ComputeDtype) -> float:
    """Return the lowest reference per token.

    If logits err by e, so does the logarithm of a surprisal; and a tie nearer than e may be lost, by e.
    """
    error = logit_error(dtype)
    match statistic:
        case Statistic.MISMATCHES:
            return error / TIES_LOST * MICRO
        case Statistic.MARGIN:
            return error * error / TIES_LOST * NANO
        case Statistic.GAP:
            return error * NANO


def _totals(
    sample: Sequence[ReplayStats], statistic: Statistic, dtype: ComputeDtype
) -> tuple[Floats, Floats]:
    """Return each group's totals and tokens, with the additional group of `least_total` first."""
    tokens = np.array([stats.num_tokens for stats in sample], dtype=np.float64)
    totals = np.array([stats.total(statistic) for stats in sample], dtype=np.float64)
    middle = np.median(tokens)
    least = max(least_total(statistic, dtype), float(np.median(totals / tokens) * middle))
    return np.append(least, totals), np.append(middle, tokens)


def tail_bound(values: Floats, rate: float) -> float:
    """Return the value that a share `rate` of groups exceeds, by an exponential tail; ≥ the largest."""
    start = _tail_start(values)
    peaks = values[values > start] - start
    share = len(peaks) / len(values)
    if share <= rate:
        return float(values.max())
    return max(float(values.max()), start + float(peaks.mean()) * float(np.log(share / rate)))


def count_tail(values: Floats, rate: float) -> float:
    """Return the same for excesses over counts in millionths, by a geometric tail."""
    counts = np.ceil(values / MICRO)
    start = float(np.ceil(_tail_start(counts)))
    peaks = counts[counts > start] - start
    share = len(peaks) / len(values)
    if share <= rate:
        return float(counts.max()) * MICRO
    # Assume one more peak of two than was seen: if all peaks are ones, twos are still possible.
    repeats = 1 - (len(peaks) + 1) / (float(peaks.sum()) + 2)
    further = np.ceil(np.log(rate / share) / np.log(repeats))
    return max(float(counts.max()), start + float(further)) * MICRO


def _tail_start(values: Floats) -> float:
    """Return the 90th percentile, or if higher, the highest of the many groups that had nothing."""
    return float(np.quantile(values, TAIL_QUANTILE))


def drift_bound(excesses: Floats, rate: float) -> float:
    """Return the least bound that honest work crosses in at most a share `rate` of groups."""
    high = max(float(excesses.max()), 1.0)
    while alarm_rate(excesses, high) > rate:
        high *= 2
    low = high / 2
    while low > 1 and alarm_rate(excesses, low) <= rate:
        low /= 2
    for _ in range(7):
        middle = (low + high) / 2
        if alarm_rate(excesses, middle) > rate:
            low = middle
        else:
            high = middle
    return high


def alarm_rate(excesses: Floats, bound: float) -> float:
    """Return one over the average run length of the CUSUM from zero, by its Markov chain.

    S takes `NUM_STATES` values up to the bound; a value between two is split between them, which
    keeps its mean.
    """
    steps = np.minimum(excesses, bound / OUTLIERS) / bound * NUM_STATES
    steps = np.maximum(steps, -NUM_STATES - 1.0)
    whole = np.floor(steps)
    part = steps - whole
    weights = np.zeros(2 * NUM_STATES + 4)
    offset = NUM_STATES + 1
    np.add.at(weights, whole.astype(np.int64) + offset, 1 - part)
    np.add.at(weights, whole.astype(np.int64) + offset + 1, part)
    weights /= len(steps)
    state = np.arange(NUM_STATES + 1)
    moves = state[None, :] - state[:, None] + offset
    chain = weights[moves]
    # A sum that would fall below zero stops there.
    chain[:, 0] = np.cumsum(weights)[moves[:, 0]]
    chain *= 1 - 1 / LONGEST_RUN
    lengths = np.linalg.solve(np.eye(NUM_STATES + 1) - chain, np.ones(NUM_STATES + 1))
    return 1.0 / float(lengths[0])
