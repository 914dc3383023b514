"""What commitments to activations see of the same cheats: TOPLOC's, and GRAIL's sketch as published.

Both ask whether a forward pass of the right weights was made over the text. The worker's side here is
a pass of the weights that the cheat serves, one completion at a time; the verifier's is the usual
padded batch. A cheat that prefills its result once with the right weights passes both by definition,
whatever it sampled from: the figures are those of a cheat that does not bother.

TOPLOC: `toploc.py`, 128 largest of 32 tokens, its published thresholds
(arXiv:2501.16007, table 2). GRAIL: one-covenant/grail, `grail/protocol/grail_verifier.py` and
`constants.py` at proof version 5: per position the 16 largest activations, each in a signed logarithmic
bucket of at most ±7, times coefficients in ±127 that all positions share; a distance of up to
6,000 + 5 √position passes. So no sketch is beyond 16 × 7 × 127 = 14,224. Left out: GRAIL's other checks
(distribution, termination), which read log-probabilities, as the gap does here.

Suffixes: N positions, H hidden, K the activations of one sketch, P proofs.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.attacks.record import Compared
from benchmarks.attacks.toploc import check, num_proofs, prove
from protocol.rollout import Lease, Rollout
from rollout_worker.engines.causal import CausalModel

NUM_ACTIVATIONS = 16
NUM_BUCKETS = 8
COEFFICIENT_RANGE = 127
LARGEST_SKETCH = NUM_ACTIVATIONS * (NUM_BUCKETS - 1) * COEFFICIENT_RANGE
TOLERANCE_BASE = 6_000
TOLERANCE_GROWTH = 5.0
_DEADZONE = 1e-6

Group = tuple[Lease, Sequence[Rollout]]


@torch.inference_mode()
def hidden_states(model: CausalModel, groups: Sequence[Group], *, together: bool) -> list[Tensor]:
    """Return each rollout's last hidden states, completion tokens × H, as they predict those tokens.

    `together` pads each group into one pass, as a verifier does; else every rollout goes alone.
    """
    found: list[Tensor] = []
    for lease, rollouts in groups:
        batches = [rollouts] if together else [[rollout] for rollout in rollouts]
        for batch in batches:
            found += _prefilled(model, lease, batch)
    return found


def compared(
    worker: Sequence[Tensor], verifier: Sequence[Tensor], groups: Sequence[Group], *, seed: int
) -> Compared:
    """Commit to the worker's hidden states and check them against the verifier's."""
    draws = np.random.default_rng(seed)
    size = len(groups[0][1])
    deviations, positions, sketch, zero = [], [], [], []
    for i, (mine, its) in enumerate(zip(worker, verifier, strict=True)):
        deviations += check(prove(_bits(mine)), _bits(its))
        coefficients = coefficients_of(draws)
        places = _largest(mine)
        sent = sketches(mine, places, coefficients)
        recomputed = sketches(its, places, coefficients)
        sketch.append(np.abs(sent - recomputed))
        anywhere = np.broadcast_to(np.arange(NUM_ACTIVATIONS), places.shape)
        zero.append(np.abs(sketches(its, anywhere, coefficients)))
        first = len(groups[i // size][0].prompt) - 1
        positions.append(first + np.arange(len(mine)))
    lengths = np.array([len(h) for h in worker]).reshape(-1, size)
    return Compared(
        np.array([[num_proofs(int(n)) for n in row] for row in lengths]).sum(axis=1),
        np.array(
            [
                [d.exponent_mismatches, d.mantissa_error_mean, d.mantissa_error_median]
                for d in deviations
            ]
        ),
        lengths.sum(axis=1),
        np.concatenate(positions),
        np.concatenate(sketch),
        np.concatenate(zero),
    )


def coefficients_of(draws: np.random.Generator) -> NDArray[np.int64]:
    """Draw a sketch's coefficients as GRAIL maps a beacon's: |int16| modulo 255, less 127."""
    words = draws.integers(-(1 << 15), 1 << 15, NUM_ACTIVATIONS)
    return np.asarray(np.abs(words) % (2 * COEFFICIENT_RANGE + 1) - COEFFICIENT_RANGE)


def buckets(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return signed logarithmic buckets: int(0.8 log2(|x| + 1)), at most 7, 0 below 1e-6."""
    size = np.abs(values)
    largest = NUM_BUCKETS - 1
    raw = np.minimum(np.log2(size + 1.0) * (NUM_BUCKETS / 10.0), largest).astype(np.int64)
    return np.asarray(np.where(size < _DEADZONE, 0, np.where(values >= 0, raw, -raw)))


def sketches(
    hidden_NH: Tensor, places_NK: NDArray[np.int64], coefficients_K: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the sketch of every position over the given activations."""
    values = np.take_along_axis(hidden_NH.double().numpy(), places_NK, axis=1)
    return np.asarray(buckets(values) @ coefficients_K)


def tolerances(positions_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the distance that passes at each position."""
    return (TOLERANCE_BASE + TOLERANCE_GROWTH * np.sqrt(positions_N)).astype(np.int64)


def _largest(hidden_NH: Tensor) -> NDArray[np.int64]:
    return hidden_NH.abs().topk(NUM_ACTIVATIONS, dim=1).indices.numpy()


def _prefilled(model: CausalModel, lease: Lease, rollouts: Sequence[Rollout]) -> list[Tensor]:
    rows = [[*lease.prompt, *r.token_ids()[:-1].tolist()] for r in rollouts]
    width, first = max(map(len, rows)), len(lease.prompt) - 1
    ids_BS = torch.tensor([[int(t) for t in row] + [0] * (width - len(row)) for row in rows])
    cache = model.new_cache()
    hidden_BSH = model.decoder(input_ids=ids_BS, past_key_values=cache).last_hidden_state
    return [hidden_BSH[i, first : len(row)] for i, row in enumerate(rows)]


def _bits(hidden_NH: Tensor) -> NDArray[np.uint16]:
    return hidden_NH.bfloat16().contiguous().view(torch.int16).numpy().view(np.uint16)
