"""The log-probability of a token, as exact near probability 1 as anywhere.

`logit − logsumexp` loses it there: both are near 20, where float32 numbers are 2e-6 apart, so a surprisal
below 1e-5 is mostly rounding. Summed over the *other* tokens it is

    −log p(c) = log(1 + Σ_{v≠c} exp(l_v − l_c)) = softplus(logsumexp_{v≠c}(l_v) − l_c),

whose relative error is the absolute error of the logits, however sure the token is. Every engine reports
this and replays recompute it (`contest.py`, by blocks), so that honest claims differ by arithmetic alone.
"""

import torch
from torch import Tensor


def logprobs_of(scaled_BV: Tensor, tokens_B: Tensor) -> Tensor:
    """Return the log-probabilities of one token per row under softmax(`scaled_BV`), in float32."""
    claimed_B = scaled_BV.gather(1, tokens_B[:, None])[:, 0]
    others_BV = scaled_BV.scatter(1, tokens_B[:, None], -torch.inf)
    return surprisals(others_BV.logsumexp(dim=1) - claimed_B).neg_()


def surprisals(odds_B: Tensor) -> Tensor:
    """Return −log p where `odds_B` is the logarithm of all other tokens' weight over the token's own."""
    return torch.nn.functional.softplus(odds_B)
