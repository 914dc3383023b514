"""The seams through which vLLM samples by the seeded stream and takes new weights.

Imported by vLLM by name, inside its worker. Uses its public extension points only:
`logits_processors` and `worker_extension_cls`.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from rollout_worker.engines.gumbel import gumbel
from rollout_worker.engines.likelihood import logprobs_of
from rollout_worker.replay.vllm_worker import ReplaysClaims

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig

SEED = "rollcall_seed"
TEMPERATURE = "rollcall_temperature"


class SeededDraw(LogitsProcessor):
    """Draw the next token of each request that carries a seed (Model Runner V1).

    What is handed on to vLLM is decided: −∞ for every token but the one drawn, whose value is its
    log-probability under softmax(logits / T). Greedy sampling then takes it, and `processed_logits`
    report it as exactly as `likelihood.py` has it, at any temperature.
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
        self._rows: dict[int, tuple[int, float, int, list[int]]] = {}
        """Batch row → seed, temperature, prompt length, the request's growing output."""
        self._seeds = torch.zeros(0, dtype=torch.int64)
        self._temperatures = torch.zeros(0)
        self._index = torch.zeros(0, dtype=torch.int64)

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if not process_dict_updates(self._rows, batch_update, _row_of):
            return
        self._index = torch.tensor(list(self._rows), dtype=torch.int64, device=self._device)
        seeds, temperatures, _, _ = (
            zip(*self._rows.values(), strict=True) if self._rows else [()] * 4
        )
        self._seeds = torch.tensor(seeds, dtype=torch.int64, device=self._device)
        self._temperatures = torch.tensor(temperatures, device=self._device)

    def apply(self, logits: Tensor) -> Tensor:
        if not self._rows:
            return logits
        # The last context token's absolute position; the prompt's first token is 0.
        positions = torch.tensor(
            [length + len(output) - 1 for _, _, length, output in self._rows.values()],
            device=self._device,
        )
        scaled_BV = logits[self._index] / self._temperatures[:, None]
        noised_BV = gumbel(self._seeds, positions, logits.shape[1]).add_(scaled_BV)
        drawn_B = noised_BV.argmax(dim=1)
        decided_BV = noised_BV.fill_(-torch.inf)
        decided_BV.scatter_(1, drawn_B[:, None], logprobs_of(scaled_BV, drawn_B)[:, None])
        return logits.index_copy_(0, self._index, decided_BV)


def _row_of(
    params: "SamplingParams", prompt: list[int] | None, output: list[int]
) -> tuple[int, float, int, list[int]] | None:
    extra = params.extra_args or {}
    seed = extra.get(SEED)
    if seed is None:
        return None
    if prompt is None:
        raise ValueError("seeded sampling needs the prompt's token ids")
    return int(seed), float(extra.get(TEMPERATURE, 1.0)), len(prompt), output


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
        would keep the previous policy; replay saw a gap of 0.36 nats in bfloat16, whose honest one is 0.03.
        """
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

        for module in self.model_runner.get_model().modules():
            if isinstance(module, ParallelLMHead) and hasattr(module, "cpu_linear"):
                module.quant_method.process_weights_after_loading(module)

    def samples_natively(self) -> bool:
        return bool(self.vllm_config.use_v2_model_runner)


class WorkerHooks(HotReload, ReplaysClaims):
    """All that vLLM mixes into its worker: it takes one class."""
