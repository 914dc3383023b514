"""What Reliquary's rule for seeded sampling sees of the same cheats, as published.

There too the randomness of a group is fixed beforehand, but a token is drawn by the inverse of the
cumulative distribution over token ids: the first id whose cumulative probability exceeds a seeded
uniform. A verifier prefills and asks for each position whether the uniform lies in the claimed token's
interval. Rounding moves the borders of intervals that are narrower than itself, so the rule counts
matches: only where the policy is not sure, against floors for a group and for each of its rollouts.

reliquadotai/reliquary of 2026-08-22 (8f22c26): `environment/forced_sampling.py`, `constants.py` at protocol
version 4, and the verdicts of `validator/batcher.py`. Its gate is off as published; on, one position of any
kind whose uniform is farther than ε from the interval rejects the group. Here seeds and positions
are the lease's, so the uniform comes from our hash and not from SHA-256. Left out: its other checks
(a sketch like GRAIL's, claimed log-probabilities, tokens beyond belief, termination).

Suffixes: N positions, V vocabulary, G groups, R rollouts of a group.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.attacks.peers import Group, hidden_states
from benchmarks.attacks.record import Drawn
from rollout_worker.engines.base import Request
from rollout_worker.engines.causal import CausalModel
from rollout_worker.engines.gumbel import random_bits
from rollout_worker.engines.transformers import DecodingRows, TransformersEngine

NAME = "inverse-cdf"
"""What the lab calls the engine that samples by this rule."""

SURE = 0.99
"""A position counts only if its largest probability is below this."""
GROUP_FLOOR = 0.80
ROLLOUT_FLOOR = 0.70
MIN_GROUP_POSITIONS = 30
"""With fewer that count, a group's share is not judged."""
MIN_ROLLOUT_POSITIONS = 20
GATE = 0.002
"""ε: how far the uniform may lie from the claimed token's interval if the gate is on."""


class InverseCdfEngine(TransformersEngine):
    """The transformers engine, drawing by the inverse of the cumulative distribution."""

    def _prefilled(self, requests: Sequence[Request]) -> DecodingRows:
        return InverseCdfBatch.prefill(self.model, requests)


class InverseCdfBatch(DecodingRows):
    def draw(self, scaled_BV: Tensor) -> Tensor:
        return pick(scaled_BV, self.seeds, self.positions)


def pick(scaled_NV: Tensor, seeds_N: Tensor, positions_N: Tensor) -> Tensor:
    """Return the first token whose cumulative probability exceeds the uniform."""
    cumulative_NV = scaled_NV.softmax(dim=1).cumsum(dim=1)
    uniforms_N1 = uniforms(seeds_N, positions_N)[:, None]
    return torch.searchsorted(cumulative_NV, uniforms_N1, right=True)[:, 0].clamp(
        max=scaled_NV.shape[1] - 1
    )


def uniforms(seeds_N: Tensor, positions_N: Tensor) -> Tensor:
    """Return u(s, p) in [0, 1) in float32, from the stream's bits for token 0."""
    bits_N = random_bits(seeds_N, positions_N, 1)[:, 0].long() & 0xFFFFFFFF
    return (bits_N >> 8).float() * 2.0**-24


@torch.inference_mode()
def drawn(model: CausalModel, groups: Sequence[Group]) -> Drawn:
    """Hold every claimed token against its interval under the weights that `model` has."""
    peaks: list[Tensor] = []
    misses: list[Tensor] = []
    for lease, rollouts in groups:
        hidden = hidden_states(model, [(lease, rollouts)], together=True)
        for seed, rollout, hidden_NH in zip(lease.seeds, rollouts, hidden, strict=True):
            scaled_NV = model.logits(hidden_NH) / lease.temperature
            tokens_N = torch.from_numpy(rollout.token_ids().astype(np.int64))
            positions_N = torch.arange(len(tokens_N)) + len(lease.prompt) - 1
            uniforms_N = uniforms(torch.full_like(tokens_N, seed), positions_N)
            peaks.append(scaled_NV.softmax(dim=1).amax(dim=1))
            misses.append(missed_by(scaled_NV, tokens_N, uniforms_N))
    lengths = [[len(r.token_ids()) for r in rollouts] for _, rollouts in groups]
    return Drawn(np.array(lengths), torch.cat(peaks).numpy(), torch.cat(misses).numpy())


def missed_by(scaled_NV: Tensor, tokens_N: Tensor, uniforms_N: Tensor) -> Tensor:
    """Return how far each uniform is from the claimed token's interval [lower, upper); 0 inside it."""
    probabilities_NV = scaled_NV.softmax(dim=1)
    upper_N = probabilities_NV.cumsum(dim=1).gather(1, tokens_N[:, None])[:, 0]
    lower_N = upper_N - probabilities_NV.gather(1, tokens_N[:, None])[:, 0]
    is_inside_N = (uniforms_N >= lower_N) & (uniforms_N < upper_N)
    far_N = torch.maximum(lower_N - uniforms_N, uniforms_N - upper_N)
    # On the upper border the distance is 0, and the token still is not the drawn one.
    return far_N.clamp(min=torch.finfo(torch.float32).tiny).masked_fill(is_inside_N, 0.0)


def rejects(seen: Drawn, *, has_gate: bool) -> NDArray[np.bool_]:
    """Return which groups the floors reject, and with the gate also those with a hard mismatch."""
    counts_N = seen.peaks_N < SURE
    counted_GR = _sums(counts_N, seen.lengths_GR)
    matched_GR = _sums(counts_N & (seen.misses_N == 0), seen.lengths_GR)
    rejected_G = _below(counted_GR.sum(1), matched_GR.sum(1), GROUP_FLOOR, MIN_GROUP_POSITIONS)
    rejected_G |= _below(counted_GR, matched_GR, ROLLOUT_FLOOR, MIN_ROLLOUT_POSITIONS).any(axis=1)
    if has_gate:
        rejected_G |= _sums(seen.misses_N > GATE, seen.lengths_GR).any(axis=1)
    return rejected_G


def matched(seen: Drawn) -> float:
    """Return the share of the positions that count whose token is the drawn one."""
    return float((seen.misses_N == 0)[seen.peaks_N < SURE].mean())


def _below(
    counted: NDArray[np.int64], matched: NDArray[np.int64], floor: float, fewest: int
) -> NDArray[np.bool_]:
    shares = matched / np.maximum(counted, 1)
    return np.asarray((counted >= fewest) & (shares < floor))


def _sums(flags_N: NDArray[np.bool_], lengths_GR: NDArray[np.int64]) -> NDArray[np.int64]:
    ends = np.cumsum(lengths_GR.ravel())[:-1]
    return np.array([part.sum() for part in np.split(flags_N, ends)]).reshape(lengths_GR.shape)
