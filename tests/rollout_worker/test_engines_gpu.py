"""Both engines on an NVIDIA GPU: the same stream, reloaded in place. Run with `pytest -m gpu`.

vLLM samples here with its own Model Runner V2; the replay that judges it runs on the CPU, so the bound
is looser than a calibrated one: it tells the seeded stream (0.99) from any other (0.7).
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from protocol.environments.arithmetic import Arithmetic
from protocol.policies.manifest import HostTensor
from protocol.rollout import Lease
from rollout_worker.engines.base import Engine
from rollout_worker.engines.causal import host_tensor_of, read_weights, tensor_of
from rollout_worker.engines.registry import NAMES, open_engine
from rollout_worker.generate import generate_groups
from rollout_worker.replay.calibrate import workload_of
from rollout_worker.replay.measure import ReplayModel, stats_of

pytestmark = pytest.mark.gpu

MODEL = Path(__file__).parents[2] / "models" / "start"
EOS = 2
MIN_MATCH = 0.97


@pytest.fixture(scope="module", params=NAMES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    opened = open_engine(request.param, MODEL, device="cuda", max_model_len=128, max_sequences=64)
    yield opened
    opened.close()


def leases() -> list[Lease]:
    workload = workload_of(MODEL, Arithmetic({}), num_groups=32, group_size=8, max_tokens=64)
    return list(workload.leases(salt=7))


def start() -> dict[str, HostTensor]:
    return dict(read_weights(MODEL / "model.safetensors"))


def moved(host: HostTensor) -> HostTensor:
    noise = torch.randn(host.shape, generator=torch.Generator().manual_seed(1))
    return host_tensor_of((tensor_of(host).float() * (1 + 0.2 * noise)).bfloat16())


def test_a_gpu_samples_the_seeded_stream(engine: Engine) -> None:
    engine.load(start())
    groups = generate_groups(engine, leases(), eos_token_ids=(EOS,))
    model = ReplayModel(MODEL)
    model.load(start())
    stats = [stats_of(f) for f in model.findings(list(zip(leases(), groups, strict=True)))]
    tokens = sum(group.num_tokens for group in stats)
    assert sum(group.num_matched for group in stats) / tokens > MIN_MATCH
    assert engine.name.endswith("-cuda")


def test_reloading_on_a_gpu_changes_the_policy_and_back(engine: Engine) -> None:
    engine.load(start())
    before = generate_groups(engine, leases(), eos_token_ids=(EOS,))
    engine.load({name: moved(tensor) for name, tensor in start().items()})
    other = generate_groups(engine, leases(), eos_token_ids=(EOS,))
    engine.load(start())
    assert other != before
    assert generate_groups(engine, leases(), eos_token_ids=(EOS,)) == before
