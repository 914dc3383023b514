"""A sure token's surprisal is exact: of one row at once, and in the contest by blocks of the vocabulary."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from rollout_worker.engines.likelihood import logprobs_of
from rollout_worker.replay.contest import Claims, decide

SURPRISALS = (1.0, 1e-1, 1e-3, 1e-5, 1e-7, 1e-8, 1e-9)
PEAK = 20.0
"""Logits of trained models are of this size: float32 numbers there are 2e-6 apart."""


def made(vocabulary_size: int) -> tuple[Tensor, Tensor]:
    """Return a row of logits per surprisal, and the token whose it is, with others all unlike."""
    draw = np.random.default_rng(vocabulary_size)
    tokens = draw.integers(0, vocabulary_size, size=len(SURPRISALS))
    rows = draw.normal(0, 2, size=(len(SURPRISALS), vocabulary_size))
    places = np.arange(len(tokens))
    rows[places, tokens] = -np.inf
    weights = np.exp(rows).sum(axis=1)
    rows += (PEAK + np.log(np.expm1(SURPRISALS)) - np.log(weights))[:, None]
    rows[places, tokens] = PEAK
    return torch.from_numpy(rows.astype(np.float32)), torch.from_numpy(tokens)


def in_float64(logits_NV: Tensor, tokens_N: Tensor) -> Tensor:
    """Return the surprisals of the very same float32 logits, by the sum over the other tokens."""
    others = logits_NV.double().scatter(1, tokens_N[:, None], -torch.inf).logsumexp(dim=1)
    own = logits_NV.double().gather(1, tokens_N[:, None])[:, 0]
    return torch.log1p((others - own).exp())


def by_blocks(logits_NV: Tensor, tokens_N: Tensor) -> Tensor:
    count, vocabulary_size = logits_NV.shape
    claims = Claims(
        tokens_N=tokens_N,
        seeds_N=torch.arange(count),
        positions_N=torch.arange(count),
        temperatures_N=torch.ones(count),
    )
    decided = decide(
        claims, lambda rows, ids: logits_NV[rows, ids], vocabulary_size, buffer_bytes=1 << 20
    )
    return decided.logprobs_N


@pytest.mark.parametrize("vocabulary_size", [128, 5_000])
@pytest.mark.parametrize("way", [logprobs_of, by_blocks])
def test_surprisals_are_exact_however_sure_a_token_is(
    way: Callable[[Tensor, Tensor], Tensor], vocabulary_size: int
) -> None:
    logits_NV, tokens_N = made(vocabulary_size)
    true = in_float64(logits_NV, tokens_N).numpy()
    assert true == pytest.approx(np.array(SURPRISALS), rel=1e-4)
    found = -way(logits_NV, tokens_N).double().numpy()
    assert np.abs(found / true - 1).max() < 1e-5


def test_a_log_softmax_loses_them() -> None:
    """What both ways stand in place of: below 1e-7 the plain one says 0, or twice the truth."""
    logits_NV, tokens_N = made(128)
    true = in_float64(logits_NV, tokens_N).numpy()
    plain = -logits_NV.log_softmax(dim=1).gather(1, tokens_N[:, None])[:, 0].double().numpy()
    off = np.abs(plain / true - 1)
    assert (off[true < 1e-7 * 0.99] > 0.1).all()
    assert off[true > 1e-2].max() < 1e-5
