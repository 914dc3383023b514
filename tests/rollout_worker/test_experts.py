"""vLLM's reload of experts (V1): right as opened, a nat apart after a reload of the very same weights.

In a process of its own: vLLM decides with its first model whether a process has experts.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from protocol.precision import ComputeDtype
from tests.stage.models import tiny

CODE = """
import sys
from pathlib import Path
import numpy as np
from client.model_folder import read_policy
from protocol.precision import ComputeDtype
from rollout_worker.engines.causal import CausalModel
from rollout_worker.engines.probe import plain_logprobs, probe_of
from rollout_worker.engines.registry import open_engine
from rollout_worker.engines.vllm import VllmEngine

folder, terms = Path(sys.argv[1]), {"dtype": ComputeDtype.BFLOAT16, "max_model_len": 64, "max_sequences": 8}
engine = VllmEngine(folder, **terms, device="cpu", kv_cache_mib=64)
compute = probe_of(engine, vocabulary_size=128, max_model_len=64)
plain = CausalModel(folder, device="cpu", dtype=ComputeDtype.BFLOAT16)
def apart():
    found = compute()
    expected = [plain_logprobs(plain, text.prompt, text.tokens) for text in found]
    given = np.concatenate([text.logprobs for text in found])
    return float(np.abs(given - np.concatenate(expected)).mean())
print("opened", apart())
engine.load(read_policy(folder))
print("reloaded", apart())
engine.close()
try:
    open_engine("vllm", folder, **terms)
except ValueError as error:
    print("refused", error)
"""


@pytest.mark.slow
def test_experts_that_a_reload_puts_in_another_order_are_seen_before_anything_is_sold(
    tmp_path: Path,
) -> None:
    folder = tiny(tmp_path, "qwen3_moe", hidden_size=128, head_dim=32, num_key_value_heads=4)
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(folder)], capture_output=True, text=True, check=True
    )
    told = dict(
        line.split(" ", 1)
        for line in done.stdout.splitlines()
        if line.startswith(("opened ", "reloaded ", "refused "))
    )
    assert float(told["opened"]) < 0.1
    assert (
        float(told["reloaded"]) > ComputeDtype.BFLOAT16.probe_nats
    )  # with the defence off a worker would sell this
    assert told["refused"].startswith("vllm-cpu, after a reload, computes log-probabilities")
