"""What must hold before training begins: the same bits in every life, and a model that can be computed here.

Architectures differ in what they hand to their attention, and in what their heads have besides weights. The packed
forward is held to the library's own on a short text: a difference is a line about the folder, before a step is made of it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from client.model_folder import CONFIG, WEIGHTS, require_model
from protocol.architectures import why_unknown
from protocol.precision import ComputeDtype
from protocol.user_error import UserError, one_line
from trainer.batch import BatchRollout, Group, Microbatch, pack

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
WORKSPACES = (":4096:8", ":16:8")
"""NVIDIA's cuBLAS documentation, "Results Reproducibility"."""


PROMPT, COMPLETIONS = 20, [12, 7]
"""Tokens of the text that is computed at the start."""


class Untrainable(UserError, ValueError):
    """The model is of an architecture, or has weights, that the packed forward does not know."""


def compute_alike(threads: int) -> None:
    """Have torch give the same bits in every life of a process; call it before its first work on a GPU."""
    # cuBLAS gives them with a workspace of one of these forms only, and torch refuses products without.
    if os.environ.get(WORKSPACE) not in WORKSPACES:
        os.environ[WORKSPACE] = WORKSPACES[0]
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)


@contextmanager
def opening(model_dir: Path) -> Iterator[None]:
    """Turn what a folder makes the library raise into one line about that folder."""
    try:
        require_model(model_dir, (CONFIG, WEIGHTS))
        config = (model_dir / CONFIG).read_bytes()
        reason = why_unknown(config, max_prompt_tokens=PROMPT, max_tokens=max(COMPLETIONS))
        if reason is not None:
            raise ValueError(reason)
        yield
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise Untrainable(
            f"model_dir = {model_dir} cannot be trained: {one_line(error)}"
        ) from error


def probe(vocabulary_size: int, device: str) -> Microbatch:
    """Return a short prompt with two completions, of the same tokens each time."""
    draw = np.random.default_rng(0)
    prompt, *completions = (
        draw.integers(0, vocabulary_size, length) for length in (PROMPT, *COMPLETIONS)
    )
    rollouts = tuple(
        BatchRollout(tokens, np.zeros(len(tokens), np.float32), 0.0, False, i)
        for i, tokens in enumerate(completions)
    )
    group = Group(bytes(32), bytes(32), 0, prompt, rollouts, (0,) * len(rollouts))
    return pack([group], max_tokens=PROMPT + sum(COMPLETIONS), device=device)[0]


def require_exact(packed_N: Tensor, model: Any, text: Microbatch, *, temperature: float) -> None:
    """Raise `ValueError` if packed log-probabilities of the probe differ from the library's own forward."""
    attention = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    try:
        plain_N = _plain_logprobs(model, text, temperature)
    finally:
        model.set_attn_implementation(attention)
    apart = float((packed_N - plain_N).abs().mean())
    most = ComputeDtype(str(model.dtype).removeprefix("torch.")).probe_nats
    if not apart <= most:
        raise ValueError(
            f"the packed forward computes log-probabilities {apart:.3g} nats a token from the library's own, "
            f"where {model.dtype} allows {most}: it does not know this architecture"
        )


def _plain_logprobs(model: Any, text: Microbatch, temperature: float) -> Tensor:
    found = []
    for tokens in text.targets_N.split(COMPLETIONS):
        ids = torch.cat([text.tokens_T[:PROMPT], tokens])[None]
        logits = model(input_ids=ids, use_cache=False).logits[0, PROMPT - 1 : -1].float()
        logprobs = (logits / temperature).log_softmax(-1)
        found.append(logprobs.gather(1, tokens[:, None])[:, 0])
    return torch.cat(found)
