"""Tiny model folders of every architecture, with random weights and the starting model's tokenizer."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from tests.stage.terms import EOS, MODEL

SIZE = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": EOS,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
OWN: dict[str, dict[str, Any]] = {
    "gemma": {"head_dim": 16},
    "gemma3_text": {"head_dim": 16},
    "glm4": {"head_dim": 16},
    "qwen3": {"head_dim": 16},
    "qwen3_moe": {
        "head_dim": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
    },
    "mixtral": {"num_local_experts": 4},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4},
    "gptj": {"n_embd": 64, "n_layer": 2, "n_head": 4, "rotary_dim": 16},
}
"""What an architecture of this size needs besides."""


def tiny(folder: Path, model_type: str = "llama", **changes: Any) -> Path:
    """Write a model folder; `changes` are fields of its config.json."""
    config = AutoConfig.for_model(model_type, **{**SIZE, **OWN.get(model_type, {}), **changes})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)  # so that tokens differ in likelihood
            elif name.endswith("bias"):
                parameter.normal_()
    model.to(torch.bfloat16).save_pretrained(folder)
    shutil.copy(MODEL / "tokenizer.json", folder)
    return folder


def rewritten(folder: Path, **changes: Any) -> Path:
    """Change fields of config.json in place; one that is set to ... is taken out."""
    path = folder / "config.json"
    fields = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: v for name, v in fields.items() if v is not ...}))
    return folder


def with_tensors(folder: Path, **tensors: torch.Tensor) -> Path:
    """Add tensors to the weights in place; a name's dots are written as two underscores."""
    path = folder / "model.safetensors"
    named = {name.replace("__", "."): tensor.clone() for name, tensor in tensors.items()}
    save_file({**load_file(path), **named}, path)
    return folder


def embedding(folder: Path) -> torch.Tensor:
    return load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
