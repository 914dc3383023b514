"""Whether a model has enough positions for a run's longest rollout."""

from pydantic import BaseModel, ValidationError

from protocol.run import RunSpec


class Architecture(BaseModel):
    """The field of a model's config.json that is read here; a model without it has no such limit."""

    max_position_embeddings: int | None = None


def why_too_long(config_json: bytes, spec: RunSpec) -> str | None:
    """Return why the model has no room for the run's longest rollout, or None if it has."""
    try:
        most = Architecture.model_validate_json(config_json).max_position_embeddings
    except ValidationError as error:
        return f"the model's config.json cannot be read: {error.errors()[0]['msg']}"
    if most is None or spec.max_model_len <= most:
        return None
    return (
        f"prompts of {spec.max_prompt_tokens} and completions of {spec.max_tokens} tokens do not fit the "
        f"model's {most} positions (max_position_embeddings): lower the run's max_prompt_tokens or "
        "max_tokens, or take another model"
    )
