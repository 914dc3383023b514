"""Replay a group: is every claimed token the winner under the leased seeds?

One prefill over prompt and completion gives the logits of every completion position; the seeded
noise is added and the claimed token compared with the winner (`protocol/checks/replay.md`). This file
measures; `protocol.verdict.judge` decides. Left out: fetching work and weights, signing verdicts,
what admission checks on every submission (lengths, termination, ids in range), and stopping early
inside a group: a verdict's stats cover every token of it, so that whoever replays it again can
compare them with their own.

`ReplayModel` prefills with transformers; `vllm.py` has its like on vLLM.

Suffixes: N completion positions, H hidden, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protocol.constants import MARGIN_CAP_NATS, NANO, SURPRISAL_FLOOR_NATS
from protocol.policies.manifest import Weights
from protocol.precision import ComputeDtype
from protocol.rollout import Lease, Rollout
from protocol.verdict import MAX_MISMATCHES, NOTHING_MEASURED, Mismatch, ReplayStats
from rollout_worker.engines.causal import CausalModel
from rollout_worker.engines.fp8_cache import keeping_fp8
from rollout_worker.replay.contest import Claims, Decided, decide
from rollout_worker.replay.nucleus import within_nucleus
from rollout_worker.replay.prefill import Completed, hidden_states, passes

LARGEST_NATS = 1_000.0
"""Margins and gaps are cut here, so that an infinite one still has an integer form."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a replay saw at each position of one completion."""

    claimed: NDArray[np.uint32]
    expected: NDArray[np.uint32]
    margins: NDArray[np.float64]
    """In nats; 0 where the claimed token is the winner."""
    gaps: NDArray[np.float64]
    """Between the logarithms of the recomputed and the claimed surprisal, in nats."""
    surprisals: NDArray[np.float64]
    """Of the claimed tokens, as recomputed, in nats."""


class Replayer(Protocol):
    """A policy to replay with. Calls come from one thread at a time."""

    def load(self, weights: Weights) -> None:
        """Replace every weight; raises `ValueError` where names or shapes do not fit."""

    def findings(self, groups: Sequence[tuple[Lease, Sequence[Rollout]]]) -> list[list[Findings]]:
        """Measure every position of every rollout; `ValueError` for what no model can read."""


@dataclass(frozen=True, slots=True)
class Variant:
    """How tokens may have been drawn from the same logits, if not as leased.

    Example: Variant(temperature=0.9) is the leased seeds at another temperature.
    """

    seeds: tuple[int, ...] | None = None
    """One per rollout."""
    temperature: float | None = None
    nucleus: float = 1.0
    """The smallest set of tokens with at least this probability is drawn from (top-p)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence to prefill, with what is claimed of it."""

    completed: Completed
    worker_logprobs: NDArray[np.float32]
    seed: int
    temperature: float


class ReplayModel:
    """`Replayer` on a transformers model. Memory is bounded whatever the work.

    `max_pass_tokens` bounds the positions whose activations, keys and values are held at once (a
    longer sequence holds its own keys and values); `buffer_bytes` bounds logits and noise. Left out,
    both are what was fastest: on a CPU little enough for its caches, on a GPU enough to fill it.
    """

    def __init__(
        self,
        model_dir: Path,
        *,
        dtype: ComputeDtype = ComputeDtype.FLOAT32,
        device: str = "cpu",
        max_pass_tokens: int | None = None,
        buffer_bytes: int | None = None,
    ) -> None:
        self.model = CausalModel(model_dir, device=device, dtype=dtype)
        is_cpu = self.model.device.type == "cpu"
        self._max_pass_tokens = max_pass_tokens or (2_048 if is_cpu else 32_768)
        self._buffer_bytes = buffer_bytes or (16 << 20 if is_cpu else 512 << 20)

    def load(self, weights: Weights) -> None:
        """Replace every weight; raises `ValueError` where names or shapes do not fit."""
        self.model.load(weights)

    @torch.inference_mode()
    def findings(self, groups: Sequence[tuple[Lease, Sequence[Rollout]]]) -> list[list[Findings]]:
        """Measure every position of every rollout; `ValueError` for what no model can read."""
        rows = rows_of(groups, self.model.vocabulary_size)
        found: dict[int, Findings] = {}
        for part in passes([row.completed for row in rows], self._max_pass_tokens):
            measured = self._measured([rows[i] for i in part.rows], part.shares_prompts)
            found.update(zip(part.rows, measured, strict=True))
        results = (found[i] for i in range(len(rows)))
        return [[next(results) for _ in rollouts] for _, rollouts in groups]

    @torch.inference_mode()
    def under(
        self, lease: Lease, rollouts: Sequence[Rollout], variants: Sequence[Variant]
    ) -> list[list[Findings]]:
        """Measure one group as each variant would have drawn it: one prefill, a contest each."""
        rows = rows_of([(lease, rollouts)], self.model.vocabulary_size)
        parts = [
            (part.rows, self._hidden([rows[i] for i in part.rows], part.shares_prompts))
            for part in passes([row.completed for row in rows], self._max_pass_tokens)
        ]
        results = []
        for variant in variants:
            found: dict[int, Findings] = {}
            for places, hidden in parts:
                drawn = [_as_drawn(rows[i], i, variant) for i in places]
                decided = self._decided(drawn, torch.cat(hidden), variant.nucleus)
                found.update(zip(places, findings_of(drawn, decided), strict=True))
            results.append([found[i] for i in range(len(rows))])
        return results

    def keeping_fp8(self) -> AbstractContextManager[None]:
        """Prefill over fp8 caches inside a `with`."""
        return keeping_fp8(self.model)

    def _hidden(self, rows: Sequence[Row], shares_prompts: bool) -> list[Tensor]:
        return hidden_states(
            self.model,
            [row.completed for row in rows],
            shares_prompts=shares_prompts,
            max_positions=self._max_pass_tokens,
        )

    def _decided(self, rows: Sequence[Row], hidden_NH: Tensor, nucleus: float = 1.0) -> Decided:
        model, claims = self.model, claims_of(rows, self.model.device)

        @lru_cache(maxsize=1)  # blocks of the same positions follow one another
        def inside(start: int, stop: int) -> Tensor:
            logits_NV = model.logits(hidden_NH[start:stop])
            return within_nucleus(logits_NV, claims.temperatures_N[start:stop], nucleus)

        def logits_of(places: slice, tokens: slice) -> Tensor:
            if nucleus == 1.0:
                return model.logits_among(hidden_NH[places], tokens)
            return inside(places.start, places.stop)[:, tokens]

        return decide(claims, logits_of, model.vocabulary_size, buffer_bytes=self._buffer_bytes)

    def _measured(self, rows: Sequence[Row], shares_prompts: bool) -> list[Findings]:
        hidden = self._hidden(rows, shares_prompts)
        decided = self._decided(rows, torch.cat(hidden))
        return findings_of(rows, decided)


def stats_of(
    group: Sequence[Findings], advantages_micro: Sequence[int] | None = None
) -> ReplayStats:
    """Summarise rollouts of one group in the integers that a verdict signs.

    `advantages_micro` are the rollouts' rewards less the whole group's mean, in millionths of a full
    score; where they are not known no fork is counted.
    """
    if not sum(found.margins.size for found in group):
        return NOTHING_MEASURED
    margins = np.concatenate([f.margins for f in group])
    wrong = [int((found.margins != 0).sum()) for found in group]
    weighed = [a * n for a, n in zip(advantages_micro or [0] * len(group), wrong, strict=True)]
    return ReplayStats(
        num_tokens=margins.size,
        num_matched=margins.size - sum(wrong),
        margin_nanonats=_nano(np.minimum(margins, MARGIN_CAP_NATS).sum()),
        max_margin_nanonats=_nano(margins.max()),
        gap_nanonats=_nano(np.concatenate([f.gaps for f in group]).sum()),
        surprisal_nanonats=_nano(np.concatenate([f.surprisals for f in group]).sum()),
        forks_for_micro=sum(w for w in weighed if w > 0),
        forks_against_micro=-sum(w for w in weighed if w < 0),
    )


def mismatches_of(
    group: Sequence[Findings], rollouts: Sequence[int] | None = None
) -> tuple[Mismatch, ...]:
    """Return the worst positions by margin: what a worker needs in order to check the verdict.

    `rollouts` are the findings' places in the group; left out, it is the whole group.
    """
    wrong = [
        Mismatch(
            rollout=i,
            position=int(p),
            expected=int(found.expected[p]),
            claimed=int(found.claimed[p]),
            margin_nanonats=_nano(found.margins[p]),
        )
        for i, found in zip(rollouts or range(len(group)), group, strict=True)
        for p in np.flatnonzero(found.margins)
    ]
    return tuple(sorted(wrong, key=lambda m: -m.margin_nanonats)[:MAX_MISMATCHES])


def only(
    lease: Lease, rollouts: Sequence[Rollout], chosen: Sequence[int]
) -> tuple[Lease, tuple[Rollout, ...]]:
    """Return some of a group's rollouts, with what the lease says of those alone."""
    seeds = tuple(lease.seeds[i] for i in chosen)
    return lease.model_copy(update={"seeds": seeds}), tuple(rollouts[i] for i in chosen)


def rows_of(groups: Sequence[tuple[Lease, Sequence[Rollout]]], vocabulary_size: int) -> list[Row]:
    """Return every rollout as a row, group by group; `ValueError` for what no model can read."""
    rows = [row for lease, rollouts in groups for row in _rows(lease, rollouts)]
    largest = max(
        (max(*row.completed.prompt, int(row.completed.tokens.max())) for row in rows), default=0
    )
    if largest >= vocabulary_size:
        raise ValueError(f"token {largest} is outside the {vocabulary_size} known ids")
    return rows


def claims_of(rows: Sequence[Row], device: torch.device) -> Claims:
    """Return what is claimed of all the rows' positions, one row after another."""
    counts = torch.tensor([len(row.completed.tokens) for row in rows])
    tokens = np.concatenate([row.completed.tokens for row in rows]).astype(np.int64)
    positions = [
        np.arange(len(row.completed.tokens)) + len(row.completed.prompt) - 1 for row in rows
    ]
    temperatures = torch.tensor([row.temperature for row in rows], dtype=torch.float32)
    return Claims(
        tokens_N=torch.from_numpy(tokens).to(device),
        seeds_N=torch.tensor([row.seed for row in rows]).repeat_interleave(counts).to(device),
        positions_N=torch.from_numpy(np.concatenate(positions)).to(device),
        temperatures_N=temperatures.repeat_interleave(counts).to(device),
    )


def findings_of(rows: Sequence[Row], decided: Decided) -> list[Findings]:
    """Turn what became of all the rows' positions, one row after another, into their findings."""
    claimed = np.concatenate([row.worker_logprobs for row in rows])
    expected = decided.winners_N.cpu().numpy().astype(np.uint32)
    margins = _bounded(decided.margins_N.cpu().numpy())
    logprobs = decided.logprobs_N.cpu().numpy()
    gaps, surprisals = _bounded(_gaps(logprobs, claimed)), _bounded(-logprobs)
    ends = np.cumsum([len(row.completed.tokens) for row in rows])[:-1]
    columns = (np.split(a, ends) for a in (expected, margins, gaps, surprisals))
    parts = zip(rows, *columns, strict=True)
    return [
        Findings(row.completed.tokens, winners, margin, gap, surprisal)
        for row, winners, margin, gap, surprisal in parts
    ]


def _rows(lease: Lease, rollouts: Sequence[Rollout]) -> Iterator[Row]:
    if not lease.prompt:
        raise ValueError("an empty prompt gives the first token no context")
    if len(rollouts) != lease.group_size:
        raise ValueError(f"{len(rollouts)} rollouts under a lease of {lease.group_size} seeds")
    for seed, rollout in zip(lease.seeds, rollouts, strict=True):
        claimed, logprobs = rollout.token_ids(), rollout.worker_logprobs()
        if not len(claimed) or len(claimed) != len(logprobs):
            raise ValueError(f"{len(claimed)} tokens with {len(logprobs)} log-probabilities")
        completed = Completed(lease.prompt, claimed)
        yield Row(completed, logprobs, seed, lease.temperature)


def _as_drawn(row: Row, place: int, variant: Variant) -> Row:
    seed = row.seed if variant.seeds is None else variant.seeds[place]
    temperature = row.temperature if variant.temperature is None else variant.temperature
    return replace(row, seed=seed, temperature=temperature)


def _gaps(recomputed: NDArray[np.float32], claimed: NDArray[np.float32]) -> NDArray[np.float64]:
    def scaled(logprobs: NDArray[np.float32]) -> NDArray[np.float64]:
        # A "log-probability" above 0 counts as 0; admission refuses what is not finite.
        surprisals = np.maximum(-logprobs.astype(np.float64), 0.0)
        return np.asarray(np.log(SURPRISAL_FLOOR_NATS + surprisals))

    return np.asarray(np.abs(scaled(recomputed) - scaled(claimed)))


def _bounded(nats: NDArray[Any]) -> NDArray[np.float64]:
    return np.nan_to_num(nats.astype(np.float64), nan=LARGEST_NATS).clip(0, LARGEST_NATS)


def _nano(nats: float) -> int:
    return round(float(nats) * NANO)
