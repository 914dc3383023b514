"""Open what a verifier replays with, by the name in its config."""

from pathlib import Path

import torch

from protocol.precision import ComputeDtype
from protocol.user_error import UserError, one_line
from rollout_worker.config import ReplayConfig
from rollout_worker.engines.vllm import VllmEngine
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
    except (
        Exception
    ) as error:  # libraries raise anything for what an operator wrote in a config.json
        raise ValueError(f"the model does not open: {error!r}") from error


def _opened(
    config: ReplayConfig, model_dir: Path, dtype: ComputeDtype, max_model_len: int
) -> Replayer:
    buffer_bytes = None if config.buffer_mib is None else config.buffer_mib << 20
    if config.engine == "transformers":
        return ReplayModel(
            model_dir,
            dtype=dtype,
            device=config.device,
            max_pass_tokens=config.max_pass_tokens,
            buffer_bytes=buffer_bytes,
        )
    engine = VllmEngine(
        model_dir,
        device=config.device,
        dtype=dtype,
        max_model_len=max_model_len,
        max_sequences=config.max_sequences,
        kv_cache_mib=config.kv_cache_mib,
    )
    return VllmReplay(engine, model_dir, buffer_bytes=buffer_bytes)
