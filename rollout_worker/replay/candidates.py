"""Find on a CPU the few tokens that can win, from the integer half of the noise alone.

A token whose value must reach `floor` needs noise of at least d = floor − logit / T. That is so only
where u ≤ 1 − exp(−exp(−d)) < exp(−d), which is a bound on the leading zeros of the 32 bits. So the hash
is all that every token costs, a nanosecond in one pass over registers, and the two logarithms of
its noise are spent on a handful. Compiled by numba at the first call, and kept on disk.

Suffixes: N positions, V tokens of a block, K candidates.
"""

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rollout_worker.engines.gumbel import token_keys

_SLACK = 0.01
"""Of a bit, added before rounding up: what float32 may have lost."""

_CHUNK = 256


def candidates(
    scaled_NV: Tensor, floor_N: Tensor, contexts_N: Tensor, first_token: int
) -> tuple[Tensor, Tensor] | None:
    """Return rows and places of all tokens that may reach the floor, or None where they are many.

    Many is an eighth: then drawing all noise costs less. The rest cannot reach it. `contexts_N` is what
    `gumbel.context` makes of seeds and positions.
    """
    num_rows, width = scaled_NV.shape
    keys_V = token_keys(first_token, width).numpy().view(np.uint32)
    states_N = contexts_N.numpy().view(np.uint32)
    num_parts = max(1, min(torch.get_num_threads(), num_rows // 8))
    edges = np.linspace(0, num_rows, num_parts + 1).astype(int).tolist()

    def search(part: int) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        rows = slice(edges[part], edges[part + 1])
        scaled = scaled_NV[rows].numpy()
        found = np.empty((2, max(64, scaled.size // 8)), dtype=np.int64)
        number = _search(scaled, floor_N[rows].numpy(), states_N[rows], keys_V, found)
        return None if number < 0 else (found[0, :number] + edges[part], found[1, :number])

    if num_parts == 1:
        parts = [search(0)]
    else:
        with ThreadPoolExecutor(num_parts) as threads:
            parts = list(threads.map(search, range(num_parts)))
    done = [part for part in parts if part is not None]
    if len(done) < num_parts:
        return None
    rows_K, places_K = (np.concatenate(side) for side in zip(*done, strict=True))
    return torch.from_numpy(rows_K), torch.from_numpy(places_K)


@numba.njit(cache=True, nogil=True, boundscheck=False)
def _search(
    scaled_NV: NDArray[np.float32],
    floor_N: NDArray[np.float32],
    contexts_N: NDArray[np.uint32],
    keys_V: NDArray[np.uint32],
    found_2K: NDArray[np.int64],
) -> int:
    """Write rows and places of the candidates; return their number, or −1 where they do not fit."""
    number = 0
    may_win = np.empty(_CHUNK, dtype=np.uint8)
    for n in range(scaled_NV.shape[0]):
        floor, state = floor_N[n], contexts_N[n]
        for first in range(0, scaled_NV.shape[1], _CHUNK):
            width = min(_CHUNK, scaled_NV.shape[1] - first)
            logits, keys = scaled_NV[n, first : first + width], keys_V[first : first + width]
            live = 0
            for v in range(width):
                # The bits, as `protocol.sampling` has them; every product is cut to 32 bits.
                x = np.uint32(state ^ keys[v])
                x = np.uint32((x << np.uint32(13)) | (x >> np.uint32(19)))
                x = np.uint32(np.uint32(x * np.uint32(5)) + np.uint32(0xE6546B64))
                x = np.uint32(x ^ np.uint32(16))
                x = np.uint32(np.uint32(x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B))
                x = np.uint32(np.uint32(x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35))
                x = np.uint32(x ^ (x >> np.uint32(16)))
                exponent = (logits[v] - floor) * np.float32(1.4426950) + np.float32(_SLACK)
                exponent = min(max(exponent, np.float32(-40.0)), np.float32(1.0))
                shift = max(np.int32(np.floor(exponent)) + np.int32(33), np.int32(0))
                above = np.uint32(x >> np.uint32(shift & np.int32(31)))
                may_win[v] = (above == 0) | (shift > 31)
                live += may_win[v]
            if live:
                if number + live > found_2K.shape[1]:
                    return -1
                for v in range(width):
                    if may_win[v]:
                        found_2K[0, number], found_2K[1, number] = n, first + v
                        number += 1
    return number
