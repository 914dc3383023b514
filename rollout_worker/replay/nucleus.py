"""Cut a distribution to its nucleus: the most probable tokens that together reach p (arXiv:1904.09751).

No run samples so; it is what a cheat may do, and what a verifier tries in order to name it.
"""

import torch
from torch import Tensor

OUTSIDE = -1e4
"""The logit of a token outside: it cannot win, and stays a number."""


def within_nucleus(logits_NV: Tensor, temperatures_N: Tensor, nucleus: float) -> Tensor:
    """Return the logits with every token outside the nucleus of softmax(logits / T) at `OUTSIDE`."""
    scaled_NV = logits_NV.float() / temperatures_N[:, None]
    ordered_NV, places_NV = scaled_NV.softmax(dim=1).sort(dim=1, descending=True)
    # A token belongs where those before it do not reach p yet, so the first always does.
    is_outside_NV = ordered_NV.cumsum(dim=1) - ordered_NV >= nucleus
    is_outside_NV = torch.zeros_like(is_outside_NV).scatter_(1, places_NV, is_outside_NV)
    return logits_NV.float().masked_fill(is_outside_NV, OUTSIDE)
