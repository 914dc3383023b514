"""Which models the packed forward takes; any other is refused in words before a step is made of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTJConfig,
    LlamaConfig,
    PretrainedConfig,
    Qwen2Config,
    StableLmConfig,
)

from protocol.precision import ComputeDtype
from protocol.user_error import UserError
from tests.stage.models import SIZE
from trainer.model import Policy, open_policy
from trainer.opening import WORKSPACE, WORKSPACES, Untrainable
from trainer.scaling import NotFinite, finite_norm

NARROW = {"vocab_size": 128, "n_embd": 64, "n_layer": 2, "n_head": 4, "tie_word_embeddings": False}


def opened(folder: Path) -> Policy:
    return open_policy(
        folder,
        device="cpu",
        compute_dtype=ComputeDtype.BFLOAT16,
        temperature=1.0,
        logits_chunk=64,
    )[0]


def saved(folder: Path, config: PretrainedConfig) -> Path:
    AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "config", [LlamaConfig(**SIZE), Qwen2Config(**SIZE)], ids=["llama", "qwen2"]
)
def test_a_model_built_as_the_packed_forward_needs_is_opened(
    tmp_path: Path, config: PretrainedConfig
) -> None:
    assert opened(saved(tmp_path, config)).masters


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(**NARROW),
        GPTJConfig(**NARROW, rotary_dim=16),
        StableLmConfig(**SIZE),
        Qwen2Config(**SIZE, use_sliding_window=True, sliding_window=8, max_window_layers=0),
    ],
    ids=["gpt2", "gptj", "stablelm", "qwen2 with windows"],
)
def test_another_one_is_refused_in_a_line(tmp_path: Path, config: PretrainedConfig) -> None:
    """T6: an exception of the library says nothing to the person who named the folder."""
    with pytest.raises(Untrainable) as found:
        opened(saved(tmp_path, config))
    assert isinstance(found.value, UserError)
    refused = f"model_dir = {tmp_path} cannot be trained: "
    assert str(found.value).startswith(
        (f"{refused}models of model_type", f"{refused}prompts of 20 and completions of 12 tokens")
    )
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json", "all"])
def test_a_folder_that_is_no_models_is_named_in_a_line(tmp_path: Path, missing: str) -> None:
    folder = saved(tmp_path / "model", LlamaConfig(**SIZE))
    if missing == "all":
        folder = tmp_path / "nowhere"
    else:
        (folder / missing).unlink()
    with pytest.raises(UserError, match=r"is no model folder: it has no (config|model)\.") as found:
        opened(folder)
    assert "\n" not in str(found.value)


def test_other_weights_than_the_architectures_are_refused_in_a_line(tmp_path: Path) -> None:
    folder = saved(tmp_path, LlamaConfig(**SIZE))
    saved(tmp_path / "other", LlamaConfig(**{**SIZE, "num_hidden_layers": 1}))
    (tmp_path / "other" / "model.safetensors").replace(folder / "model.safetensors")
    with pytest.raises(Untrainable, match="the weights are not this architecture's"):
        opened(folder)


@pytest.mark.parametrize(("given", "used"), [(None, 0), (":0:0", 0), (":16:8", 1)])
def test_the_same_bits_are_asked_of_a_gpu_too(given: str | None, used: int) -> None:
    """Without this workspace torch refuses the first product on a GPU."""
    code = f"""
import os, torch
from trainer.opening import compute_alike
compute_alike(1)
print(os.environ[{WORKSPACE!r}], torch.are_deterministic_algorithms_enabled(), torch.get_num_threads())
"""
    environment = {k: v for k, v in os.environ.items() if k != WORKSPACE}
    environment |= {} if given is None else {WORKSPACE: given}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [WORKSPACES[used], "True", "1"]


def test_gradients_that_are_too_large_together_move_nothing() -> None:
    assert finite_norm(torch.tensor(2.5)) == 2.5
    with pytest.raises(NotFinite, match="the gradients' norm is inf: launch the run in"):
        finite_norm(torch.tensor(torch.inf))
