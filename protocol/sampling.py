"""The seeded Gumbel stream, by which a rollout seed chooses each token.

Sampling is `argmax(logits / T + g)` where `g` is a pure function of (seed, position, token id), so a
rollout is a deterministic function of (weights, prompt, seed) and a replay needs only the tokens.
This is the reference; engines compute the same with their own arrays, and tests compare them with it.
Left out: logits (an engine's business) and bounds on their rounding (`protocol.verdict`).

Source: `protocol/wire.md` 4.2; Token-DiFR (arXiv:2511.20621); the integer part and the log1p tail
are those of vLLM 0.32's `vllm/v1/worker/gpu/sample/gumbel.py`, so its GPU runner conforms unmodified.
The hash is MurmurHash3_x86_32 (public domain, A. Appleby) over four little-endian words.
"""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

_C1: Final = np.uint32(0xCC9E2D51)
_C2: Final = np.uint32(0x1B873593)
_NUM_BYTES: Final = np.uint32(16)


def random_bits(seed: ArrayLike, position: ArrayLike, token: ArrayLike) -> NDArray[np.uint32]:
    """Return r(s, p, v), 32 uniform bits per broadcast element; exact on every machine.

    `position` is the last context token's (the prompt's first is 0); the drawn one is at `position + 1`.
    """
    seeds = np.asarray(seed, dtype=np.uint64)
    state = np.zeros((), dtype=np.uint32)
    low, high = seeds.astype(np.uint32), (seeds >> np.uint64(32)).astype(np.uint32)
    for word in (low, high, np.asarray(position).astype(np.uint32)):
        state = _mix(state, word)
    return _finalise(_mix(state, np.asarray(token).astype(np.uint32)) ^ _NUM_BYTES)


def gumbel(seed: ArrayLike, position: ArrayLike, token: ArrayLike) -> NDArray[np.float64]:
    """Return g(s, p, v) in float64, which engines round to float32.

    Large values, which win, come from u near 0, where all 32 bits count.
    """
    u = (random_bits(seed, position, token).astype(np.float64) + 0.5) / 2.0**32
    return np.asarray(-np.log(-np.log1p(-u)), dtype=np.float64)


def noised(
    logits_PV: NDArray[np.float32],
    seeds_P: ArrayLike,
    positions_P: ArrayLike,
    *,
    temperature: float,
) -> NDArray[np.float64]:
    """Return `logits / T + g` for P positions over the whole vocabulary."""
    seeds_P1 = np.asarray(seeds_P, dtype=np.uint64)[:, None]
    positions_P1 = np.asarray(positions_P)[:, None]
    noise_PV = gumbel(seeds_P1, positions_P1, np.arange(logits_PV.shape[1], dtype=np.uint32)[None])
    return np.asarray(logits_PV.astype(np.float64) / temperature + noise_PV)


def winners(
    logits_PV: NDArray[np.float32],
    seeds_P: ArrayLike,
    positions_P: ArrayLike,
    *,
    temperature: float,
) -> NDArray[np.uint32]:
    """Return the sampled token of each position."""
    values = noised(logits_PV, seeds_P, positions_P, temperature=temperature)
    return values.argmax(axis=1).astype(np.uint32)


def _rotated(value: NDArray[np.uint32], bits: int) -> NDArray[np.uint32]:
    return np.asarray((value << np.uint32(bits)) | (value >> np.uint32(32 - bits)))


def _mix(state: NDArray[np.uint32], word: NDArray[np.uint32]) -> NDArray[np.uint32]:
    with np.errstate(over="ignore"):  # arithmetic modulo 2**32 is meant
        state = _rotated(state ^ (_rotated(word * _C1, 15) * _C2), 13)
        return np.asarray(state * np.uint32(5) + np.uint32(0xE6546B64))


def _finalise(state: NDArray[np.uint32]) -> NDArray[np.uint32]:
    with np.errstate(over="ignore"):
        state = (state ^ (state >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        state = (state ^ (state >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        return np.asarray(state ^ (state >> np.uint32(16)))
