"""What the trainer computes in, and the loss scale that float16 needs."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from client.trainer import open_trainer_routes
from protocol.policies.manifest import HostTensor, Weights
from protocol.policies.patch import from_anchor
from protocol.precision import ComputeDtype, cast
from tests.stage import work
from tests.stage.terms import MODEL
from tests.stage.training import Opening
from tests.trainer.test_loop import config, lines, live
from trainer.behaviour import recompute
from trainer.main import open_trainer
from trainer.model import Policy, dtype_on, load, open_policy
from trainer.scaling import (
    FIRST,
    LARGEST,
    PATIENCE,
    LossScale,
    NotFinite,
    finite,
    first_scale,
    unscale,
)


def starting() -> Weights:
    return from_anchor((MODEL / "model.safetensors").read_bytes())


@pytest.mark.parametrize("agreed", list(ComputeDtype))
def test_a_cpu_computes_in_float32_whatever_the_run_says(
    agreed: ComputeDtype, opening: Opening, tmp_path: Path
) -> None:
    with (
        opening(1, compute_dtype=agreed) as market,
        open_trainer_routes(market.url, market.run_id, work.KEY) as client,
        open_trainer(
            config(market, tmp_path, steps=1), work.KEY, client, threading.Event()
        ) as trainer,
    ):
        assert trainer.policy.dtype is torch.float32
        assert trainer.scale == LossScale(1.0)


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
        MODEL,
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


def test_a_scale_halves_on_overflow_and_doubles_after_patience() -> None:
    scale = first_scale(torch.float16)
    assert scale == LossScale(FIRST)
    assert scale.after(overflowed=True) == LossScale(FIRST / 2)
    for _ in range(PATIENCE - 1):
        scale = scale.after(overflowed=False)
    assert scale.value == FIRST
    assert scale.after(overflowed=False) == LossScale(FIRST * 2)
    assert scale.after(overflowed=True) == LossScale(FIRST / 2)
    assert LossScale(LARGEST, PATIENCE).after(overflowed=False).value == LARGEST


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_dtypes_have_no_scale_and_no_excuse(dtype: torch.dtype) -> None:
    scale = first_scale(dtype)
    for _ in range(2 * PATIENCE):
        scale = scale.after(overflowed=False)
    assert scale.value == 1
    with pytest.raises(NotFinite, match="launch the run in bfloat16 or float32"):
        scale.after(overflowed=True)


def test_a_loss_that_is_no_number_ends_the_run_with_what_to_do() -> None:
    assert finite(0.5, 3, torch.float16) == 0.5
    with pytest.raises(NotFinite, match=r"step 3 is nan in torch\.float16: launch"):
        finite(float("nan"), 3, torch.float16)


def test_scaling_keeps_gradients_that_float16_would_lose() -> None:
    """A gradient of 1e-9 is zero in float16; scaled by 2^16 it comes back to within a rounding."""
    found = []
    for scale in (LossScale(1.0), LossScale(FIRST)):
        weight = torch.ones(1, dtype=torch.float16, requires_grad=True)
        (weight.sum().float() * 1e-9 * scale.value).backward()
        assert weight.grad is not None
        master = nn.Parameter(torch.ones(1))
        master.grad = weight.grad.float()
        assert unscale([master], scale)
        found.append(float(master.grad))
    assert found[0] == 0
    assert found[1] == pytest.approx(1e-9, rel=2.0**-10)


def test_an_infinite_gradient_is_noticed() -> None:
    master = nn.Parameter(torch.ones(2))
    master.grad = torch.tensor([1.0, float("inf")])
    assert not unscale([master], LossScale(FIRST))


def test_float16_steps_move_and_an_overflowing_one_is_left_out_and_said(
    opening: Opening, tmp_path: Path
) -> None:
    moving = in_lives(opening, tmp_path / "moving", (3,), FIRST)
    assert len(set(moving)) == 4
    assert [line["overflowed"] for line in lines(tmp_path / "moving")[1:]] == [0.0, 0.0, 0.0]
    for name, lives in (("straight", (3,)), ("restarted", (1, 2, 3))):
        assert set(in_lives(opening, tmp_path / name, lives, 2.0**40)) == {moving[0]}
        found = lines(tmp_path / name)[1:]
        assert [line["overflowed"] for line in found] == [1.0, 1.0, 1.0]
        assert [line["loss_scale"] for line in found] == [2.0**40, 2.0**39, 2.0**38]
        assert [line["trained_tokens"] for line in found] == [0, 0, 0]


def in_lives(opening: Opening, folder: Path, lives: Sequence[int], scale: float) -> list[bytes]:
    """Train in float16 to each of these versions, a new trainer each; return the policies' digests."""
    with opening(3) as market:
        for steps in lives:
            with (
                open_trainer_routes(market.url, market.run_id, work.KEY) as client,
                open_trainer(
                    config(market, folder, steps=steps), work.KEY, client, threading.Event()
                ) as trainer,
            ):
                in_half_precision(trainer.policy)
                if trainer.progress.version < 0:
                    trainer.scale = LossScale(scale)
                trainer.train()
        return [signed.manifest.policy_digest for signed in market.policies]


def in_half_precision(policy: Policy) -> None:
    """Put the compute copy in float16, as on a GPU: on a CPU the trainer itself never does."""
    policy._model.half()
    policy._copy = dict(policy._model.named_parameters())
    policy.refresh()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", list(ComputeDtype))
def test_a_gpu_trains_in_the_runs_dtype(
    dtype: ComputeDtype, opening: Opening, tmp_path: Path
) -> None:
    with opening(2, compute_dtype=dtype) as market:
        live(market, config(market, tmp_path, steps=2, device="cuda"))
        assert len({signed.manifest.policy_digest for signed in market.policies}) == 3
    found = lines(tmp_path)[2]
    assert found["ratio_mean"] == pytest.approx(1.0, abs=0.05)
    assert found.get("loss_scale") == (FIRST if dtype is ComputeDtype.FLOAT16 else None)
