"""An attack tool: an engine that silently rounds the weights it is given.

It stands for the cheat that pays best, serving a smaller or quantised model at the full price, and
exists so that tests and the demo have something real to catch. Honest workers never open it.
"""

from collections.abc import Sequence

import numpy as np

from protocol.policies.manifest import HostTensor, Weights
from rollout_worker.engines.base import Completion, Engine, Request


class RoundedEngine:
    """Wraps an engine; reports its class, samples from rounded weights."""

    def __init__(self, inner: Engine, *, bits: int) -> None:
        self._inner = inner
        self._bits = bits
        self.name = inner.name

    def load(self, weights: Weights) -> None:
        self._inner.load(rounded(weights, bits=self._bits))

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        return self._inner.generate(requests)

    def close(self) -> None:
        self._inner.close()


def rounded(weights: Weights, *, bits: int) -> dict[str, HostTensor]:
    """Round every matrix to symmetric integers of `bits` bits per row, kept in float32.

    That is what an engine for such weights computes with: whole numbers times a scale. Vectors (norms, biases) stay, as in common weight-only quantisation.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"quantise_bits {bits} must be from 2 to 8")
    return {
        name: _rounded(tensor, bits) if len(tensor.shape) == 2 else tensor
        for name, tensor in weights.items()
    }


def _rounded(tensor: HostTensor, bits: int) -> HostTensor:
    from rollout_worker.engines.causal import host_tensor_of, tensor_of

    exact = tensor_of(tensor)
    matrix = exact.float()
    largest = 2 ** (bits - 1) - 1
    scale = matrix.abs().amax(dim=1, keepdim=True).clamp(min=float(np.finfo(np.float32).tiny))
    steps = (matrix / scale * largest).round()
    return host_tensor_of(steps * scale / largest)
