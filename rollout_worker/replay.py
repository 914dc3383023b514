"""Replay a group: is every claimed token the winner under the leased seeds?

One prefill over prompt and completion gives the logits of every completion position; the seeded
noise is added and the claimed token compared with the winner (`protocol/README.md` 4.6). This file
measures; `protocol.verdict.judge` decides. Left out: fetching work and weights, signing verdicts,
what admission checks on every submission (lengths, termination, ids in range), and stopping early
inside a group: a verdict's stats cover every token of it, so that whoever replays it again can
compare them with their own.

`ReplayModel` prefills with transformers; `vllm_replay.py` has its like on vLLM.

Suffixes: N completion positions, H hidden, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from protocol.activations import Deviation
from protocol.constants import MARGIN_CAP_MICRONATS, MICRO, SURPRISAL_FLOOR_NATS
from protocol.policy import Weights
from protocol.rollout import Lease, Rollout, Submission
from protocol.verdict import MAX_MISMATCHES, Mismatch, ReplayStats
from rollout_worker.activations import compare
from rollout_worker.engines.causal import CausalModel
from rollout_worker.engines.contest import Claims, Decided, decide
from rollout_worker.engines.prefill import Completed, hidden_states, passes

LARGEST_NATS = 1_000.0
"""Margins and gaps are cut here, so that an infinite one still has an integer form."""

NOTHING_MEASURED = ReplayStats(
    num_tokens=0,
    num_matched=0,
    mean_margin_micronats=0,
    max_margin_micronats=0,
    mean_logprob_gap_micronats=0,
    p99_logprob_gap_micronats=0,
)


@dataclass(frozen=True, slots=True)
class Findings:
    """What a replay saw at each position of one completion."""

    claimed: NDArray[np.uint32]
    expected: NDArray[np.uint32]
    margins: NDArray[np.float64]
    """In nats; 0 where the claimed token is the winner."""
    gaps: NDArray[np.float64]
    """Between the logarithms of the recomputed and the claimed surprisal, in nats."""
    deviations: tuple[Deviation, ...] = ()
    """Of the activation commitments that the completion carries, one per 32 tokens."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a replay of one group found."""

    stats: ReplayStats
    mismatches: tuple[Mismatch, ...]
    deviations: tuple[tuple[Deviation, ...], ...]
    """Of each rollout's activation commitments; empty where it carries none."""


class Replayer(Protocol):
    """A policy to replay with. Calls come from one thread at a time."""

    def load(self, weights: Weights) -> None:
        """Replace every weight; raises `ValueError` where names or shapes do not fit."""

    def findings(self, groups: Sequence[tuple[Lease, Sequence[Rollout]]]) -> list[list[Findings]]:
        """Measure every position of every rollout; `ValueError` for what no model can read."""


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence to prefill, with what is claimed of it."""

    completed: Completed
    worker_logprobs: NDArray[np.float32]
    activations: bytes
    seed: int
    temperature: float


class ReplayModel:
    """`Replayer` on a transformers model in bfloat16. Memory is bounded whatever the work.

    `max_pass_tokens` bounds the positions whose activations, keys and values are held at once (a
    longer sequence holds its own keys and values); `buffer_bytes` bounds logits and noise. Left out,
    both are what was fastest: on a CPU little enough for its caches, on a GPU enough to fill it.
    """

    def __init__(
        self,
        model_dir: Path,
        *,
        device: str = "cpu",
        max_pass_tokens: int | None = None,
        buffer_bytes: int | None = None,
    ) -> None:
        self._model = CausalModel(model_dir, device=device)
        is_cpu = self._model.device.type == "cpu"
        self._max_pass_tokens = max_pass_tokens or (2_048 if is_cpu else 32_768)
        self._buffer_bytes = buffer_bytes or (16 << 20 if is_cpu else 512 << 20)

    def load(self, weights: Weights) -> None:
        """Replace every weight; raises `ValueError` where names or shapes do not fit."""
        self._model.load(weights)

    @torch.inference_mode()
    def findings(self, groups: Sequence[tuple[Lease, Sequence[Rollout]]]) -> list[list[Findings]]:
        """Measure every position of every rollout; `ValueError` for what no model can read."""
        rows = rows_of(groups, self._model.vocabulary_size)
        found: dict[int, Findings] = {}
        for part in passes([row.completed for row in rows], self._max_pass_tokens):
            measured = self._measured([rows[i] for i in part.rows], part.shares_prompts)
            found.update(zip(part.rows, measured, strict=True))
        results = (found[i] for i in range(len(rows)))
        return [[next(results) for _ in rollouts] for _, rollouts in groups]

    def _measured(self, rows: Sequence[Row], shares_prompts: bool) -> list[Findings]:
        hidden = hidden_states(
            self._model,
            [row.completed for row in rows],
            shares_prompts=shares_prompts,
            max_positions=self._max_pass_tokens,
        )
        hidden_NH = torch.cat(hidden)
        decided = decide(
            claims_of(rows, self._model.device),
            lambda places, tokens: self._model.logits_among(hidden_NH[places], tokens),
            self._model.vocabulary_size,
            buffer_bytes=self._buffer_bytes,
        )
        deviations = [
            tuple(compare(row.activations, own)) if row.activations else ()
            for row, own in zip(rows, hidden, strict=True)
        ]
        return findings_of(rows, decided, deviations)


def replay(
    model: Replayer, lease: Lease, submission: Submission
) -> tuple[ReplayStats, tuple[Mismatch, ...]]:
    """Replay one group with the weights that `model` holds."""
    return replay_many(model, [(lease, submission)])[0]


def replay_many(
    model: Replayer, work: Sequence[tuple[Lease, Submission]]
) -> list[tuple[ReplayStats, tuple[Mismatch, ...]]]:
    """Replay groups of one policy version together: prefills are filled across groups."""
    return [(found.stats, found.mismatches) for found in measure_many(model, work)]


def measure_many(model: Replayer, work: Sequence[tuple[Lease, Submission]]) -> list[Measured]:
    """Replay groups as `replay_many` does, and compare their activation commitments."""
    found = model.findings([(lease, submission.rollouts) for lease, submission in work])
    return [
        Measured(stats_of(group), mismatches_of(group), tuple(f.deviations for f in group))
        for group in found
    ]


def stats_of(group: Sequence[Findings]) -> ReplayStats:
    """Summarise one group in the integers that a verdict signs."""
    margins = np.concatenate([f.margins for f in group]) if group else np.zeros(0)
    gaps = np.concatenate([f.gaps for f in group]) if group else np.zeros(0)
    if not margins.size:
        return NOTHING_MEASURED
    return ReplayStats(
        num_tokens=margins.size,
        num_matched=int((margins == 0).sum()),
        mean_margin_micronats=_micro(np.minimum(margins, MARGIN_CAP_MICRONATS / MICRO).mean()),
        max_margin_micronats=_micro(margins.max()),
        mean_logprob_gap_micronats=_micro(gaps.mean()),
        p99_logprob_gap_micronats=_micro(np.quantile(gaps, 0.99, method="higher")),
    )


def mismatches_of(group: Sequence[Findings]) -> tuple[Mismatch, ...]:
    """Return the worst positions by margin: what a worker needs in order to check the verdict."""
    wrong = [
        Mismatch(
            rollout=i,
            position=int(p),
            expected=int(found.expected[p]),
            claimed=int(found.claimed[p]),
            margin_micronats=_micro(found.margins[p]),
        )
        for i, found in enumerate(group)
        for p in np.flatnonzero(found.margins)
    ]
    return tuple(sorted(wrong, key=lambda m: -m.margin_micronats)[:MAX_MISMATCHES])


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


def findings_of(
    rows: Sequence[Row], decided: Decided, deviations: Sequence[tuple[Deviation, ...]]
) -> list[Findings]:
    """Turn what became of all the rows' positions, one row after another, into their findings."""
    claimed = np.concatenate([row.worker_logprobs for row in rows])
    expected = decided.winners_N.cpu().numpy().astype(np.uint32)
    margins = _bounded(decided.margins_N.cpu().numpy())
    gaps = _bounded(_gaps(decided.logprobs_N.cpu().numpy(), claimed))
    ends = np.cumsum([len(row.completed.tokens) for row in rows])[:-1]
    parts = zip(rows, *(np.split(a, ends) for a in (expected, margins, gaps)), strict=True)
    return [
        Findings(row.completed.tokens, winners, margin, gap, found)
        for (row, winners, margin, gap), found in zip(parts, deviations, strict=True)
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
        yield Row(completed, logprobs, rollout.activations, seed, lease.temperature)


def _gaps(recomputed: NDArray[np.float32], claimed: NDArray[np.float32]) -> NDArray[np.float64]:
    def scaled(logprobs: NDArray[np.float32]) -> NDArray[np.float64]:
        # A "log-probability" above 0 counts as 0; admission refuses what is not finite.
        surprisals = np.maximum(-logprobs.astype(np.float64), 0.0)
        return np.asarray(np.log(SURPRISAL_FLOOR_NATS + surprisals))

    return np.asarray(np.abs(scaled(recomputed) - scaled(claimed)))


def _bounded(nats: NDArray[Any]) -> NDArray[np.float64]:
    return np.nan_to_num(nats.astype(np.float64), nan=LARGEST_NATS).clip(0, LARGEST_NATS)


def _micro(nats: float) -> int:
    return round(float(nats) * MICRO)
