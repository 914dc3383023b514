"""Which models a run may have, by their config.json: what trainer, engines and replay are known to compute.

A library opens almost anything. The trainer's packed forward and a replay over shared prompts are exact only where an
architecture is built as they suppose, so what is not known to be is refused: `tests/market/test_architectures.py`
holds each row of `KNOWN` to the library's own forward. Left out: what a folder's weights are (`client/model_folder.py`).
"""

from dataclasses import dataclass
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

ROTATIONS = frozenset({"default", "linear", "llama3", "yarn"})
"""Rotary embeddings that do not change with the length of what is computed together, as `dynamic` and `longrope` do."""


@dataclass(frozen=True, slots=True)
class Known:
    """An architecture, and what the library supposes where its config.json says nothing."""

    name: str
    """As config.json has it in `architectures`, by which vLLM chooses."""
    window: int | None = None
    is_tied: bool = False
    is_in_vllm: bool = True
    """Whether vLLM has it as its own; it serves others through transformers' code, which it changes for all."""


KNOWN = {
    "gemma": Known("GemmaForCausalLM", is_tied=True),
    "gemma3_text": Known("Gemma3ForCausalLM", window=4096, is_tied=True),
    "glm4": Known("Glm4ForCausalLM"),
    "llama": Known("LlamaForCausalLM"),
    "mistral": Known("MistralForCausalLM", window=4096),
    "olmo": Known("OlmoForCausalLM", is_in_vllm=False),
    "olmo2": Known("Olmo2ForCausalLM", is_in_vllm=False),
    "olmo3": Known("Olmo3ForCausalLM", window=4096, is_in_vllm=False),
    "phi3": Known("Phi3ForCausalLM"),
    "qwen2": Known("Qwen2ForCausalLM"),
    "qwen3": Known("Qwen3ForCausalLM"),
    "smollm3": Known("SmolLM3ForCausalLM", is_tied=True, is_in_vllm=False),
    "starcoder2": Known("Starcoder2ForCausalLM", is_tied=True, is_in_vllm=False),
}
"""By `model_type`. Others have experts, biased or scaled heads, or an attention that is not handed over whole."""


class Architecture(BaseModel):
    """The fields of a model's config.json that are read here."""

    model_type: str = ""
    architectures: list[str] | None = None
    vocab_size: int = 0
    max_position_embeddings: int | None = None
    """A model without it has no such limit."""
    sliding_window: int | None = None
    use_sliding_window: bool | None = None
    tie_word_embeddings: bool | None = None
    eos_token_id: int | list[int] | None = None

    @property
    def known(self) -> Known | None:
        return KNOWN.get(self.model_type)

    @property
    def window(self) -> int | None:
        """Return how many positions a layer looks back at least; None for all of them."""
        if self.use_sliding_window is False or self.known is None:
            return None
        is_said = "sliding_window" in self.model_fields_set
        return self.sliding_window if is_said else self.known.window

    @property
    def is_tied(self) -> bool:
        """Return whether the output embedding is the input embedding."""
        if self.tie_word_embeddings is None:
            return self.known is not None and self.known.is_tied
        return self.tie_word_embeddings

    @property
    def ends(self) -> set[int]:
        """Return the tokens that end a text."""
        ids = self.eos_token_id
        return set(ids) if isinstance(ids, list) else set() if ids is None else {ids}


def why_unfit(config_json: bytes, spec: RunSpec) -> str | None:
    """Return why a machine that serves the run must not open the model, or None where it may."""
    return why_unknown(
        config_json, max_prompt_tokens=spec.max_prompt_tokens, max_tokens=spec.max_tokens
    )


def why_unknown(config_json: bytes, *, max_prompt_tokens: int, max_tokens: int) -> str | None:
    """Return why no run of such lengths may have the model, or None where one may."""
    try:
        found = Architecture.model_validate_json(config_json)
    except ValidationError as error:
        return f"the model's config.json cannot be read: {error.errors()[0]['msg']}"
    values = from_json(config_json)
    if fetching := sorted(_fields(values) & FETCHING):
        return (
            f"the model's config.json names {', '.join(fetching)}, by which libraries run what is not the "
            "run's: launch the run with a model without them"
        )
    if found.known is None:
        return (
            f"models of model_type {found.model_type!r} are not known to be computed alike by trainer, "
            f"engines and replay: take one of {', '.join(KNOWN)}"
        )
    if found.architectures is not None and found.architectures != [found.known.name]:
        return (
            f"the model's config.json names the architectures {found.architectures}, its model_type is "
            f"{found.model_type}, whose is {found.known.name}: take the language model itself"
        )
    if strange := sorted(_rotations(values) - ROTATIONS):
        return (
            f"the model's rotary embedding is {', '.join(strange)}, which changes with a text's length: take "
            f"a model with one of {', '.join(sorted(ROTATIONS))}"
        )
    return _why_too_long(found, max_prompt_tokens, max_tokens)


def _why_too_long(found: Architecture, max_prompt_tokens: int, max_tokens: int) -> str | None:
    limits = {
        "max_position_embeddings": found.max_position_embeddings,
        "sliding_window": found.window,
    }
    for field, most in limits.items():
        if most is not None and max_prompt_tokens + max_tokens > most:
            return (
                f"prompts of {max_prompt_tokens} and completions of {max_tokens} tokens do not fit the "
                f"model's {most} positions ({field}): lower the run's max_prompt_tokens or "
                "max_tokens, or take another model"
            )
    return None


def _fields(value: Any) -> set[str]:
    """Return the names of all fields at any depth, of which a JSON reader takes 200."""
    if isinstance(value, dict):
        return set(value).union(*map(_fields, value.values()))
    return set().union(*map(_fields, value)) if isinstance(value, list) else set()


def _rotations(value: Any) -> set[str]:
    """Return the kinds of rotary embedding that are named, at any depth: by layer type, or for all."""
    if not isinstance(value, dict):
        return set()
    own = {str(value[key]) for key in ("rope_type", "type") if key in value}
    return own.union(*map(_rotations, value.values()))
