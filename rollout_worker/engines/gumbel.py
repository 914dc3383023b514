"""The seeded Gumbel stream of `protocol.sampling` as torch operations, on any device.

The hash runs in int32, which wraps modulo 2**32, with logical shifts made from arithmetic ones: the
bits equal the reference exactly. The noise is float32, as on vLLM's GPU runner; it differs from the
reference by rounding only.
"""

import torch
from torch import Tensor


def random_bits(seeds_P: Tensor, positions_P: Tensor, num_tokens: int) -> Tensor:
    """Return r(s, p, v) as the int32 pattern of 32 uniform bits, P × `num_tokens`.

    `seeds_P` is int64; positions are those of the last context token.
    """
    state_P = torch.zeros_like(seeds_P, dtype=torch.int32)
    for word_P in (seeds_P, seeds_P >> 32, positions_P):
        state_P = _mix(state_P, _low_word(word_P))
    tokens_V = torch.arange(num_tokens, dtype=torch.int32, device=seeds_P.device)
    return _finalise(_mix(state_P[:, None], tokens_V[None]) ^ 16)


def gumbel(seeds_P: Tensor, positions_P: Tensor, num_tokens: int) -> Tensor:
    """Return g(s, p, v) in float32, P × `num_tokens`.

    The two halves of the bits convert exactly and their sum rounds once, so u near 0, where the
    winners come from, keeps all 32 bits. Where u rounds to 1 the token cannot win and gets −inf.
    """
    bits = random_bits(seeds_P, positions_P, num_tokens)
    high, low = _shifted(bits, 16).float(), (bits & 0xFFFF).float()
    u = high * 2.0**-16 + (low + 0.5) * 2.0**-32
    return -torch.log(-torch.log1p(-u))


def _low_word(value: Tensor) -> Tensor:
    low = value.long() & 0xFFFFFFFF
    return torch.where(low >= 1 << 31, low - (1 << 32), low).int()


def _signed(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value


def _shifted(value: Tensor, bits: int) -> Tensor:
    """Shift right filling with zeros, which int32's own shift does not."""
    return (value >> bits) & ((1 << (32 - bits)) - 1)


def _rotated(value: Tensor, bits: int) -> Tensor:
    return (value << bits) | _shifted(value, 32 - bits)


def _mix(state: Tensor, word: Tensor) -> Tensor:
    key = _rotated(word * _signed(0xCC9E2D51), 15) * _signed(0x1B873593)
    return _rotated(state ^ key, 13) * 5 + _signed(0xE6546B64)


def _finalise(state: Tensor) -> Tensor:
    state = (state ^ _shifted(state, 16)) * _signed(0x85EBCA6B)
    state = (state ^ _shifted(state, 13)) * _signed(0xC2B2AE35)
    return state ^ _shifted(state, 16)
