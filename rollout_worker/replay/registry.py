"""Open what a verifier replays with, by the name in its config."""

from pathlib import Path

import numpy as np
import torch

from client.model_folder import read_policy
from protocol.precision import ComputeDtype
from protocol.rollout import Rollout
from protocol.user_error import UserError, one_line
from rollout_worker.config import ReplayConfig
from rollout_worker.engines.causal import CausalModel
from rollout_worker.engines.probe import Computed, prompts_within, require_plain
from rollout_worker.engines.vllm import VllmEngine
from rollout_worker.replay.calibrate import Workload
from rollout_worker.replay.measure import Replayer, ReplayModel
from rollout_worker.replay.vllm import VllmReplay


def require_device(config: ReplayConfig) -> None:
    """Raise `UserError` where torch has no such device here, which would show at the first replay."""
    try:
        torch.empty(0, device=config.device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"replay.device = {config.device} is not here ({one_line(error)[:120]}): set it to cpu, or to cuda "
            "where a GPU is"
        ) from error


def open_replayer(
    config: ReplayConfig, model_dir: Path, *, dtype: ComputeDtype, max_model_len: int
) -> Replayer:
    """Open a replayer on `model_dir` (config.json and model.safetensors); raise `ValueError` where it does not open.

    `max_model_len` is the longest prompt and completion together that the run allows.
    """
    try:
        return _opened(config, model_dir, dtype, max_model_len)
    except (RuntimeError, MemoryError, UserError):
        raise
    except Exception as error:
        # Libraries raise anything for what an operator wrote in a config.json.
        raise ValueError(f"the model does not open: {error!r}") from error


def _opened(
    config: ReplayConfig, model_dir: Path, dtype: ComputeDtype, max_model_len: int
) -> Replayer:
    buffer_bytes = None if config.buffer_mib is None else config.buffer_mib << 20
    if config.engine == "transformers":
        model = ReplayModel(
            model_dir,
            dtype=dtype,
            device=config.device,
            max_pass_tokens=config.max_pass_tokens,
            buffer_bytes=buffer_bytes,
        )
        return _held_to(model.model, model, model_dir, max_model_len)
    engine = VllmEngine(
        model_dir,
        device=config.device,
        dtype=dtype,
        max_model_len=max_model_len,
        max_sequences=config.max_sequences,
        kv_cache_mib=config.kv_cache_mib,
    )
    replay = VllmReplay(engine, model_dir, buffer_bytes=buffer_bytes)
    plain = CausalModel(model_dir, device="cpu", dtype=dtype)
    return _held_to(plain, replay, model_dir, max_model_len)


def _held_to(
    plain: CausalModel, replayer: Replayer, model_dir: Path, max_model_len: int
) -> Replayer:
    """Return the replayer; raise `ValueError` if it does not compute as the library's plain forward does."""
    prompts, num_tokens = prompts_within(max_model_len, plain.vocabulary_size)
    workload = Workload(prompts, group_size=2, max_tokens=num_tokens, eos_token_ids=())
    draw = np.random.default_rng(1)
    groups = [
        (lease, [_drawn(draw, plain.vocabulary_size, num_tokens) for _ in lease.seeds])
        for lease in workload.leases(salt=0)
    ]

    def compute() -> list[Computed]:
        return [
            Computed(lease.prompt, tuple(one.claimed.tolist()), -one.surprisals)
            for (lease, _), found in zip(groups, replayer.findings(groups), strict=True)
            for one in found
        ]

    require_plain(replayer, compute, plain, read_policy(model_dir), name="the replay")
    return replayer


def _drawn(draw: np.random.Generator, vocabulary_size: int, num_tokens: int) -> Rollout:
    return Rollout.of(draw.integers(0, vocabulary_size, num_tokens), np.zeros(num_tokens))
