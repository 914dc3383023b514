"""Replay a group: is every claimed token the winner under the leased seeds?

One prefill over prompt and completion gives the logits of every completion position; the seeded
noise is added and the claimed token compared with the winner (`protocol/README.md` 4.6). This file
measures; `protocol.verdict.judge` decides. Left out: fetching work and weights, signing verdicts,
and what admission checks on every submission (lengths, termination, ids in range).

Suffixes: B sequences, S positions, N completion positions of a pass, H hidden, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protocol.constants import MARGIN_CAP_MICRONATS, MICRO, SURPRISAL_FLOOR_NATS
from protocol.policy import Weights
from protocol.rollout import Lease, Rollout, Submission
from protocol.verdict import MAX_MISMATCHES, Mismatch, ReplayStats
from rollout_worker.engines.causal import CausalModel
from rollout_worker.engines.gumbel import gumbel

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


@dataclass(frozen=True, slots=True)
class _Row:
    """One sequence to prefill, with where its answers go."""

    prompt: tuple[int, ...]
    claimed: NDArray[np.uint32]
    worker_logprobs: NDArray[np.float32]
    seed: int
    temperature: float

    @property
    def length(self) -> int:
        """Context positions: the last claimed token is nobody's context."""
        return len(self.prompt) + len(self.claimed) - 1


class ReplayModel:
    """A policy to replay with, in bfloat16. Memory is bounded whatever the work.

    `max_pass_tokens` bounds activations, `max_logits` the float32 logits and noise held at once
    (2**24 of them are 64 MiB each).
    """

    def __init__(
        self,
        model_dir: Path,
        *,
        device: str = "cpu",
        max_pass_tokens: int = 8_192,
        max_logits: int = 1 << 24,
    ) -> None:
        self._model = CausalModel(model_dir, device=device)
        self._max_pass_tokens = max_pass_tokens
        self._max_positions = max(1, max_logits // self._model.vocabulary_size)

    def load(self, weights: Weights) -> None:
        """Replace every weight; raises `ValueError` where names or shapes do not fit."""
        self._model.load(weights)

    @torch.inference_mode()
    def findings(self, groups: Sequence[tuple[Lease, Sequence[Rollout]]]) -> list[list[Findings]]:
        """Measure every position of every rollout; `ValueError` for what no model can read."""
        rows = [row for lease, rollouts in groups for row in _rows(lease, rollouts)]
        largest = max((int(row.claimed.max(initial=0)) for row in rows), default=0)
        if largest >= self._model.vocabulary_size:
            raise ValueError(
                f"token {largest} is outside the {self._model.vocabulary_size} known ids"
            )
        found: dict[int, Findings] = {}
        for chosen in _passes(rows, self._max_pass_tokens):
            found.update(zip(chosen, self._prefill([rows[i] for i in chosen]), strict=True))
        results = (found[i] for i in range(len(rows)))
        return [[next(results) for _ in rollouts] for _, rollouts in groups]

    def _prefill(self, rows: Sequence[_Row]) -> list[Findings]:
        width = max(row.length for row in rows)
        ids_BS = np.zeros((len(rows), width), dtype=np.int64)
        for i, row in enumerate(rows):
            ids_BS[i, : row.length] = [*row.prompt, *row.claimed[:-1].tolist()]
        # Padding stands on the right, where a causal model's earlier positions never look.
        output = self._model.decoder(
            input_ids=torch.from_numpy(ids_BS).to(self._model.device), use_cache=False
        )
        where_N = [
            (i, len(row.prompt) - 1 + k)
            for i, row in enumerate(rows)
            for k in range(len(row.claimed))
        ]
        flat_N = torch.tensor([i * width + p for i, p in where_N], device=self._model.device)
        hidden_NH = output.last_hidden_state.flatten(0, 1)[flat_N]
        return self._compare(rows, hidden_NH, torch.tensor([p for _, p in where_N]))

    def _compare(
        self, rows: Sequence[_Row], hidden_NH: Tensor, positions_N: Tensor
    ) -> list[Findings]:
        counts = torch.tensor([len(row.claimed) for row in rows])
        claimed_N = torch.from_numpy(np.concatenate([r.claimed for r in rows]).astype(np.int64))
        seeds_N = torch.tensor([row.seed for row in rows]).repeat_interleave(counts)
        temperatures_N = torch.tensor([r.temperature for r in rows]).repeat_interleave(counts)
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        for start in range(0, len(claimed_N), self._max_positions):
            block = slice(start, start + self._max_positions)
            device = self._model.device
            scaled_NV = self._model.logits(hidden_NH[block]) / temperatures_N[block, None].to(
                device
            )
            claims_N1 = claimed_N[block, None].to(device)
            logprobs_N = (scaled_NV.gather(1, claims_N1) - scaled_NV.logsumexp(1, keepdim=True))[
                :, 0
            ]
            scaled_NV += gumbel(
                seeds_N[block].to(device), positions_N[block].to(device), scaled_NV.shape[1]
            )
            best_N, expected_N = scaled_NV.max(dim=1)
            margins_N = best_N - scaled_NV.gather(1, claims_N1)[:, 0]
            parts.append((expected_N.cpu(), margins_N.cpu(), logprobs_N.cpu()))
        expected, margins, logprobs = (
            np.split(torch.cat(part).numpy(), np.cumsum(counts.numpy())[:-1])
            for part in zip(*parts, strict=True)
        )
        return [
            Findings(
                claimed=row.claimed,
                expected=expected[i].astype(np.uint32),
                margins=_bounded(margins[i]),
                gaps=_bounded(_gaps(logprobs[i], row.worker_logprobs)),
            )
            for i, row in enumerate(rows)
        ]


def replay(
    model: ReplayModel, lease: Lease, submission: Submission
) -> tuple[ReplayStats, tuple[Mismatch, ...]]:
    """Replay one group with the weights that `model` holds."""
    return replay_many(model, [(lease, submission)])[0]


def replay_many(
    model: ReplayModel, work: Sequence[tuple[Lease, Submission]]
) -> list[tuple[ReplayStats, tuple[Mismatch, ...]]]:
    """Replay groups of one policy version together: prefills are filled across groups."""
    found = model.findings([(lease, submission.rollouts) for lease, submission in work])
    return [(stats_of(group), mismatches_of(group)) for group in found]


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


def _rows(lease: Lease, rollouts: Sequence[Rollout]) -> Iterator[_Row]:
    if len(rollouts) != lease.group_size:
        raise ValueError(f"{len(rollouts)} rollouts under a lease of {lease.group_size} seeds")
    for seed, rollout in zip(lease.seeds, rollouts, strict=True):
        claimed, logprobs = rollout.token_ids(), rollout.worker_logprobs()
        if not len(claimed) or len(claimed) != len(logprobs):
            raise ValueError(f"{len(claimed)} tokens with {len(logprobs)} log-probabilities")
        yield _Row(lease.prompt, claimed, logprobs, seed, lease.temperature)


def _passes(rows: Sequence[_Row], max_pass_tokens: int) -> Iterator[list[int]]:
    """Cut the rows, by length, into passes of at most `max_pass_tokens` with padding counted."""
    chosen: list[int] = []
    for i in sorted(range(len(rows)), key=lambda i: rows[i].length):
        if chosen and (len(chosen) + 1) * rows[i].length > max_pass_tokens:
            yield chosen
            chosen = []
        chosen.append(i)
    if chosen:
        yield chosen


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
