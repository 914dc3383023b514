"""The bound on what false log-probabilities can do: against the loss itself, and against search."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from benchmarks.distortion import Truth, most_distortion, price, weights
from trainer.loop import without_outliers
from trainer.loss import Band, Clip, Tokens, Whole, grpo

CLIP, BAND = Clip(0.2, 0.28, 4.0), Band(0.5, 2.0, 1e4)
NO_BAND = Band(1e-30, 1e30, 1e30)


def truth(seed: int, *, num_tokens: int = 40, staleness: float = 0.1) -> Truth:
    """A group of four completions whose tokens are mostly sure, as a trained model's are."""
    draws = np.random.default_rng(seed)
    surprisals = draws.exponential(0.3, num_tokens) ** 2
    advantages = np.repeat([0.75, -0.25, -0.25, -0.25], num_tokens // 4)
    return Truth(
        surprisals_N=surprisals,
        logprobs_N=-surprisals + draws.normal(0, staleness, num_tokens),
        advantages_N=advantages,
        sequence_N=np.repeat(np.arange(4), num_tokens // 4),
        sizes_N=np.abs(advantages) * draws.uniform(0.1, 5, num_tokens),
    )


def entering(found: Truth, claims: np.ndarray, band: Band) -> np.ndarray:
    """What each token's gradient is multiplied with, as the loss and its outlier mask do it."""
    logprobs = torch.tensor(found.logprobs_N, requires_grad=True)
    tokens = Tokens(
        logprobs_N=logprobs,
        behaviour_N=torch.tensor(-claims),
        advantages_N=torch.tensor(found.advantages_N),
        mask_N=torch.ones(len(claims), dtype=torch.bool),
        sequence_N=torch.tensor(found.sequence_N),
        num_sequences=4,
    )
    tokens, _ = without_outliers(tokens, band)
    grpo(tokens, CLIP, Whole(1, 4, 10)).backward()
    assert logprobs.grad is not None
    return np.asarray(-logprobs.grad.numpy() / found.advantages_N)


def moved(found: Truth, claims: np.ndarray, band: Band) -> float:
    change = entering(found, claims, band) - entering(found, found.surprisals_N, band)
    return float((found.sizes_N * np.abs(change)).sum())


def test_weights_are_those_of_the_loss() -> None:
    for seed in range(5):
        found = truth(seed, staleness=1.0)
        ratios = np.exp(found.logprobs_N + found.surprisals_N)
        assert weights(ratios, found.advantages_N, CLIP) == pytest.approx(
            entering(found, found.surprisals_N, NO_BAND)
        )


def greedy(found: Truth, budget: float, draws: np.random.Generator) -> np.ndarray:
    """Spend a budget on the lies that look best, or on some of them."""
    lp, is_good = found.logprobs_N, found.advantages_N > 0
    aims = np.stack(
        [
            np.where(is_good, np.log(1.28) + 1e-6, np.log(4.0) - 1e-6) - lp,
            np.where(is_good, np.log(1.28) - 1e-6, np.log(4.0) + 1e-6) - lp,
            np.where(is_good, -0.0009, np.log(0.8) - 1e-6 - lp),
            np.log(1e4) + 1e-6 - lp,
        ]
    )
    aims = np.maximum(aims, -0.0009)
    claims = found.surprisals_N.copy()
    spent = 0.0
    prices = np.stack([price(found.surprisals_N, aim) for aim in aims])
    noise = draws.uniform(0.3, 1, prices.shape)
    for flat in np.argsort(prices / (found.sizes_N + 1e-9) / noise, axis=None):
        kind, token = np.unravel_index(flat, prices.shape)
        if claims[token] == found.surprisals_N[token] and spent + prices[kind, token] <= budget:
            claims[token] = aims[kind, token]
            spent += float(prices[kind, token])
    return claims


@pytest.mark.parametrize("band", [BAND, NO_BAND])
@pytest.mark.parametrize("staleness", [0.0, 0.3])
def test_no_lie_that_was_found_gets_past_the_bound(band: Band, staleness: float) -> None:
    """1,200 searches; the best reaches a good part of the bound, so the bound says something."""
    reached = []
    for seed in range(10):
        found = truth(seed, staleness=staleness)
        draws = np.random.default_rng(seed)
        for budget in (0.1, 1.0, 5.0):
            bound = most_distortion(found, budget=budget, clip=CLIP, band=band)
            lies = [greedy(found, budget, draws) for _ in range(10)]
            assert all(price(found.surprisals_N, c).sum() <= budget + 1e-9 for c in lies)
            best = max(moved(found, claims, band) for claims in lies)
            assert best <= bound
            reached.append(best / bound)
    assert max(reached) > 0.7


def test_nothing_to_spend_moves_nothing_and_more_moves_more() -> None:
    found = truth(3)
    bounds = [most_distortion(found, budget=b, clip=CLIP, band=BAND) for b in (0, 0.1, 1, 10, 1e6)]
    assert bounds[0] == pytest.approx(0, abs=1e-2)
    assert all(less <= more * 1.001 for less, more in pairwise(bounds))
    all_lost = 2 * (found.sizes_N * 4).sum()
    assert bounds[-1] <= all_lost
