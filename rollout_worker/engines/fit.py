"""Refuse, in words, a request that an engine could only cut short."""

from rollout_worker.engines.base import Request


def require_fit(request: Request, max_model_len: int) -> None:
    """Raise `ValueError` unless the prompt and every token asked for fit the engine's context."""
    length = len(request.prompt) + request.max_tokens
    if not request.prompt or request.max_tokens < 1 or length > max_model_len:
        raise ValueError(
            f"a prompt of {len(request.prompt)} and {request.max_tokens} tokens does not fit "
            f"max_model_len {max_model_len}: raise it, or serve runs with shorter completions"
        )
