"""How far false worker_logprobs that pass replay can bend a step: an upper bound, token by token.

A lie about a token's log-probability moves its ratio, and so the weight w with which its gradient enters
the loss; where a ratio is absurd, it takes its whole sequence out. Replay compares every claimed surprisal
c with the recomputed r and allows a group a total gap Σ|log(f + c) − log(f + r)| of at most `budget`
(`protocol/checks/replay.md`): a lie has a price, and a group has so much to spend.

The most that can be bought is bounded by weak duality: for every λ ≥ 0,

    max Σ gain_t(p_t) over Σ p_t ≤ budget   ≤   λ budget + Σ max_p (gain_t(p) − λ p),

and the least of these over the λ that are tried is returned. Prices are taken in cells, with the gain of
a cell's dearer end at the price of its cheaper one, so that nothing between them is missed.

Holds for `loss.grpo`, where every weight lies between 0 and its cap. The other losses have no upper end
where the advantage is negative (dapo, dr_grpo), or none that a token has to itself (gspo). Where the
trainer recomputes log-probabilities itself (`config.behaviour`), claims do not enter and the bound is 0.

Suffixes: N tokens of one group, K prices, S sequences.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.constants import NANO, SURPRISAL_FLOOR_NATS
from protocol.verdict import Thresholds
from trainer.loss import Band, Clip

Floats = NDArray[np.float64]

LOWEST_CLAIM = -0.001
"""The least surprisal that admission takes: a float32 log-softmax may round above 0 (`protocol/wire.md` 4.5)."""
NUM_PRICES, NUM_MULTIPLIERS = 256, 96


@dataclass(frozen=True, slots=True)
class Truth:
    """One group as replay and trainer see it, its completions' tokens end to end."""

    surprisals_N: Floats
    """−log p of the policy that was leased: what replay recomputes and an honest worker claims."""
    logprobs_N: Floats
    """log p of the policy under training."""
    advantages_N: Floats
    sequence_N: NDArray[np.int64]
    sizes_N: Floats
    """What a unit of weight on the token is worth: |A| × the norm of its gradient of log p, or |A|."""


def gap_budget(thresholds: Thresholds, num_tokens: int) -> float:
    """Return the largest total gap, in nats, of a group that `verdict.judge` lets pass."""
    bounds = thresholds.gap
    return (bounds.reference * num_tokens + bounds.group) / NANO


def most_distortion(truth: Truth, *, budget: float, clip: Clip, band: Band) -> float:
    """Return the most that Σ sizes × |w(claimed) − w(true)| can be under a total gap of `budget` nats.

    Divided by the step's number of tokens it bounds the norm by which the group's part of the gradient
    moves (triangle inequality), in the units of `sizes_N`.
    """
    prices_K = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, NUM_PRICES - 1)]) * budget
    gains_NK = truth.sizes_N[:, None] * _gains(truth, np.append(prices_K[1:], budget), clip)
    drop_prices_S, drop_gains_S = _drops(truth, clip, band)
    is_reached_S = drop_prices_S <= budget
    found = np.inf
    for multiplier in np.geomspace(1e-4, 1e4, NUM_MULTIPLIERS) * truth.sizes_N.max(initial=1e-12):
        lies = np.max(gains_NK - multiplier * prices_K, axis=1).clip(0).sum()
        drops = np.where(is_reached_S, drop_gains_S - multiplier * drop_prices_S, 0).clip(0).sum()
        found = min(found, float(multiplier * budget + lies + drops))
    # Whatever is spent: every token at its worst, every sequence out.
    return min(found, float(gains_NK[:, -1].sum() + drop_gains_S[is_reached_S].sum()))


def weights(ratios: Floats, advantages: Floats, clip: Clip) -> Floats:
    """Return by what each token's gradient of log p times its advantage is multiplied in `loss.grpo`."""
    is_free = np.where(
        advantages > 0, ratios <= 1 + clip.high, (ratios >= 1 - clip.low) & (ratios <= clip.cap)
    )
    return np.where(is_free & (advantages != 0), ratios, 0.0)


def price(surprisals: Floats, claims: Floats) -> Floats:
    """Return the gap that replay finds where `claims` are made of `surprisals`."""
    floor = SURPRISAL_FLOOR_NATS
    return np.asarray(np.abs(np.log(floor + np.maximum(claims, 0.0)) - np.log(floor + surprisals)))


def _gains(truth: Truth, prices_K: Floats, clip: Clip) -> Floats:
    """Return the largest change of each token's weight for each price, N by K."""
    floor = SURPRISAL_FLOOR_NATS
    scaled_NK = (floor + truth.surprisals_N[:, None]) * np.ones_like(prices_K)
    highest_NK = scaled_NK * np.exp(np.minimum(prices_K, 50.0)) - floor
    lowest_NK = scaled_NK * np.exp(-prices_K) - floor
    lowest_NK = np.where(lowest_NK <= 0, LOWEST_CLAIM, lowest_NK)
    logprobs_N1 = truth.logprobs_N[:, None]
    low_NK, high_NK = (
        np.exp(np.clip(logprobs_N1 + claim_NK, -50, 50)) for claim_NK in (lowest_NK, highest_NK)
    )
    advantages_N = truth.advantages_N
    true_N1 = weights(np.exp(truth.logprobs_N + truth.surprisals_N), advantages_N, clip)[:, None]
    is_good_N1 = advantages_N[:, None] > 0
    least_N1 = np.where(is_good_N1, 0.0, 1 - clip.low)
    most_N1 = np.where(is_good_N1, 1 + clip.high, clip.cap)
    can_count_NK = (low_NK <= most_N1) & (high_NK >= least_N1)
    largest_NK = np.where(can_count_NK, np.minimum(high_NK, most_N1), 0.0)
    can_vanish_NK = (high_NK > most_N1) | (low_NK < least_N1)
    smallest_NK = np.where(can_vanish_NK, 0.0, low_NK)
    found_NK = np.maximum(largest_NK - true_N1, true_N1 - smallest_NK)
    return np.where(advantages_N[:, None] == 0, 0.0, found_NK.clip(0))


def _drops(truth: Truth, clip: Clip, band: Band) -> tuple[Floats, Floats]:
    """Return for each sequence the least price of having it left out, and what that takes away.

    A sequence that the truth leaves out may be let in for nothing, with every token at its cap.
    """
    log_ratios_N = truth.logprobs_N + truth.surprisals_N
    true_N = weights(np.exp(log_ratios_N), truth.advantages_N, clip)
    found = []
    for sequence in np.unique(truth.sequence_N):
        own = truth.sequence_N == sequence
        mean = float(log_ratios_N[own].mean())
        is_out = not np.log(band.mean_low) <= mean <= np.log(band.mean_high)
        is_out |= bool((np.abs(log_ratios_N[own]) > np.log(band.absurd)).any())
        if is_out:
            found.append((0.0, float(truth.sizes_N[own].sum() * clip.cap)))
        else:
            taken = float((truth.sizes_N[own] * true_N[own]).sum())
            found.append((_drop_price(truth, own, mean, band), taken))
    prices, gains = zip(*found, strict=True)
    return np.array(prices), np.array(gains)


def _drop_price(truth: Truth, own: NDArray[np.bool_], mean: float, band: Band) -> float:
    """Return no more than the least total gap that takes one sequence out of its band.

    Claims move by (f + r)(e^p − 1) upwards, convex in the price, so all of it on the least likely token
    goes furthest; and by less than (f + r) p downwards.
    """
    surprisals, logprobs = truth.surprisals_N[own], truth.logprobs_N[own]
    largest = SURPRISAL_FLOOR_NATS + float(surprisals.max())
    count, limit = len(surprisals), np.log(band.absurd)
    upwards = np.log1p(count * (np.log(band.mean_high) - mean) / largest)
    downwards = count * max(0.0, mean - np.log(band.mean_low) + LOWEST_CLAIM) / largest
    absurd = price(surprisals, limit - logprobs).min()
    tiny = -limit - logprobs
    vanishing = np.where(tiny >= LOWEST_CLAIM, price(surprisals, tiny), np.inf).min()
    return float(min(upwards, downwards, absurd, vanishing))
