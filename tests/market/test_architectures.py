"""Every known architecture is computed alike by trainer, engines and replay; others are refused before they cost anything.

Each defence is taken away once, to see what it holds off.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoConfig

from client.model_folder import read_policy
from protocol.architectures import KNOWN, why_unknown
from protocol.policies.manifest import Weights
from protocol.precision import ComputeDtype
from rollout_worker.config import ReplayConfig
from rollout_worker.engines import probe
from rollout_worker.engines.base import Engine
from rollout_worker.engines.causal import CausalModel
from rollout_worker.engines.probe import probe_of, require_plain
from rollout_worker.engines.registry import open_engine
from rollout_worker.engines.transformers import TransformersEngine
from rollout_worker.generate import generate_groups
from rollout_worker.replay.calibrate import Workload
from rollout_worker.replay.measure import Replayer, stats_of
from rollout_worker.replay.registry import open_replayer
from tests.stage.models import rewritten, tiny
from trainer import opening
from trainer.model import Policy, open_policy
from trainer.opening import Untrainable

LONGEST = 96
FLOAT32 = ComputeDtype.FLOAT32
UNKNOWN = (
    "mixtral",
    "qwen3_moe",
    "gpt_neox",
    "gpt2",
    "gptj",
    "gemma2",
    "phi",
    "stablelm",
    "cohere",
)


def sampler(folder: Path) -> Engine:
    return open_engine("transformers", folder, dtype=FLOAT32, max_model_len=LONGEST)


def replayer(folder: Path) -> Replayer:
    config = ReplayConfig.model_validate({"engine": "transformers"})
    return open_replayer(config, folder, dtype=FLOAT32, max_model_len=LONGEST)


def trainer(folder: Path) -> Policy:
    terms: Any = {"compute_dtype": FLOAT32, "temperature": 1.0, "logits_chunk": 64}
    return open_policy(folder, device="cpu", **terms)[0]


def share_matched(folder: Path) -> float:
    """Sample groups on prompts of unequal lengths, and return the share of tokens that a replay draws too."""
    draw = np.random.default_rng(0)
    prompts = tuple(tuple(draw.integers(3, 128, length).tolist()) for length in (60, 40, 20))
    work = Workload(prompts, group_size=8, max_tokens=10, eos_token_ids=())
    leases = list(work.leases(salt=0))
    groups = generate_groups(sampler(folder), leases, eos_token_ids=())
    found = replayer(folder).findings(list(zip(leases, groups, strict=True)))
    stats = [stats_of(group) for group in found]
    return sum(s.num_matched for s in stats) / sum(s.num_tokens for s in stats)


def refusal(folder: Path, *, most: int = 64) -> str | None:
    config = (folder / "config.json").read_bytes()
    return why_unknown(config, max_prompt_tokens=most, max_tokens=most)


@pytest.mark.parametrize("model_type", KNOWN)
def test_a_known_architecture_is_computed_alike_by_all(tmp_path: Path, model_type: str) -> None:
    folder = tiny(tmp_path, model_type)
    assert refusal(folder) is None
    assert trainer(folder).masters
    assert share_matched(folder) == 1.0


@pytest.mark.parametrize("model_type", KNOWN)
def test_what_a_config_leaves_out_is_what_the_library_supposes(model_type: str) -> None:
    supposed, known = AutoConfig.for_model(model_type), KNOWN[model_type]
    assert (known.window, known.is_tied) == (
        getattr(supposed, "sliding_window", None),
        supposed.tie_word_embeddings,
    )


@pytest.mark.parametrize("model_type", UNKNOWN)
def test_any_other_is_refused_by_its_config_in_a_line(tmp_path: Path, model_type: str) -> None:
    """M3, M5, T1: experts, biased and scaled heads, attention that is not handed over whole."""
    said = refusal(tiny(tmp_path, model_type))
    assert said is not None
    assert said.startswith(f"models of model_type {model_type!r} are not known")
    assert "\n" not in said


@pytest.mark.parametrize("field", ["rope_parameters", "rope_scaling"])
def test_a_rotation_that_changes_with_a_texts_length_is_refused(tmp_path: Path, field: str) -> None:
    folder = tiny(tmp_path)
    assert refusal(rewritten(folder, **{field: {"rope_type": "llama3", "factor": 8.0}})) is None
    said = refusal(rewritten(folder, **{field: {"type": "dynamic", "factor": 2.0}}))
    assert said is not None
    assert "rotary embedding is dynamic" in said


def test_another_class_than_the_model_types_is_refused(tmp_path: Path) -> None:
    """vLLM opens what `architectures` names, transformers what `model_type` names."""
    folder = rewritten(tiny(tmp_path), architectures=["MistralForCausalLM"])
    assert "whose is LlamaForCausalLM" in str(refusal(folder))


@pytest.mark.parametrize(
    ("fields", "window"),
    [
        ({"sliding_window": 8}, 8),
        ({"sliding_window": 128}, None),
        ({"sliding_window": 127}, 127),
        ({"sliding_window": None}, None),
        ({"sliding_window": ...}, None),
    ],
)
def test_a_window_must_hold_a_whole_rollout(
    tmp_path: Path, fields: dict[str, object], window: int | None
) -> None:
    """V2, T2: a windowed cache keeps padding in place of a prompt, and the packed forward has no window."""
    said = refusal(rewritten(tiny(tmp_path, "mistral"), **fields))
    if window is None:
        assert said is None
    else:
        assert f"model's {window} positions (sliding_window)" in str(said)


def test_a_window_that_the_library_supposes_counts_too(tmp_path: Path) -> None:
    folder = rewritten(tiny(tmp_path, "mistral"), sliding_window=..., max_position_embeddings=32768)
    assert refusal(folder, most=2048) is None
    assert "4096 positions (sliding_window)" in str(refusal(folder, most=2049))


def test_windows_that_are_wide_enough_are_computed_alike(tmp_path: Path) -> None:
    windows = {"use_sliding_window": True, "sliding_window": LONGEST, "max_window_layers": 1}
    folder = tiny(tmp_path, "qwen2", **windows)
    assert trainer(folder).masters
    assert share_matched(folder) == 1.0


def test_padding_would_eat_the_prompts_of_a_windowed_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V2 as found: honest work that a replay does not find again, without a word."""
    folder = tiny(tmp_path, "mistral", sliding_window=8)
    assert "sliding_window" in str(refusal(folder))
    monkeypatch.setattr(probe, "_compare", lambda *_: None)
    assert share_matched(folder) < 0.95


Opened = Callable[[Path], object]


@pytest.mark.parametrize(
    ("model_type", "changes"),
    [("phi", {}), ("cohere", {}), ("mistral", {"sliding_window": 8})],
)
def test_a_trainer_whose_packed_forward_differs_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_type: str, changes: dict[str, object]
) -> None:
    """T1, T2: what the list lets through is still computed once, as the library does."""
    folder = tiny(tmp_path, model_type, **changes)
    monkeypatch.setattr(opening, "why_unknown", lambda *_, **__: None)
    with pytest.raises(Untrainable, match=r"log-probabilities [\d.]+ nats a token from the lib"):
        trainer(folder)
    monkeypatch.setattr("trainer.model.require_exact", lambda *_, **__: None)
    assert trainer(folder).masters  # the attack: a policy that trains on other numbers


@pytest.mark.parametrize("role", [sampler, replayer])
@pytest.mark.parametrize("model_type", ["cohere", "gemma2"])
def test_engine_and_replay_whose_logits_differ_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: Opened, model_type: str
) -> None:
    """Both take logits from the head alone, where these architectures scale them."""
    changes = {"final_logit_softcapping": 1.0} if model_type == "gemma2" else {"logit_scale": 0.1}
    folder = tiny(tmp_path, model_type, **changes)
    with pytest.raises(ValueError, match="nats a token from the library's plain forward"):
        role(folder)
    monkeypatch.setattr(probe, "_compare", lambda *_: None)
    role(folder)


class KeepsOne(TransformersEngine):
    """An engine whose reload leaves one matrix as it was: vLLM's of experts does so with their order."""

    def load(self, weights: Weights) -> None:
        kept = self.model._parameters["model.layers.0.mlp.up_proj.weight"].clone()
        super().load(weights)
        self.model._parameters["model.layers.0.mlp.up_proj.weight"].copy_(kept)


def test_an_engine_that_keeps_old_bits_at_a_reload_says_so(tmp_path: Path) -> None:
    """V1's kind: right as opened, and right after a reload of the same bits."""
    folder = tiny(tmp_path)
    terms: Any = {"device": "cpu", "dtype": FLOAT32, "max_model_len": LONGEST, "max_sequences": 8}
    engine, plain = KeepsOne(folder, **terms), CausalModel(folder, device="cpu")
    compute = probe_of(engine, vocabulary_size=128, max_model_len=LONGEST)
    with pytest.raises(ValueError, match="it, after a reload, computes log-probabilities"):
        require_plain(engine, compute, plain, read_policy(folder), name="it")
    honest, plain = TransformersEngine(folder, **terms), CausalModel(folder, device="cpu")
    compute = probe_of(honest, vocabulary_size=128, max_model_len=LONGEST)
    require_plain(honest, compute, plain, read_policy(folder), name="it")
