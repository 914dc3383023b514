"""float16 has no number above 65,504: a model that needs one is refused before anything is sampled in it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from protocol.policies.manifest import HostTensor
from protocol.policies.patch import anchor_bytes
from protocol.precision import ComputeDtype
from rollout_worker.engines.causal import CausalModel, host_tensor_of, read_weights, tensor_of
from rollout_worker.engines.overflow import require_range
from rollout_worker.engines.registry import open_engine
from tests.stage.sampling_lab import MODEL, exact

START = MODEL / "model.safetensors"
NORM = "model.layers.1.post_attention_layernorm.weight"


def scaled(name: str, factor: float) -> dict[str, HostTensor]:
    """Return the starting policy with one tensor times `factor`."""
    policy = read_weights(START)
    larger = tensor_of(policy[name]).float() * factor
    return {**policy, name: host_tensor_of(larger.bfloat16())}


def prompts() -> list[tuple[int, ...]]:
    return [lease.prompt for lease in exact().leases(4)]


def test_the_starting_model_fits_and_what_it_reaches_is_said() -> None:
    said = require_range(MODEL, [START], prompts(), ComputeDtype.FLOAT16)
    assert said.startswith("largest activation ")
    assert "float16 ends at 65504" in said


def test_a_model_whose_activations_do_not_fit_is_refused_with_the_layer(tmp_path: Path) -> None:
    large = scaled(NORM, 2.0**14)
    path = tmp_path / "large.safetensors"
    path.write_bytes(anchor_bytes(large))
    # The attack on one's own run: its weights do fit, and it computes what are no numbers.
    model = CausalModel(MODEL, device="cpu", dtype=ComputeDtype.FLOAT16)
    model.load(large)
    with torch.inference_mode():
        states = model.decoder(input_ids=torch.tensor([prompts()[0]])).last_hidden_state
        assert not model.logits(states[0]).isfinite().all()
    with pytest.raises(ValueError, match=r"^layers\.1\.") as refused:
        require_range(MODEL, [START, path], prompts(), ComputeDtype.FLOAT16)
    message = str(refused.value)
    assert "float16 ends at 65504: choose bfloat16" in message
    assert "\n" not in message
    for wide in (ComputeDtype.BFLOAT16, ComputeDtype.FLOAT32):
        assert "largest activation" in require_range(MODEL, [path], prompts(), wide)


def test_a_policy_whose_weights_do_not_fit_is_refused_and_the_old_one_stays() -> None:
    engine = open_engine("transformers", MODEL, dtype=ComputeDtype.FLOAT16, max_model_len=128)
    bench = replace(exact(), engine=engine)
    engine.load(bench.policy)
    leases = bench.leases(2)
    before = bench.sample(leases)
    with pytest.raises(ValueError, match=r"does not fit float16.*compute in bfloat16 or float32"):
        engine.load(scaled("model.norm.weight", 2.0**20))
    assert bench.sample(leases) == before
