"""Hold what was opened to the library's plain forward of the same bits, before anything is sold or judged by it.

An engine may leave out a bias, keep an old copy of a head, or put experts in another order at a reload. Its owner
would learn it from a verifier. So two short texts are computed as opened, after a reload with other bits, and after
one with the first ones; on a difference the engine does not open.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from protocol.policies.manifest import HostTensor, Weights
from protocol.precision import ComputeDtype
from rollout_worker.engines.base import Engine, Request
from rollout_worker.engines.causal import CausalModel

LONGEST_PROMPT = 24
MOST_TOKENS = 12


@dataclass(frozen=True, slots=True)
class Computed:
    """A text and the log-probabilities that were computed of its tokens, at temperature 1."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    logprobs: NDArray[np.float64]


Compute = Callable[[], Sequence[Computed]]


class Loading(Protocol):
    """What takes a policy: an engine, a replayer, a model."""

    def load(self, weights: Weights) -> None: ...


def require_plain(
    opened: Loading, compute: Compute, plain: CausalModel, policy: Weights, *, name: str
) -> None:
    """Raise `ValueError` if `compute` differs from the plain forward, as opened or after a reload.

    `policy` is what was opened, and is loaded at the end. `plain` may be the very model of `opened`.
    """
    _compare(compute(), plain, f"{name}, as it was opened,")
    for weights in (turned(policy), policy):
        for holder in (opened, plain):
            holder.load(weights)
        _compare(compute(), plain, f"{name}, after a reload,")


def probe_of(engine: Engine, *, vocabulary_size: int, max_model_len: int) -> Compute:
    """Return how an engine computes: it samples siblings of two prompts, and says how likely each token was."""
    prompts, num_tokens = prompts_within(max_model_len, vocabulary_size)
    requests = [
        Request(prompt, seed, temperature=1.0, max_tokens=num_tokens, eos_token_ids=())
        for prompt in prompts
        for seed in (1, 2)
    ]

    def compute() -> list[Computed]:
        return [
            Computed(request.prompt, tuple(done.tokens.tolist()), done.logprobs.astype(float))
            for request, done in zip(requests, engine.generate(requests), strict=True)
        ]

    return compute


def prompts_within(
    max_model_len: int, vocabulary_size: int
) -> tuple[tuple[tuple[int, ...], ...], int]:
    """Return two prompts of unequal length, and how many tokens may follow them."""
    num_tokens = min(MOST_TOKENS, max(1, max_model_len // 2))
    length = max(1, min(LONGEST_PROMPT, max_model_len - num_tokens))
    ids = np.random.default_rng(0).integers(0, vocabulary_size, 2 * length).tolist()
    return (tuple(ids[:length]), tuple(ids[length : length + max(1, length // 3)])), num_tokens


@torch.inference_mode()
def plain_logprobs(
    model: CausalModel, prompt: Sequence[int], tokens: Sequence[int]
) -> NDArray[np.float64]:
    """Return log-probabilities of tokens by the library's own forward, which nothing here had a part in."""
    ids_1S = torch.tensor([[*prompt, *tokens]], device=model.device)
    logits_SV = model.whole(input_ids=ids_1S, use_cache=False).logits[0].double()
    logprobs_NV = logits_SV[len(prompt) - 1 : -1].log_softmax(dim=-1)
    found: NDArray[np.float64] = (
        logprobs_NV.gather(1, ids_1S[0, len(prompt) :, None])[:, 0].cpu().numpy()
    )
    return found


def turned(policy: Weights) -> dict[str, HostTensor]:
    """Return other weights of the same sizes: each tensor's numbers, moved by one place."""
    found = {}
    for name, tensor in policy.items():
        bits: Any = np.roll(tensor.bits, 1)
        found[name] = HostTensor(tensor.dtype, tensor.shape, bits)
    return found


def _compare(found: Sequence[Computed], plain: CausalModel, what: str) -> None:
    expected = np.concatenate([plain_logprobs(plain, text.prompt, text.tokens) for text in found])
    computed = np.concatenate([text.logprobs for text in found])
    if not np.isfinite(expected).all():
        return  # such weights are no model's: `turned` may make them
    apart, most = float(np.abs(computed - expected).mean()), ComputeDtype(plain.dtype).probe_nats
    if not apart <= most:
        raise ValueError(
            f"{what} computes log-probabilities {apart:.3g} nats a token from the library's plain forward of "
            f"the same weights, where {plain.dtype} allows {most}: it does not compute this model"
        )
