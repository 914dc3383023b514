"""What a worker asks of an engine: load a policy, turn seeds into completions.

An engine samples by the seeded stream of `protocol.sampling` and reports the log-probability of
each sampled token under softmax(logits / T), without the noise. Left out: leases, prompts as text,
rewards and when to load what.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from protocol.policies.manifest import Weights


@dataclass(frozen=True, slots=True)
class Request:
    """One rollout to sample.

    Example: the prompt `47+38=?` as ids, seed 81985529216486895, T = 1, at most 32 tokens, ended
    early by token 2, and by any other of `eos_token_ids`.
    """

    prompt: tuple[int, ...]
    seed: int
    temperature: float
    max_tokens: int
    eos_token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """Sampled ids, the end-of-sequence token included where it was drawn, and their log-probabilities."""

    tokens: NDArray[np.uint32]
    logprobs: NDArray[np.float32]


class Engine(Protocol):
    """One model in memory. Calls come from one thread at a time; which thread does not matter."""

    name: str
    """Engine and hardware, such as `vllm-cpu`: what a worker says of its work."""

    def load(self, weights: Weights) -> None:
        """Replace every weight; raises `ValueError` where names, shapes or dtypes do not fit."""

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Sample all requests, in their order."""

    def close(self) -> None:
        """Free the model and end every process that the engine started."""


def engine_name(engine: str, device: str) -> str:
    """Return what an engine on a device is called."""
    return f"{engine}-{device.partition(':')[0]}"
