"""Whether a model's config.json fits a run: room for its longest rollout, and nothing fetched from elsewhere."""

from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from protocol.run import RunSpec

FETCHING = frozenset(
    {
        "auto_map",
        "attn_implementation",
        "_attn_implementation",
        "experts_implementation",
        "_experts_implementation",
        "quantization_config",
        "speculators_config",
    }
)
"""Fields by which libraries fetch code, kernels or other weights, whatever they are opened with."""


class Architecture(BaseModel):
    """The field of a model's config.json that is read here; a model without it has no such limit."""

    max_position_embeddings: int | None = None


def why_unfit(config_json: bytes, spec: RunSpec) -> str | None:
    """Return why a machine that serves the run must not open the model, or None where it may."""
    try:
        most = Architecture.model_validate_json(config_json).max_position_embeddings
    except ValidationError as error:
        return f"the model's config.json cannot be read: {error.errors()[0]['msg']}"
    if fetching := sorted(_fields(from_json(config_json)) & FETCHING):
        return (
            f"the model's config.json names {', '.join(fetching)}, by which libraries run what is not the "
            "run's: launch the run with a model without them"
        )
    if most is None or spec.max_model_len <= most:
        return None
    return (
        f"prompts of {spec.max_prompt_tokens} and completions of {spec.max_tokens} tokens do not fit the "
        f"model's {most} positions (max_position_embeddings): lower the run's max_prompt_tokens or "
        "max_tokens, or take another model"
    )


def _fields(value: Any) -> set[str]:
    """Return the names of all fields at any depth, of which a JSON reader takes 200."""
    if isinstance(value, dict):
        return set(value).union(*map(_fields, value.values()))
    return set().union(*map(_fields, value)) if isinstance(value, list) else set()
