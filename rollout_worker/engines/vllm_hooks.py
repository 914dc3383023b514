"""The seams through which vLLM samples by the seeded stream, takes new weights and shows its states.

Imported by vLLM by name, inside its worker. Uses its public extension points only:
`logits_processors` and `worker_extension_cls`.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from rollout_worker.engines.gumbel import gumbel
from rollout_worker.engines.vllm_activations import RecordsActivations
from rollout_worker.engines.vllm_replay import ReplaysClaims

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig

SEED = "rollcall_seed"


class SeededGumbel(LogitsProcessor):
    """Add the leased noise to the logits of each request that carries a seed (Model Runner V1).

    Greedy sampling over the noised logits is the draw. vLLM computes the reported log-probabilities
    before any processor runs (`raw_logprobs`), so the noise is not part of them.
    """

    @classmethod
    def validate_params(cls, sampling_params: "SamplingParams") -> None:
        has_seed = SEED in (sampling_params.extra_args or {})
        if has_seed and sampling_params.temperature != 0.0:
            raise ValueError("seeded sampling is greedy over noised logits: set temperature=0")

    def __init__(
        self,
        vllm_config: "VllmConfig",
        device: torch.device,
        is_pin_memory: bool,  # noqa: ARG002
    ) -> None:
        if vllm_config.scheduler_config.async_scheduling:
            raise ValueError(
                "seeded sampling counts output tokens, which asynchronous scheduling has not written "
                "yet: pass async_scheduling=False"
            )
        self._device = device
        self._rows: dict[int, tuple[int, int, list[int]]] = {}
        """Batch row → seed, prompt length, the request's growing output."""
        self._seeds = torch.zeros(0, dtype=torch.int64)
        self._index = torch.zeros(0, dtype=torch.int64)

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if not process_dict_updates(self._rows, batch_update, _row_of):
            return
        self._index = torch.tensor(list(self._rows), dtype=torch.int64, device=self._device)
        self._seeds = torch.tensor([row[0] for row in self._rows.values()], device=self._device)

    def apply(self, logits: Tensor) -> Tensor:
        if not self._rows:
            return logits
        # The last context token's absolute position; the prompt's first token is 0.
        positions = torch.tensor(
            [length + len(output) - 1 for _, length, output in self._rows.values()],
            device=self._device,
        )
        noise = gumbel(self._seeds, positions, logits.shape[1])
        return logits.index_add_(0, self._index, noise)


def _row_of(
    params: "SamplingParams", prompt: list[int] | None, output: list[int]
) -> tuple[int, int, list[int]] | None:
    seed = (params.extra_args or {}).get(SEED)
    if seed is None:
        return None
    if prompt is None:
        raise ValueError("seeded sampling needs the prompt's token ids")
    return int(seed), len(prompt), output


class HotReload:
    """Methods that vLLM mixes into its worker; called through `collective_rpc`."""

    model_runner: Any
    vllm_config: Any

    def load_policy(self, path: str) -> None:
        """Replace all weights by those of a safetensors file."""
        from safetensors.torch import load_file

        self.model_runner.reload_weights(weights_iterator=iter(load_file(path).items()))
        self._repack_tied_head()

    def _repack_tied_head(self) -> None:
        """Pack an output embedding that shares the input embedding's weights again.

        vLLM 0.32 reloads what is in the file. A tied head is not, so on the CPU its packed copy
        would keep the previous policy; replay saw a gap of 0.36 nats instead of 0.03.
        """
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

        for module in self.model_runner.get_model().modules():
            if isinstance(module, ParallelLMHead) and hasattr(module, "cpu_linear"):
                module.quant_method.process_weights_after_loading(module)

    def samples_natively(self) -> bool:
        return bool(self.vllm_config.use_v2_model_runner)


class WorkerHooks(HotReload, RecordsActivations, ReplaysClaims):
    """All that vLLM mixes into its worker: it takes one class."""
