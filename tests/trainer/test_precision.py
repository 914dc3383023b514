"""What the trainer computes in."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from protocol.patch import from_anchor
from protocol.policy import HostTensor, Weights
from protocol.precision import ComputeDtype, cast
from tests.trainer import work
from tests.trainer.desk import serving
from tests.trainer.test_loop import config, lines, live
from trainer.behaviour import recompute
from trainer.client import Client
from trainer.main import open_trainer
from trainer.model import Policy, dtype_on, load, open_policy


def starting() -> Weights:
    return from_anchor((work.MODEL / "model.safetensors").read_bytes())


@pytest.mark.parametrize("agreed", list(ComputeDtype))
def test_a_cpu_computes_in_float32_whatever_the_run_says(
    agreed: ComputeDtype, tmp_path: Path
) -> None:
    with serving(work.desk(1)) as desk:
        desk.info = work.info(work.spec(compute_dtype=agreed))
        with (
            Client(
                desk.url, work.RUN, work.KEY, stop=threading.Event(), poll_seconds=0.05
            ) as client,
            open_trainer(config(desk, tmp_path, steps=1), work.KEY, client) as trainer,
        ):
            assert trainer.policy.dtype is torch.float32


def test_a_gpu_computes_in_what_the_run_says() -> None:
    assert [dtype_on("cuda:1", dtype) for dtype in ComputeDtype] == list(ComputeDtype)


@pytest.mark.parametrize("dtype", list(ComputeDtype))
def test_weights_are_cast_as_the_protocol_casts_them(dtype: ComputeDtype) -> None:
    network = work.network().to(getattr(torch, dtype))
    weights = starting()
    load(network, weights)
    for name, parameter in network.named_parameters():
        expected = cast(weights[name], dtype).bits
        signed = torch.int32 if dtype is ComputeDtype.FLOAT32 else torch.int16
        assert np.array_equal(
            parameter.detach().view(signed).numpy().view(expected.dtype).ravel(), expected
        )


def test_a_weight_that_float16_cannot_hold_is_refused_with_what_to_do() -> None:
    network = work.network().half()
    name, tensor = next(iter(starting().items()))
    bits = tensor.bits.copy()
    bits[0] = 0x4780  # 65536 in bfloat16
    weights = {**starting(), name: HostTensor(tensor.dtype, tensor.shape, bits)}
    with pytest.raises(ValueError, match=r"65536 does not fit float16.*bfloat16 or float32"):
        load(network, weights)


def half_policy() -> Policy:
    """The starting model in float16, as a GPU would hold it, on this machine's processor."""
    return Policy(packed_network().half(), starting(), temperature=1.0, chunk=1 << 20)


def packed_network() -> nn.Module:
    policy, _ = open_policy(
        work.MODEL,
        device="cpu",
        compute_dtype=ComputeDtype.FLOAT32,
        temperature=1.0,
        logits_chunk=1 << 20,
    )
    found: nn.Module = policy._model
    return found


def test_a_master_that_grows_beyond_float16_is_refused() -> None:
    policy = half_policy()
    with torch.no_grad():
        next(iter(policy.masters.values())).view(-1)[0] = 1e5
    with pytest.raises(ValueError, match="does not fit float16"):
        policy.refresh()


def test_behaviour_is_recomputed_in_the_copys_own_dtype() -> None:
    groups = [replace(group, policy_version=1) for group in work.groups(2)]
    half, single = half_policy(), work.policy()

    def recomputed(policy: Policy) -> torch.Tensor:
        found = recompute(policy, groups, step=2, weights_of=lambda _: starting(), max_tokens=4096)
        return torch.cat(list(found.stale.values()))

    gap = float((recomputed(half) - recomputed(single)).abs().mean())
    assert 2.0**-16 < gap < 2.0**-7, "float16's rounding, neither float32's nor bfloat16's"


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", list(ComputeDtype))
def test_a_gpu_trains_in_the_runs_dtype(dtype: ComputeDtype, tmp_path: Path) -> None:
    with serving(work.desk(2)) as desk:
        desk.info = work.info(work.spec(compute_dtype=dtype))
        live(desk, config(desk, tmp_path, steps=2, device="cuda"))
        assert len({signed.manifest.policy_digest for signed in desk.policies}) == 3
    found = lines(tmp_path)[2]
    assert found["ratio_mean"] == pytest.approx(1.0, abs=0.05)
