"""Open an engine by name. A heavy import happens only when its engine is opened."""

from pathlib import Path
from typing import TYPE_CHECKING

from client.model_folder import read_policy
from protocol.precision import ComputeDtype
from rollout_worker.engines.base import Engine

if TYPE_CHECKING:
    from rollout_worker.engines.causal import CausalModel

NAMES = ("vllm", "transformers")


def open_engine(
    name: str,
    model_dir: Path,
    *,
    dtype: ComputeDtype = ComputeDtype.FLOAT32,
    device: str = "cpu",
    max_model_len: int,
    max_sequences: int = 128,
    kv_cache_mib: int = 256,
    quantise_bits: int = 0,
    seed_shift: int = 0,
) -> Engine:
    """Open an engine on `model_dir` (config.json and model.safetensors), warm, and held to the plain forward.

    `dtype` is the run's. `device` is `cpu`, `cuda` or `cuda:N`. `kv_cache_mib` bounds vLLM's cache on the
    CPU; on a GPU it takes its own share. `quantise_bits` opens the attack tool of `rounded.py`, which keeps
    the exact weights of `model_dir` until its first `load`; `seed_shift` that of `reseeded.py`.
    """
    if name == "vllm":
        from rollout_worker.engines.causal import CausalModel
        from rollout_worker.engines.vllm import VllmEngine

        engine: Engine = VllmEngine(
            model_dir,
            device=device,
            dtype=dtype,
            max_model_len=max_model_len,
            max_sequences=max_sequences,
            kv_cache_mib=kv_cache_mib,
        )
        plain = CausalModel(model_dir, device="cpu", dtype=dtype)
    elif name == "transformers":
        from rollout_worker.engines.transformers import TransformersEngine

        engine = own = TransformersEngine(
            model_dir,
            device=device,
            dtype=dtype,
            max_model_len=max_model_len,
            max_sequences=max_sequences,
        )
        plain = own.model
    else:
        raise ValueError(f"engine {name!r} is unknown; choose one of {', '.join(NAMES)}")
    _require_plain(engine, plain, model_dir, max_model_len)
    if quantise_bits:
        from rollout_worker.engines.rounded import RoundedEngine

        engine = RoundedEngine(engine, bits=quantise_bits)
    if seed_shift:
        from rollout_worker.engines.reseeded import ReseededEngine

        engine = ReseededEngine(engine, shift=seed_shift)
    return engine


def _require_plain(
    engine: Engine, plain: "CausalModel", model_dir: Path, max_model_len: int
) -> None:
    from rollout_worker.engines.probe import probe_of, require_plain

    try:
        compute = probe_of(
            engine, vocabulary_size=plain.vocabulary_size, max_model_len=max_model_len
        )
        require_plain(engine, compute, plain, read_policy(model_dir), name=engine.name)
    except Exception:
        engine.close()
        raise
