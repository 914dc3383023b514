"""Prefill many completions at once, each distinct prompt once, within a bound on what is held.

Work is cut into passes. Where siblings in a pass save enough, it prefills their prompts, copies the
KV cache to the completions that share them, and runs the completions over it; else it runs whole
sequences, which need no mask. Either way one forward takes at most a pass's worth of positions: a
longer row goes in chunks of columns. Left out: what is done with the hidden states.

Suffixes: B completions, Q distinct prompts, S columns, H hidden, N completion positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rollout_worker.engines.causal import CausalModel

_SHARING_COST = 1.5
"""A position costs this much more where prompts are shared: attention under a mask skips nothing
above the diagonal, and a cache is copied. Demo model on a CPU: 1.2 to 1.7 over eight shapes."""


@dataclass(frozen=True, slots=True)
class Completed:
    """One sequence: a prompt, and the tokens that are said to follow it."""

    prompt: tuple[int, ...]
    tokens: NDArray[np.uint32]

    @property
    def num_context(self) -> int:
        """Completion tokens that stand before another: the last is nobody's context."""
        return len(self.tokens) - 1

    def context(self) -> list[int]:
        """Return what goes through the model: all but the last token."""
        return [*self.prompt, *self.tokens[:-1].tolist()]


@dataclass(frozen=True, slots=True)
class Pass:
    """Completions that run together."""

    rows: tuple[int, ...]
    """Indices into the work."""
    num_prompts: int
    """Distinct ones."""
    prompt_width: int
    width: int
    """Columns after the prompt."""

    @property
    def num_held(self) -> int:
        """Positions, padding included, whose keys and values are held at once."""
        return len(self.rows) * (self.prompt_width + self.width)

    @property
    def num_shared(self) -> int:
        """Positions that go through the model, padding included, where prompts are shared."""
        return self.num_prompts * self.prompt_width + len(self.rows) * self.width

    @property
    def shares_prompts(self) -> bool:
        return self.num_shared * _SHARING_COST < self.num_held

    @property
    def cost(self) -> float:
        """In positions of a plain causal prefill."""
        return min(float(self.num_held), self.num_shared * _SHARING_COST)


def passes(work: Sequence[Completed], max_positions: int) -> list[Pass]:
    """Cut the work so that a pass holds at most `max_positions`; a longer row has one for itself.

    Siblings side by side share a prefill but are of many lengths, and like lengths side by side pad
    little: of the two orders the cheaper one is taken.
    """
    rows = range(len(work))
    longest: dict[tuple[int, ...], int] = {}
    for row in work:
        longest[row.prompt] = max(longest.get(row.prompt, 0), row.num_context)
    siblings = sorted(
        rows, key=lambda i: (longest[work[i].prompt], work[i].prompt, work[i].num_context)
    )
    lengths = sorted(rows, key=lambda i: (work[i].num_context, work[i].prompt))
    plans = [_cut(work, order, max_positions) for order in (siblings, lengths)]
    return min(plans, key=lambda plan: sum(part.cost for part in plan))


def _cut(work: Sequence[Completed], order: Sequence[int], max_positions: int) -> list[Pass]:
    done: list[Pass] = []
    rows: list[int] = []
    prompts: set[tuple[int, ...]] = set()
    prompt_width = width = 0
    for i in order:
        wider_prompt = max(prompt_width, len(work[i].prompt))
        wider = max(width, work[i].num_context)
        if rows and (len(rows) + 1) * (wider_prompt + wider) > max_positions:
            done.append(Pass(tuple(rows), len(prompts), prompt_width, width))
            rows, prompts = [], set()
            wider_prompt, wider = len(work[i].prompt), work[i].num_context
        rows.append(i)
        prompts.add(work[i].prompt)
        prompt_width, width = wider_prompt, wider
    return [*done, Pass(tuple(rows), len(prompts), prompt_width, width)] if rows else done


def hidden_states(
    model: CausalModel, rows: Sequence[Completed], *, shares_prompts: bool, max_positions: int
) -> list[Tensor]:
    """Return for each row the last hidden states before its tokens, one per token, N × H.

    At most `max_positions` go through the model at once. Call under `torch.inference_mode`.
    """
    run = _over_shared_prompts if shares_prompts else _whole
    return run(model, rows, max_positions)


def _whole(model: CausalModel, rows: Sequence[Completed], max_positions: int) -> list[Tensor]:
    ids_BS = _padded([row.context() for row in rows])
    hidden_BSH = _run(model, model.new_cache(), ids_BS, max_positions=max_positions)
    return [
        hidden_BSH[i, len(row.prompt) - 1 : len(row.prompt) + row.num_context]
        for i, row in enumerate(rows)
    ]


def _over_shared_prompts(
    model: CausalModel, rows: Sequence[Completed], max_positions: int
) -> list[Tensor]:
    prompts = list(dict.fromkeys(row.prompt for row in rows))
    which = {prompt: i for i, prompt in enumerate(prompts)}
    of_B = torch.tensor([which[row.prompt] for row in rows], device=model.device)
    lengths_Q = torch.tensor([len(prompt) for prompt in prompts], device=model.device)
    cache = model.new_cache()
    prompts_QSH = _run(model, cache, _padded(prompts), max_positions=max_positions)
    last_QH = prompts_QSH[torch.arange(len(prompts), device=model.device), lengths_Q - 1]
    first_BH = last_QH[of_B]
    if not any(row.num_context for row in rows):
        return list(first_BH[:, None])
    cache.batch_select_indices(of_B)
    columns_S = torch.arange(prompts_QSH.shape[1], device=model.device)
    completions_BSH = _run(
        model,
        cache,
        _padded([row.tokens[:-1].tolist() for row in rows]),
        start_B=lengths_Q[of_B],
        seen_BS=columns_S[None] < lengths_Q[of_B][:, None],
        max_positions=max_positions,
    )
    return [
        torch.cat([first_BH[i, None], completions_BSH[i, : row.num_context]])
        for i, row in enumerate(rows)
    ]


def _run(
    model: CausalModel,
    cache: Any,
    ids_BS: Tensor,
    *,
    start_B: Tensor | None = None,
    seen_BS: Tensor | None = None,
    max_positions: int,
) -> Tensor:
    """Run `ids_BS` over what the cache holds, and add them to it; return B × S × H.

    `seen_BS` masks the padding among the cached columns; `start_B` is the position of the first id.
    """
    num_rows, width = ids_BS.shape
    chunk = max(1, max_positions // num_rows)
    ids_BS = ids_BS.to(model.device)
    parts = []
    for first in range(0, width, chunk):
        part_BS = ids_BS[:, first : first + chunk]
        columns_S = torch.arange(first, first + part_BS.shape[1], device=model.device)
        extra: dict[str, Tensor] = {}
        if start_B is not None:
            extra["position_ids"] = start_B[:, None] + columns_S[None]
        if seen_BS is not None and not bool(seen_BS.all()):
            ones_BS = torch.ones(
                num_rows, first + part_BS.shape[1], dtype=torch.bool, device=model.device
            )
            extra["attention_mask"] = torch.cat([seen_BS, ones_BS], dim=1)
        output = model.decoder(input_ids=part_BS, past_key_values=cache, use_cache=True, **extra)
        parts.append(output.last_hidden_state)
    return torch.cat(parts, dim=1)


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Pad on the right, where a causal model's earlier positions never look."""
    ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return torch.from_numpy(ids)
