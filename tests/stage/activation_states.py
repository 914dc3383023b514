"""Hidden states for tests of activation commitments: the same bits everywhere, from a hash."""

import hashlib

import numpy as np
from numpy.typing import NDArray

BATCH = 32


def states(name: str, num_positions: int, hidden: int) -> NDArray[np.uint16]:
    """Return bfloat16 bits, small but for 200 of each batch whose magnitudes all differ.

    Equal magnitudes at the last place of the largest leave the choice among them to each library.
    """
    size = num_positions * hidden
    raw = np.frombuffer(hashlib.shake_128(name.encode()).digest(10 * size), dtype="<u2")
    bits = (raw[:size] & 0x807F) | ((raw[:size] >> 7) % 8 + 100 << 7).astype(np.uint16)
    ranks = raw[size:].view("<u4").reshape(2, size)[0]
    for start in range(0, size, BATCH * hidden):
        order = np.argsort(ranks[start : start + BATCH * hidden], kind="stable")[:200]
        largest = 0x4000 - 3 * np.arange(len(order), dtype=np.uint16)
        bits[start + order] = largest | (bits[start + order] & 0x8000)
    return bits.astype(np.uint16).reshape(num_positions, hidden)
