"""A KV cache in float8 (e4m3, scale 1), as vLLM's `fp8` cache holds it.

What a cheat may save memory with, and what a verifier tries in order to name it. An emulation: what is
read back has the compute dtype again, so the attention's own arithmetic is exact.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from rollout_worker.engines.causal import CausalModel


class Fp8Cache(DynamicCache):
    """Rounds keys and values as they are written."""

    def update(self, key_states: Tensor, value_states: Tensor, *rest: Any, **named: Any) -> Any:
        return super().update(_rounded(key_states), _rounded(value_states), *rest, **named)


def _rounded(states: Tensor) -> Tensor:
    return states.to(torch.float8_e4m3fn).to(states.dtype)


@contextmanager
def keeping_fp8(model: CausalModel) -> Iterator[None]:
    """Let a model keep its caches in fp8 inside a `with`."""
    exact, model.cache_type = model.cache_type, Fp8Cache
    try:
        yield
    finally:
        model.cache_type = exact
