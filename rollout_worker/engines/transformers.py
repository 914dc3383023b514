"""An engine on Hugging Face transformers: batched decoding with a KV cache, on CPU or GPU.

Each distinct prompt is prefilled once and its cache copied to its rollouts; finished rollouts leave
the batch. Slower than vLLM on a GPU and even with it on a small CPU model; it runs wherever torch
does. Left out: paging and continuous batching.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from protocol.policies.manifest import Weights
from protocol.precision import ComputeDtype
from rollout_worker.engines.base import Completion, Request, engine_name
from rollout_worker.engines.causal import CausalModel
from rollout_worker.engines.fit import require_fit
from rollout_worker.engines.gumbel import gumbel
from rollout_worker.engines.likelihood import logprobs_of

_COMPACT_BELOW = 0.75
"""The batch is compacted when this share of its rows is live: copying a cache costs about a step."""

_PER_ROW = ("mask", "positions", "rows", "seeds", "temperatures", "budgets", "eos")
"""What a compaction must cut besides the cache."""


class TransformersEngine:
    """`Engine` on a transformers model."""

    def __init__(
        self,
        model_dir: Path,
        *,
        device: str,
        dtype: ComputeDtype,
        max_model_len: int,
        max_sequences: int,
    ) -> None:
        self.name = engine_name("transformers", device)
        self.model = CausalModel(model_dir, device=device, dtype=dtype)
        self._max_model_len = max_model_len
        self._max_sequences = max_sequences

    def load(self, weights: Weights) -> None:
        self.model.load(weights)

    def close(self) -> None:
        del self.model

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        for request in requests:
            require_fit(request, self._max_model_len)
        # Siblings stay together, for one prefill; like lengths do too, for little padding.
        order = sorted(
            range(len(requests)), key=lambda i: (len(requests[i].prompt), requests[i].prompt)
        )
        done: dict[int, Completion] = {}
        for start in range(0, len(order), self._max_sequences):
            chosen = order[start : start + self._max_sequences]
            batch = self._prefilled([requests[i] for i in chosen])
            done.update(zip(chosen, batch.run(), strict=True))
        return [done[i] for i in range(len(requests))]

    def _prefilled(self, requests: Sequence[Request]) -> "DecodingRows":
        return DecodingRows.prefill(self.model, requests)


@dataclass(slots=True)
class DecodingRows:
    """Rows being decoded. Tensors have one row per live rollout; contexts are padded on the left.

    Suffixes: B live rows, Q distinct prompts, S context, V vocabulary.
    """

    model: CausalModel
    cache: Any
    mask: Tensor
    hidden: Tensor
    """B × H, what the next token is sampled from."""
    positions: Tensor
    """Of each row's last context token, whatever the padding."""
    rows: Tensor
    """Which request each live row belongs to."""
    seeds: Tensor
    temperatures: Tensor
    budgets: Tensor
    eos: Tensor
    """B × E, what ends each row; one that fewer tokens end repeats its first."""
    tokens: list[list[int]]
    logprobs: list[list[float]]

    @classmethod
    def prefill(cls, model: CausalModel, requests: Sequence[Request]) -> "DecodingRows":
        prompts = list(dict.fromkeys(request.prompt for request in requests))
        width = max(map(len, prompts))
        ids_QS = torch.tensor(
            [[0] * (width - len(p)) + list(p) for p in prompts], device=model.device
        )
        lengths_Q = torch.tensor([len(p) for p in prompts], device=model.device)
        columns_S = torch.arange(width, device=model.device)
        mask_QS = (columns_S[None] >= width - lengths_Q[:, None]).long()
        output = model.decoder(
            input_ids=ids_QS,
            attention_mask=mask_QS,
            position_ids=(mask_QS.cumsum(1) - 1).clamp(min=0),
            past_key_values=model.new_cache(),
            use_cache=True,
        )
        which = {prompt: i for i, prompt in enumerate(prompts)}
        of_B = torch.tensor([which[r.prompt] for r in requests], device=model.device)
        output.past_key_values.batch_select_indices(of_B)

        def column(values: Sequence[Any]) -> Tensor:
            return torch.tensor(values, device=model.device)

        return cls(
            model=model,
            cache=output.past_key_values,
            mask=mask_QS[of_B],
            hidden=output.last_hidden_state[:, -1][of_B],
            positions=lengths_Q[of_B] - 1,
            rows=torch.arange(len(requests), device=model.device),
            seeds=column([r.seed for r in requests]),
            temperatures=column([r.temperature for r in requests]).float(),
            budgets=column([r.max_tokens for r in requests]),
            eos=column(_of_one_length([r.eos_token_ids for r in requests])),
            tokens=[[] for _ in requests],
            logprobs=[[] for _ in requests],
        )

    def run(self) -> list[Completion]:
        """Decode until every row has ended."""
        ended_B = torch.zeros_like(self.rows, dtype=torch.bool)
        while True:
            drawn_B = self._sample(ended_B)
            self.budgets -= 1
            ended_B |= (drawn_B[:, None] == self.eos).any(dim=1) | (self.budgets <= 0)
            num_live = int((~ended_B).sum())
            if num_live == 0:
                break
            if num_live <= _COMPACT_BELOW * len(ended_B):
                drawn_B = self._compact(~ended_B, drawn_B)
                ended_B = torch.zeros_like(self.rows, dtype=torch.bool)
            self._step(drawn_B)
        return [
            Completion(np.array(tokens, dtype=np.uint32), np.array(logprobs, dtype=np.float32))
            for tokens, logprobs in zip(self.tokens, self.logprobs, strict=True)
        ]

    def _sample(self, ended_B: Tensor) -> Tensor:
        scaled_BV = self.model.logits(self.hidden) / self.temperatures[:, None]
        drawn_B = self.draw(scaled_BV)
        logprobs_B = logprobs_of(scaled_BV, drawn_B)
        live = zip(
            self.rows.tolist(),
            drawn_B.tolist(),
            logprobs_B.tolist(),
            ended_B.tolist(),
            strict=True,
        )
        for row, token, logprob, ended in live:
            if not ended:
                self.tokens[row].append(token)
                self.logprobs[row].append(logprob)
        return drawn_B

    def draw(self, scaled_BV: Tensor) -> Tensor:
        """Return the token that the seeded stream draws from each row's `logits / T`."""
        noise_BV = gumbel(self.seeds, self.positions, scaled_BV.shape[1])
        return (scaled_BV + noise_BV).argmax(dim=1)

    def _compact(self, live_B: Tensor, drawn_B: Tensor) -> Tensor:
        keep = live_B.nonzero()[:, 0]
        self.cache.batch_select_indices(keep)
        for name in _PER_ROW:
            setattr(self, name, getattr(self, name)[keep])
        return drawn_B[keep]

    def _step(self, drawn_B: Tensor) -> None:
        self.positions = self.positions + 1
        self.mask = torch.cat([self.mask, torch.ones_like(drawn_B)[:, None]], dim=1)
        output = self.model.decoder(
            input_ids=drawn_B[:, None],
            attention_mask=self.mask,
            position_ids=self.positions[:, None],
            past_key_values=self.cache,
            use_cache=True,
        )
        self.hidden = output.last_hidden_state[:, -1]


def _of_one_length(ends: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    longest = max(map(len, ends))
    return [own + own[:1] * (longest - len(own)) for own in ends]
