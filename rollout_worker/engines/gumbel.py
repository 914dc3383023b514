"""The seeded Gumbel stream of `protocol.sampling` as torch operations, on any device.

The hash runs in int32, which wraps modulo 2**32, with logical shifts made from arithmetic ones: the
bits equal the reference exactly. The noise is float32, as on vLLM's GPU runner; it differs from the
reference by rounding only. Everything after the first word happens in place: a value costs a few
passes over memory that is in the cache, instead of forty allocations.
"""

import torch
from torch import Tensor

BYTES_PER_VALUE = 12
"""Memory that `gumbel` holds at its peak for each value, its result included."""


def random_bits(
    seeds_P: Tensor, positions_P: Tensor, num_tokens: int, *, first_token: int = 0
) -> Tensor:
    """Return r(s, p, v) as the int32 pattern of 32 uniform bits, P × `num_tokens`.

    `seeds_P` is int64; positions are those of the last context token. The tokens are `num_tokens`
    ids from `first_token` on.
    """
    keys_V = token_keys(first_token, num_tokens, device=seeds_P.device)
    return _bits(context(seeds_P, positions_P)[:, None], keys_V[None])


def gumbel(
    seeds_P: Tensor, positions_P: Tensor, num_tokens: int, *, first_token: int = 0
) -> Tensor:
    """Return g(s, p, v) in float32, P × `num_tokens`.

    The two halves of the bits convert exactly and their sum rounds once, so u near 0, where the
    winners come from, keeps all 32 bits. Where u rounds to 1 the token cannot win and gets −inf.
    """
    return _noise(random_bits(seeds_P, positions_P, num_tokens, first_token=first_token))


def gumbel_at(contexts_K: Tensor, tokens_K: Tensor) -> Tensor:
    """Return g(s, p, v) in float32 for K single tokens: the very values that `gumbel` gives them.

    `contexts_K` is what `context` makes of their seeds and positions.
    """
    return _noise(_bits(contexts_K, _key(tokens_K.int())))


def token_keys(first_token: int, num_tokens: int, *, device: torch.device | None = None) -> Tensor:
    """Return what `num_tokens` ids from `first_token` on bring into the hash, as int32 patterns."""
    last = first_token + num_tokens
    return _key(torch.arange(first_token, last, dtype=torch.int32, device=device))


def context(seeds: Tensor, positions: Tensor) -> Tensor:
    """Hash the words that all tokens of a position share, into an int32 pattern each."""
    state = torch.zeros_like(seeds, dtype=torch.int32)
    for word in (seeds, seeds >> 32, positions):
        state = _mix_(state ^ _key(_low_word(word)))
    return state


def _bits(state: Tensor, keys: Tensor) -> Tensor:
    return _finalise_(_mix_(state ^ keys).bitwise_xor_(16))


def _noise(bits: Tensor) -> Tensor:
    """Turn bits into noise; the bits are overwritten."""
    high = _shifted(bits, 16).float().mul_(2.0**-16)
    u = high.add_(bits.bitwise_and_(0xFFFF).float().add_(0.5).mul_(2.0**-32))
    return u.neg_().log1p_().neg_().log_().neg_()


def _low_word(value: Tensor) -> Tensor:
    low = value.long() & 0xFFFFFFFF
    return torch.where(low >= 1 << 31, low - (1 << 32), low).int()


def _signed(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value


def _shifted(value: Tensor, bits: int) -> Tensor:
    """Shift right filling with zeros, which int32's own shift does not."""
    return (value >> bits).bitwise_and_((1 << (32 - bits)) - 1)


def _rotate_(value: Tensor, bits: int) -> Tensor:
    carried = _shifted(value, 32 - bits)
    return value.bitwise_left_shift_(bits).bitwise_or_(carried)


def _key(word: Tensor) -> Tensor:
    return _rotate_(word * _signed(0xCC9E2D51), 15).mul_(_signed(0x1B873593))


def _mix_(state_and_key: Tensor) -> Tensor:
    return _rotate_(state_and_key, 13).mul_(5).add_(_signed(0xE6546B64))


def _finalise_(state: Tensor) -> Tensor:
    state.bitwise_xor_(_shifted(state, 16)).mul_(_signed(0x85EBCA6B))
    state.bitwise_xor_(_shifted(state, 13)).mul_(_signed(0xC2B2AE35))
    return state.bitwise_xor_(_shifted(state, 16))
