"""Refuse, in words, what an engine could only get wrong: too long a request, a foreign policy."""

from collections.abc import Mapping

from protocol.policies.manifest import Weights
from rollout_worker.engines.base import Request

Shapes = Mapping[str, tuple[int, ...]]


def require_fit(request: Request, max_model_len: int) -> None:
    """Raise `ValueError` unless the prompt and every token asked for fit the engine's context."""
    length = len(request.prompt) + request.max_tokens
    if not request.prompt or request.max_tokens < 1 or length > max_model_len:
        raise ValueError(
            f"a prompt of {len(request.prompt)} and {request.max_tokens} tokens does not fit "
            f"max_model_len {max_model_len}"
        )


def require_same_model(weights: Weights, shapes: Shapes) -> None:
    """Raise `ValueError` unless the policy has exactly the model's tensors, in its shapes."""
    if strange := sorted(weights.keys() ^ shapes.keys()):
        raise ValueError(f"tensors missing from or foreign to the model: {strange[:5]}")
    for name, shape in shapes.items():
        if weights[name].shape != shape:
            raise ValueError(f"{name} has shape {weights[name].shape}, the model {shape}")
