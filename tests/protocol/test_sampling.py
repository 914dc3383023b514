"""Hold the seeded stream to a second writing of the hash, to its vectors and to its distribution."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import sampling

VECTORS = Path(__file__).parents[1] / "vectors" / "sampling.json"
U32 = 0xFFFFFFFF


def murmur3_by_vllm(seed: int, pos: int, offset: int) -> int:
    """Transcribe `murmur3_hash32` of vLLM 0.32's gumbel.py in Python integers."""

    def rotl(value: int, shift: int) -> int:
        return ((value << shift) | (value >> (32 - shift))) & U32

    def mix(h: int, key: int) -> int:
        key = key * 0xCC9E2D51 & U32
        key = rotl(key, 15)
        key = key * 0x1B873593 & U32
        h ^= key
        h = rotl(h, 13)
        return (h * 5 + 0xE6546B64) & U32

    h = 0
    for word in (seed & U32, (seed >> 32) & U32, pos & U32, offset):
        h = mix(h, word)
    h ^= 16
    h ^= h >> 16
    h = h * 0x85EBCA6B & U32
    h ^= h >> 13
    h = h * 0xC2B2AE35 & U32
    return h ^ (h >> 16)


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**31 - 1), st.integers(0, 2**24 - 1))
def test_bits_are_those_of_vllms_gpu_sampler(seed: int, position: int, token: int) -> None:
    assert int(sampling.random_bits(seed, position, token)) == murmur3_by_vllm(
        seed, position, token
    )


def test_vectors_hold() -> None:
    for vector in json.loads(VECTORS.read_text())["vectors"]:
        arguments = int(vector["seed"]), vector["position"], vector["token"]
        assert int(sampling.random_bits(*arguments)) == vector["bits"]
        assert float(sampling.gumbel(*arguments)) == pytest.approx(vector["gumbel"], rel=1e-12)


def test_any_array_shape_gives_the_same_stream() -> None:
    seeds, tokens = np.array([[7], [2**62 + 5]], dtype=np.uint64), np.arange(5)
    table = sampling.gumbel(seeds, 3, tokens)
    assert table.shape == (2, 5)
    assert table[1, 4] == sampling.gumbel(2**62 + 5, 3, 4)


def test_noise_is_standard_gumbel() -> None:
    sample = sampling.gumbel(np.arange(400, dtype=np.uint64)[:, None], 9, np.arange(500)[None])
    assert np.isfinite(sample).all()
    euler_gamma, standard_error = 0.5772156649, math.pi / math.sqrt(6 * sample.size)
    assert abs(sample.mean() - euler_gamma) < 4 * standard_error
    assert sample.var() == pytest.approx(math.pi**2 / 6, rel=0.02)


def test_winners_follow_the_softmax_of_tempered_logits() -> None:
    logits, temperature, draws = np.array([1.0, 0.0, -1.0, 2.0], dtype=np.float32), 1.5, 20_000
    found = sampling.winners(
        np.tile(logits, (draws, 1)), np.arange(draws), np.full(draws, 4), temperature=temperature
    )
    expected = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
    share = np.bincount(found, minlength=4) / draws
    assert np.abs(share - expected).max() < 4 * math.sqrt(0.25 / draws)


def test_neighbouring_seeds_positions_and_tokens_draw_independently() -> None:
    base = sampling.gumbel(np.arange(20_000, dtype=np.uint64), 5, 11)
    others = [
        sampling.gumbel(np.arange(1, 20_001, dtype=np.uint64), 5, 11),
        sampling.gumbel(np.arange(20_000, dtype=np.uint64), 6, 11),
        sampling.gumbel(np.arange(20_000, dtype=np.uint64), 5, 12),
        sampling.gumbel(np.arange(20_000, dtype=np.uint64) + np.uint64(2**40), 5, 11),
    ]
    for other in others:
        assert abs(np.corrcoef(base, other)[0, 1]) < 4 / math.sqrt(20_000)
