"""An engine on unmodified vLLM 0.32: continuous batching, hot reload, CPU and GPU.

vLLM runs inside this process (its engine core and worker are not children), so one import is paid
instead of three, a killed worker leaves nothing behind, and a core is not spent on passing messages.
On a GPU, Model Runner V2 already samples by the stream of `protocol.sampling` from (seed,
temperature); elsewhere `SeededDraw` draws, and vLLM takes what it drew.
Left out: T ≠ 1 and float32 on a GPU (vLLM's own sampler reports untempered log-probabilities, rounded
to 1e-6 near probability 1), speculative decoding, several GPUs.
"""

import gc
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from client.model_folder import CONFIG, WEIGHTS, architecture_of, read_policy
from protocol.policies.manifest import Weights
from protocol.precision import ComputeDtype, cast_all
from rollout_worker.engines.base import Completion, Request, engine_name
from rollout_worker.engines.fit import require_fit, require_same_model

_PROCESSOR = "rollout_worker.engines.vllm_hooks:SeededDraw"
_EXTENSION = "rollout_worker.engines.vllm_hooks.WorkerHooks"
_NUM_WARM_UP = 8
_T = TypeVar("_T")


class VllmEngine:
    """`Engine` on vLLM. All its work happens in one thread: OpenMP pools belong to a thread."""

    def __init__(
        self,
        model_dir: Path,
        *,
        device: str,
        dtype: ComputeDtype,
        max_model_len: int,
        max_sequences: int,
        kv_cache_mib: int,
    ) -> None:
        """Raise `ValueError` for a dtype that this engine cannot report exact claims in."""
        self.name = engine_name("vllm", device)
        self.max_model_len = max_model_len
        require_own(model_dir)
        self._shapes = {name: tensor.shape for name, tensor in read_policy(model_dir).items()}
        self._dtype = dtype
        self._is_native = device.startswith("cuda")
        if self._is_native and dtype is ComputeDtype.FLOAT32:
            raise ValueError(
                "vLLM's GPU sampler rounds log-probabilities near probability 1 more than a float32 "
                "run allows: set engine.name to transformers for this run"
            )
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vllm")
        self._folder = tempfile.TemporaryDirectory(prefix="rollcall-vllm-")
        # vLLM would read every *.safetensors of a folder.
        alone = Path(self._folder.name) / "model"
        alone.mkdir()
        for name in (CONFIG, WEIGHTS):
            (alone / name).symlink_to((model_dir / name).absolute())
        self._llm: Any = self._thread.submit(
            self._open, alone, device, max_sequences, kv_cache_mib
        ).result()

    def load(self, weights: Weights) -> None:
        """Replace every weight without a restart, and forget what the old ones cached."""
        require_same_model(weights, self._shapes)  # vLLM would keep what is missing, and warn
        self._thread.submit(self._load, weights).result()

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        for request in requests:
            require_fit(request, self.max_model_len)
            if self._is_native and request.temperature != 1.0:
                raise ValueError(
                    f"vLLM's GPU sampler cannot report log-probabilities at temperature "
                    f"{request.temperature}: set engine.name to transformers for this run"
                )
        return self._thread.submit(self._generate, requests).result()

    def with_llm(self, work: Callable[[Any], _T]) -> _T:
        """Do something with vLLM's `LLM`, in the thread that all of its work happens in."""
        return self._thread.submit(lambda: work(self._llm)).result()

    def close(self) -> None:
        self._thread.submit(self._shut_down).result()
        self._thread.shutdown()
        self._folder.cleanup()

    def _open(self, model_dir: Path, device: str, max_sequences: int, kv_cache_mib: int) -> Any:
        _prepare_environment(device)
        from vllm import LLM

        settings: dict[str, Any] = {}
        if self._is_native:
            settings |= {"gpu_memory_utilization": 0.85, "logprobs_mode": "raw_logprobs"}
        else:
            settings |= {"kv_cache_memory_bytes": kv_cache_mib << 20, "enforce_eager": True}
            settings |= {"logits_processors": [_PROCESSOR], "logprobs_mode": "processed_logits"}
        with _unseen_llvmlite():
            llm = LLM(
                str(model_dir),
                dtype=self._dtype.value,
                skip_tokenizer_init=True,
                max_model_len=self.max_model_len,
                max_num_seqs=max_sequences,
                disable_log_stats=True,
                worker_extension_cls=_EXTENSION,
                **settings,
            )
        if self._is_native and not llm.collective_rpc("samples_natively")[0]:
            raise RuntimeError(
                "vLLM chose Model Runner V1, whose GPU sampler is not the seeded stream"
            )
        self._llm = llm
        request = Request((0,), seed=0, temperature=1.0, max_tokens=2, eos_token_ids=(0,))
        self._generate([request] * _NUM_WARM_UP)
        return llm

    def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        outputs = self._llm.generate(
            [{"prompt_token_ids": list(request.prompt)} for request in requests],
            [self._sampling(request) for request in requests],
            use_tqdm=False,
        )
        return [_completion(output.outputs[0]) for output in outputs]

    def _sampling(self, request: Request) -> Any:
        from vllm import SamplingParams

        common: dict[str, Any] = {
            "max_tokens": request.max_tokens,
            "stop_token_ids": list(request.eos_token_ids),
            "ignore_eos": True,
            "detokenize": False,
            "logprobs": 0,
        }
        if self._is_native:
            return SamplingParams(seed=request.seed, temperature=request.temperature, **common)
        drawn = {"rollcall_seed": request.seed, "rollcall_temperature": request.temperature}
        return SamplingParams(temperature=0.0, extra_args=drawn, **common)

    def _load(self, weights: Weights) -> None:
        from safetensors.torch import save_file

        from rollout_worker.engines.causal import tensor_of

        path = Path(self._folder.name) / "policy.safetensors"
        loaded = cast_all(weights, self._dtype)
        save_file({name: tensor_of(tensor) for name, tensor in loaded.items()}, path)
        try:
            self._llm.collective_rpc("load_policy", args=(str(path),))
        finally:
            path.unlink()
        self._llm.reset_prefix_cache()

    def _shut_down(self) -> None:
        self._llm.llm_engine.engine_core.shutdown()
        del self._llm
        gc.collect()


def require_own(model_dir: Path) -> None:
    """Raise `ValueError` for a model that vLLM serves through transformers' code only, which it then changes for all."""
    known = architecture_of(model_dir).known
    if known is not None and not known.is_in_vllm:
        raise ValueError(f"vLLM has no {known.name} of its own: set engine.name to transformers")


@contextmanager
def _unseen_llvmlite() -> Iterator[None]:
    """Hide a module that vLLM trips over, where numba was loaded before.

    vLLM 0.32 looks for its kernels in what every loaded module holds, and `llvmlite.binding.ffi` holds
    an object that makes up any attribute it is asked for, `__dict__` included.
    """
    name = "llvmlite.binding.ffi"
    module = sys.modules.pop(name, None)
    try:
        yield
    finally:
        if module is not None:
            sys.modules[name] = module


def _prepare_environment(device: str) -> None:
    """Set what vLLM reads from the environment when it is imported."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    os.environ["VLLM_DO_NOT_TRACK"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    if device.startswith("cuda"):
        os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "1"
        return
    os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "0"
    # Binding would pin this worker to a core that others on the machine also got.
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    # One small function of vLLM's sampler is compiled at the first log-probability: 11 s and a C++
    # compiler, for nothing measurable in eager mode.
    os.environ["TORCH_COMPILE_DISABLE"] = "1"


def _completion(output: Any) -> Completion:
    tokens = np.array(output.token_ids, dtype=np.uint32)
    logprobs = [
        entry[token].logprob for token, entry in zip(output.token_ids, output.logprobs, strict=True)
    ]
    return Completion(tokens, np.array(logprobs, dtype=np.float32))
