"""Read a model folder as people have them: which weights a run starts from, and what ends its texts.

A folder holds more than a policy. Old files keep a table that is computed anew, and files of tied models often have
the output embedding as well, which is a copy: neither is part of what a run agrees on. Left out: which architectures
a run may have (`protocol/architectures.py`), and shards.
"""

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from protocol.architectures import Architecture
from protocol.errors import Malformed
from protocol.policies.manifest import HostTensor
from protocol.policies.patch import from_anchor
from protocol.user_error import UserError, one_line

CONFIG, TOKENIZER, WEIGHTS = "config.json", "tokenizer.json", "model.safetensors"
FILES = (CONFIG, TOKENIZER, WEIGHTS)
GENERATION = "generation_config.json"
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
DERIVED = "rotary_emb.inv_freq"
"""Ends the names of tensors that older releases of transformers saved and every one computes."""


def require_model(folder: Path, names: tuple[str, ...] = FILES) -> None:
    """Raise `UserError` naming the file that is missing or damaged; of the weights only the header is read."""
    if lacking := [name for name in names if not (folder / name).is_file()]:
        raise UserError(f"{folder} is no model folder: it has no {' and no '.join(lacking)}")
    for name in names:
        try:
            _open(folder / name)
        except (SafetensorError, ValueError, OSError) as error:
            raise UserError(
                f"{folder / name} is damaged ({one_line(error)}): fetch it whole, with `git lfs pull` if it is a pointer"
            ) from error


def read_policy(folder: Path) -> dict[str, HostTensor]:
    """Return the weights that a run of this model starts from; raise `UserError`."""
    require_model(folder, (CONFIG, WEIGHTS))
    path = folder / WEIGHTS
    try:
        found = from_anchor(path.read_bytes())
    except Malformed as error:
        raise UserError(f"{path} holds no policy: {error.message}") from error
    if architecture_of(folder).is_tied and HEAD in found:
        _require_copy(path, found)
        del found[HEAD]
    return {name: tensor for name, tensor in found.items() if not name.endswith(DERIVED)}


def architecture_of(folder: Path) -> Architecture:
    """Return what config.json says; raise `UserError` where it is none."""
    path = folder / CONFIG
    try:
        return Architecture.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise UserError(
            f"{path} is no model's config ({one_line(error)}): fetch it anew"
        ) from error


def end_tokens(folder: Path) -> tuple[int, ...]:
    """Return every token that ends a text by config.json or generation_config.json; raise `UserError`."""
    ends = architecture_of(folder).ends
    generation = folder / GENERATION
    if generation.is_file():
        try:
            ends |= Architecture.model_validate_json(generation.read_bytes()).ends
        except ValueError as error:
            raise UserError(
                f"{generation} is none ({one_line(error)}): fetch it anew, or remove it"
            ) from error
    if not ends:
        raise UserError(
            f"{folder / CONFIG} names no eos_token_id: add the id of the token that ends a text, "
            "which tokenizer_config.json calls eos_token"
        )
    return tuple(sorted(ends))


def _require_copy(path: Path, found: dict[str, HostTensor]) -> None:
    head, embedding = found[HEAD], found.get(EMBEDDING)
    if embedding is None or head.shape != embedding.shape:
        is_copy = False
    else:
        is_copy = head.dtype == embedding.dtype and np.array_equal(head.bits, embedding.bits)
    if not is_copy:
        raise UserError(
            f"{path} has {HEAD}, which is not the copy of {EMBEDDING} that a tied model's is: set "
            "tie_word_embeddings to false in config.json if the model was trained so, or take it out"
        )


def _open(path: Path) -> None:
    if path.suffix == ".json":
        json.loads(path.read_bytes())
    else:
        with safe_open(path, "numpy"):
            pass
