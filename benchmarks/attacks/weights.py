"""What a cheat does to the weights that it was given: noise of two kinds.

Rounding to integers is `rollout_worker/engines/rounded.py`'s. Everything comes back in the policy's own
dtype, as an engine takes it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from protocol.policies.manifest import HostTensor, Weights
from rollout_worker.engines.causal import host_tensor_of, tensor_of


def noisy(weights: Weights, *, share: float, seed: int) -> dict[str, HostTensor]:
    """Multiply every weight by 1 + `share` × N(0, 1), and round to the policy's dtype."""
    draw = torch.Generator().manual_seed(seed)
    return _changed(
        weights, lambda w: w * (1 + share * torch.randn(w.shape, generator=draw, dtype=w.dtype))
    )


def shifted(weights: Weights, *, size: float, seed: int) -> dict[str, HostTensor]:
    """Add `size` × N(0, 1) to every weight."""
    draw = torch.Generator().manual_seed(seed)
    return _changed(
        weights, lambda w: w + size * torch.randn(w.shape, generator=draw, dtype=w.dtype)
    )


def _changed(weights: Weights, change: Callable[[Tensor], Tensor]) -> dict[str, HostTensor]:
    def one(host: HostTensor) -> HostTensor:
        exact = tensor_of(host)
        return host_tensor_of(change(exact.float()).to(exact.dtype))

    return {name: one(weights[name]) for name in sorted(weights)}
