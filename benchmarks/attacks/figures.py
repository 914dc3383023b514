"""From records to figures: rates of detection, delays of the sequential test, areas under the ROC.

Pure, and seeded where groups are drawn again. Every attack is judged twice: as handed in, and with no
gap at all, which is what claiming the right policy's log-probabilities after a prefill comes to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.attacks.peers import tolerances
from benchmarks.attacks.record import Compared, Replayed
from benchmarks.attacks.toploc import (
    MAX_EXPONENT_MISMATCHES,
    MAX_MANTISSA_ERROR_MEAN,
    MAX_MANTISSA_ERROR_MEDIAN,
)
from protocol.checks.sequential import OUTLIERS, terms
from protocol.constants import MARGIN_CAP_NATS
from protocol.verdict import ReplayStats, Thresholds, judge

BLOCK_TOKENS = 300
"""Tokens of one point of a ROC, as Token-DiFR counts (arXiv:2511.20621)."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Delay:
    """Groups and tokens until a sequence of groups is condemned: median and 95th percentile.

    None where that share of the sequences was never condemned within `horizon` groups.
    """

    median_groups: int | None
    p95_groups: int | None
    median_tokens: int | None
    p95_tokens: int | None
    horizon: int


@dataclass(frozen=True, slots=True)
class Area:
    """The area under a ROC, with the scores behind it."""

    area: float
    honest: Array
    cheat: Array


def without_gap(stats: Sequence[ReplayStats]) -> list[ReplayStats]:
    """Return the stats of a cheat that claims exactly the recomputed log-probabilities."""
    return [group.model_copy(update={"gap_nanonats": 0}) for group in stats]


def rejected(stats: Sequence[ReplayStats], thresholds: Thresholds) -> NDArray[np.bool_]:
    """Return which groups `judge` rejects one by one."""
    return np.array([judge(group, thresholds) is not None for group in stats])


def upper_bound(hits: int, count: int) -> float:
    """Return the 95 % upper bound of a rate of which `hits` of `count` were seen (Wilson's score)."""
    z, share = 1.645, hits / count
    centre = share + z * z / (2 * count)
    spread = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return float((centre + spread) / (1 + z * z / count))


class Sequences(NamedTuple):
    """C sequences of T groups each, and when they end: counted from 1, 0 for never."""

    crossed_C: NDArray[np.int64]
    """The group at which the sequential test alarms."""
    condemned_C: NDArray[np.int64]
    """The one at which either it or `judge` finds the worker out."""
    drawn_CT: NDArray[np.int64]
    """Which group comes when."""
    tokens_CT: NDArray[np.int64]
    """Tokens up to each group."""


def sequences(
    stats: Sequence[ReplayStats], thresholds: Thresholds, *, count: int, horizon: int, seed: int
) -> Sequences:
    """Draw `count` sequences of groups with replacement, and judge them.

    The sums are those of `protocol.checks.sequential`, folded for all sequences at once.
    """
    held = [list(terms(group, thresholds)) for group in stats]
    excess_GS = np.array([[term.excess for term in group] for group in held])
    bound_S = np.array([term.bound for term in held[0]])
    alone_G, tokens_G = rejected(stats, thresholds), np.array([g.num_tokens for g in stats])
    drawn_CT = np.random.default_rng(seed).integers(0, len(stats), (count, horizon))
    sums_CS = np.zeros((count, len(bound_S)), dtype=np.int64)
    crossed_C, condemned_C = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for t in range(horizon):
        drawn_C = drawn_CT[:, t]
        sums_CS += np.minimum(excess_GS[drawn_C], bound_S // OUTLIERS)
        np.maximum(sums_CS, 0, out=sums_CS)
        above_C = (sums_CS > bound_S).any(axis=1)
        crossed_C[(crossed_C == 0) & above_C] = t + 1
        condemned_C[(condemned_C == 0) & (above_C | alone_G[drawn_C])] = t + 1
        if crossed_C.all():
            break
    return Sequences(crossed_C, condemned_C, drawn_CT, tokens_G[drawn_CT].cumsum(axis=1))


def moved_until(gains_G: Array, drawn: Sequences) -> float:
    """Return the mean of `gains_G` over the groups until a worker is found out, that group included."""
    count, horizon = drawn.drawn_CT.shape
    last_C = np.where(drawn.condemned_C > 0, drawn.condemned_C, horizon)
    sums_CT = gains_G[drawn.drawn_CT].cumsum(axis=1)
    return float((sums_CT[np.arange(count), last_C - 1] / last_C).mean())


def delay(ended_C: NDArray[np.int64], tokens_CT: NDArray[np.int64]) -> Delay:
    """Return the median and the 95th percentile of when sequences ended; 0 in `ended_C` is never."""
    count, horizon = tokens_CT.shape
    groups_C = np.where(ended_C > 0, ended_C, horizon + 1)
    tokens_C = tokens_CT[np.arange(count), np.minimum(groups_C, horizon) - 1]

    def at(share: float) -> tuple[int | None, int | None]:
        rank = np.sort(groups_C)[int(np.ceil(share * count)) - 1]
        if rank > horizon:
            return None, None
        return int(rank), int(np.sort(tokens_C)[int(np.ceil(share * count)) - 1])

    (median_groups, median_tokens), (p95_groups, p95_tokens) = at(0.5), at(0.95)
    return Delay(median_groups, p95_groups, median_tokens, p95_tokens, horizon)


def blocks(values_N: NDArray[np.float32], lengths_G: NDArray[np.int64], *, seed: int) -> Array:
    """Return the means of `values_N` over blocks of 300 tokens, whole groups laid end to end at random.

    Groups are shuffled, so that a block is not one prompt; what is left over is dropped.
    """
    ends = np.cumsum(lengths_G)
    order = np.random.default_rng(seed).permutation(len(lengths_G))
    laid = np.concatenate([values_N[ends[g] - lengths_G[g] : ends[g]] for g in order])
    count = len(laid) // BLOCK_TOKENS
    return np.asarray(laid[: count * BLOCK_TOKENS].reshape(count, -1).mean(axis=1), np.float64)


def area(honest: Array, cheat: Array) -> float:
    """Return the chance that a cheat's block scores above an honest one, ties counting half."""
    ordered = np.sort(honest)
    below = np.searchsorted(ordered, cheat, "left")
    not_above = np.searchsorted(ordered, cheat, "right")
    return float((below + not_above).mean() / (2 * len(honest)))


def replay_area(honest: Replayed, cheat: Replayed, *, with_gap: bool, seed: int) -> Area:
    """Score blocks by their mean capped margin, and by the gap too where it counts.

    Each is taken in deviations of honest blocks, and the larger of the two is the score.
    """
    cap = MARGIN_CAP_NATS
    columns = [(np.minimum(honest.margins_N, cap), np.minimum(cheat.margins_N, cap))]
    if with_gap:
        columns.append((honest.gaps_N, cheat.gaps_N))
    scores = []
    for honest_N, cheat_N in columns:
        own = blocks(honest_N, honest.num_tokens(), seed=seed)
        its = blocks(cheat_N, cheat.num_tokens(), seed=seed + 1)
        scale = max(float(own.std()), 1e-12)
        scores.append(((own - own.mean()) / scale, (its - own.mean()) / scale))
    own_max = np.max([pair[0] for pair in scores], axis=0)
    its_max = np.max([pair[1] for pair in scores], axis=0)
    return Area(area(own_max, its_max), own_max, its_max)


def toploc_rejects(seen: Compared) -> NDArray[np.bool_]:
    """Return which groups have a proof beyond TOPLOC's published thresholds."""
    mismatches, mean, median = seen.deviations_P3.T
    bad_P = (mismatches > MAX_EXPONENT_MISMATCHES) | (mean > MAX_MANTISSA_ERROR_MEAN)
    bad_P |= median > MAX_MANTISSA_ERROR_MEDIAN
    return _any_in(bad_P, seen.proofs_G)


def grail_rejects(seen: Compared, distances_N: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which groups have a position beyond GRAIL's tolerance; all positions are asked."""
    return _any_in(distances_N > tolerances(seen.positions_N), seen.lengths_G)


def toploc_area(honest: Compared, cheat: Compared, *, seed: int) -> Area:
    """Score blocks of 300 tokens by the mean of each proof's worst ratio to its threshold."""
    bounds = (MAX_EXPONENT_MISMATCHES, MAX_MANTISSA_ERROR_MEAN, MAX_MANTISSA_ERROR_MEDIAN)

    def worst(seen: Compared) -> NDArray[np.float32]:
        ratios = np.minimum(seen.deviations_P3 / np.array(bounds), 10.0).max(axis=1)
        per_group = np.split(ratios, np.cumsum(seen.proofs_G)[:-1])
        # A group's mean stands for each of its tokens.
        means = np.array([group.mean() for group in per_group], dtype=np.float32)
        return np.repeat(means, seen.lengths_G)

    own = blocks(worst(honest), honest.lengths_G, seed=seed)
    its = blocks(worst(cheat), cheat.lengths_G, seed=seed + 1)
    return Area(area(own, its), own, its)


def grail_area(honest: Compared, cheat: Compared, *, seed: int) -> Area:
    """Score blocks of 300 tokens by their mean distance of sketches."""
    own = blocks(honest.sketch_N.astype(np.float32), honest.lengths_G, seed=seed)
    its = blocks(cheat.sketch_N.astype(np.float32), cheat.lengths_G, seed=seed + 1)
    return Area(area(own, its), own, its)


def _any_in(flags: NDArray[np.bool_], counts_G: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.array([part.any() for part in np.split(flags, np.cumsum(counts_G)[:-1])])
