"""What a cheat does to the weights that it was given: noise, a colder head, an fp8 cache.

Rounding to integers is `rollout_worker/engines/rounded.py`'s. Everything comes back in the policy's own
dtype, as an engine takes it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from protocol.policy import HostTensor, Weights
from rollout_worker.engines.causal import CausalModel, host_tensor_of, tensor_of

FINAL_NORM = "model.norm.weight"


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


def colder(weights: Weights, *, temperature: float) -> dict[str, HostTensor]:
    """Divide the final norm by the temperature, which divides every logit by it.

    So one samples colder on unmodified vLLM, which knows no temperature under seeded noise.
    """
    norm = tensor_of(weights[FINAL_NORM])
    scaled = (norm.float() / temperature).to(norm.dtype)
    return {**{n: weights[n] for n in weights}, FINAL_NORM: host_tensor_of(scaled)}


def _changed(weights: Weights, change: Callable[[Tensor], Tensor]) -> dict[str, HostTensor]:
    def one(host: HostTensor) -> HostTensor:
        exact = tensor_of(host)
        return host_tensor_of(change(exact.float()).to(exact.dtype))

    return {name: one(weights[name]) for name in sorted(weights)}


class Fp8Cache(DynamicCache):
    """A KV cache that holds keys and values in float8 (e4m3, scale 1), as vLLM's `fp8` cache does.

    An emulation: what is read back is bfloat16 again, so the attention's own arithmetic is exact.
    """

    def update(self, key_states: Tensor, value_states: Tensor, *rest: Any, **named: Any) -> Any:
        return super().update(_through_fp8(key_states), _through_fp8(value_states), *rest, **named)


class Fp8Decoder:
    """A decoder that swaps every fresh cache for an `Fp8Cache`."""

    def __init__(self, decoder: Any, config: Any) -> None:
        self._decoder = decoder
        self._config = config

    def __call__(self, **arguments: Any) -> Any:
        cache = arguments.get("past_key_values")
        if not isinstance(cache, Fp8Cache):
            arguments |= {"past_key_values": Fp8Cache(config=self._config), "use_cache": True}
        return self._decoder(**arguments)


def with_fp8_cache(model: CausalModel) -> Callable[[], None]:
    """Make a model keep its cache in fp8; return what undoes it."""
    exact = model.decoder
    model.decoder = Fp8Decoder(exact, model.config)

    def undo() -> None:
        model.decoder = exact

    return undo


def _through_fp8(states: Tensor) -> Tensor:
    return states.to(torch.float8_e4m3fn).to(states.dtype)
