"""Set the bounds of honest replay from honest groups. Pure; `rollout_worker/calibrate.py` measures.

Groups are what is judged, and tokens of one group err together (one cache, one problem), so every
bound is extrapolated from groups, and the policy that needs the loosest sets it.

- `reference`: `REFERENCE` times the largest honest mean, or `ROOM` times the upper end of the mean's
  interval where few errors leave it wide. A CUSUM is quickest for a shift of about twice its distance
  from the honest mean (for counts whose rate trebles 1.8 is the optimum: Lucas 1985, Technometrics 27);
  and an honest policy whose errors grow by less, as it is trained, stays below it.
- `group`: the excess that a third of the false-reject rate of honest groups is above. Beyond the 90th
  percentile it is taken as exponential (peaks over a threshold: Pickands 1975, Balkema and de Haan
  1974, with shape 0), which is conservative for means of bounded errors; mismatches are counted, so
  their tail is its whole-numbered sister, the geometric.
- `drift`: the bound at which a CUSUM of the honest groups' excesses alarms at a third of the
  false-alarm rate: the average run length of its Markov chain (Brook and Evans 1972, Biometrika 59).
  Never below the group limit: honest groups near in time err together more than the chain knows.

Intervals are bootstrapped over groups (Efron 1979), from a fixed seed.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocol.constants import MICRO
from protocol.precision import ComputeDtype
from protocol.sequential import OUTLIERS
from protocol.verdict import QUANTILES, Bounds, Limit, ReplayStats, Statistic, Thresholds

REFERENCE: Final = {Statistic.MISMATCHES: 2.0, Statistic.MARGIN: 2.5, Statistic.GAP: 1.2}
"""Over the honest mean. Of the starting model on transformers, int8 weights lose 2.9 times as many tokens
by 4.1 times as many nats in all, and rare events need distance for their bound to be low: with 1.5 the
margins' is three times as high. Every token has a gap, so 1.2 is many times its mean's error; the mean
moves by a tenth as the policy is trained (on vLLM 0.0236 nats at the start, 0.0260 after 30 steps)."""
ROOM: Final = 1.2
TAIL_QUANTILE: Final = 0.9
NUM_TESTS: Final = len(Statistic)
MIN_GROUPS: Final = 100
"""Ten peaks over the 90th percentile are the least that give their mean a meaning."""
NUM_STATES: Final = 128
NUM_RESAMPLES: Final = 100
UPPER: Final = 0.975
"""Both ends leave 1 − `UPPER`: intervals of 95 %."""
LONGEST_RUN: Final = 1e12
"""Groups: average run lengths beyond are not told apart, and float64 could not."""

LEAST_TOTAL: Final = {Statistic.MISMATCHES: MICRO, Statistic.MARGIN: 100_000, Statistic.GAP: 0}
"""What one more group is always taken to have had, in millionths: one lost near-tie, by a tenth of a
nat. An engine that never differed from its replay in a thousand groups may still do so in a million."""

Floats = NDArray[np.float64]


def thresholds_of(
    honest: Sequence[Sequence[ReplayStats]],
    *,
    compute_dtype: ComputeDtype,
    model_digest: bytes,
    false_rejects_per_million: int,
    false_alarms_per_million: int,
    num_resamples: int = NUM_RESAMPLES,
) -> Thresholds:
    """Set the bounds from honest groups, one sequence per policy.

    Raises `ValueError` where a policy has fewer than `MIN_GROUPS` groups.
    """
    if (fewest := min(map(len, honest), default=0)) < MIN_GROUPS:
        raise ValueError(
            f"{fewest} groups are too few to calibrate on: measure at least {MIN_GROUPS}"
        )
    every = [stats for policy in honest for stats in policy]
    num_tokens = sum(stats.num_tokens for stats in every)
    mismatches, margin, gap = (
        bounds_of(
            honest,
            statistic,
            rejects=false_rejects_per_million / MICRO / NUM_TESTS,
            alarms=false_alarms_per_million / MICRO / NUM_TESTS,
            num_resamples=num_resamples,
        )
        for statistic in Statistic
    )
    return Thresholds(
        compute_dtype=compute_dtype,
        model_digest=model_digest,
        mismatches=mismatches,
        margin=margin,
        gap=gap,
        num_honest_groups=len(every),
        num_honest_tokens=num_tokens,
        honest_match_millionths=sum(s.num_matched for s in every) * MICRO // num_tokens,
        honest_mean_margin_micronats=round(
            sum(s.total(Statistic.MARGIN) for s in every) / num_tokens
        ),
        false_rejects_per_million_groups=false_rejects_per_million,
        false_alarms_per_million_groups=false_alarms_per_million,
    )


def bounds_of(
    honest: Sequence[Sequence[ReplayStats]],
    statistic: Statistic,
    *,
    rejects: float,
    alarms: float,
    num_resamples: int = NUM_RESAMPLES,
) -> Bounds:
    """Set one statistic's bounds; `rejects` and `alarms` are shares of honest groups."""
    samples = [_sample(policy, statistic) for policy in honest]
    reference = round(max(_reference(*sample, statistic, num_resamples) for sample in samples))
    tail = count_tail if statistic is Statistic.MISMATCHES else tail_bound
    excesses = [totals - reference * tokens for totals, tokens in samples]
    means = np.concatenate([totals[1:] / tokens[1:] for totals, tokens in samples])
    group = _limit(excesses, lambda values: tail(values, rejects), num_resamples)
    drift = _limit(
        excesses,
        lambda values: max(group.high, drift_bound(values, alarms)),
        num_resamples,
    )
    return Bounds(
        reference=reference,
        group=group,
        drift=drift,
        honest_quantiles=tuple(round(value) for value in np.quantile(means, QUANTILES)),
    )


def _sample(policy: Sequence[ReplayStats], statistic: Statistic) -> tuple[Floats, Floats]:
    """Return totals and tokens of each group, with the one more group of `LEAST_TOTAL` first."""
    tokens = np.array([stats.num_tokens for stats in policy], dtype=np.float64)
    totals = np.array([stats.total(statistic) for stats in policy], dtype=np.float64)
    middle = np.median(tokens)
    least = max(LEAST_TOTAL[statistic], float(np.median(totals / tokens) * middle))
    return np.append(least, totals), np.append(middle, tokens)


def _reference(totals: Floats, tokens: Floats, statistic: Statistic, num_resamples: int) -> float:
    mean = float(totals.sum() / tokens.sum())
    draw = np.random.default_rng(0)
    chosen = draw.integers(len(totals), size=(num_resamples, len(totals)))
    means = totals[chosen].sum(axis=1) / tokens[chosen].sum(axis=1)
    return max(REFERENCE[statistic] * mean, ROOM * float(np.quantile(means, UPPER)))


def _limit(
    samples: Sequence[Floats], bound: Callable[[Floats], float], num_resamples: int
) -> Limit:
    """Return the loosest policy's bound, with its bootstrap interval."""
    found = [bound(values) for values in samples]
    widest = samples[int(np.argmax(found))]
    draw = np.random.default_rng(0)
    size = len(widest) - 1
    again = [
        bound(np.append(widest[0], widest[1:][draw.integers(size, size=size)]))
        for _ in range(num_resamples)
    ]
    low, high = np.quantile(again, [1 - UPPER, UPPER])
    estimate = max(found)
    return Limit(
        low=round(max(0.0, min(low, estimate))),
        estimate=round(max(0.0, estimate)),
        high=round(max(0.0, high, estimate)),
    )


def tail_bound(values: Floats, rate: float) -> float:
    """Return the value that a share `rate` of groups exceeds, by an exponential tail; ≥ the largest."""
    start = _tail_start(values)
    peaks = values[values > start] - start
    share = len(peaks) / len(values)
    if share <= rate:
        return float(values.max())
    return max(float(values.max()), start + float(peaks.mean()) * float(np.log(share / rate)))


def count_tail(values: Floats, rate: float) -> float:
    """Return the same for excesses over counted millions, by a geometric tail."""
    counts = np.ceil(values / MICRO)
    start = float(np.ceil(_tail_start(counts)))
    peaks = counts[counts > start] - start
    share = len(peaks) / len(values)
    if share <= rate:
        return float(counts.max()) * MICRO
    # One more peak of two than was seen: all peaks being ones does not make twos impossible.
    repeats = 1 - (len(peaks) + 1) / (float(peaks.sum()) + 2)
    further = np.ceil(np.log(rate / share) / np.log(repeats))
    return max(float(counts.max()), start + float(further)) * MICRO


def _tail_start(values: Floats) -> float:
    """Return the 90th percentile, or the highest of the many groups that had nothing, if above."""
    return float(np.quantile(values, TAIL_QUANTILE))


def drift_bound(excesses: Floats, rate: float) -> float:
    """Return the least bound at which honest work crosses in at most a share `rate` of groups."""
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

    S is held on `NUM_STATES` steps up to the bound; a step between two is split between them, which
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
    # Whatever would fall below zero stops there.
    chain[:, 0] = np.cumsum(weights)[moves[:, 0]]
    chain *= 1 - 1 / LONGEST_RUN
    lengths = np.linalg.solve(np.eye(NUM_STATES + 1) - chain, np.ones(NUM_STATES + 1))
    return 1.0 / float(lengths[0])
