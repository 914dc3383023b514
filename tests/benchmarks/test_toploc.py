"""Activation commitments: toploc's bytes exactly, and nothing a prover may forge."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.attacks.polynomial import PRIME, evaluate, interpolate
from benchmarks.attacks.toploc import (
    MIN_MODULUS,
    TOPK,
    BadProof,
    Points,
    Proofs,
    check,
    num_proofs,
    proof_bytes,
    prove,
)

VECTORS = Path(__file__).parents[1] / "vectors" / "toploc.json"
CASES = json.loads(VECTORS.read_text("utf-8"))["cases"]
NAMES = [case["name"] for case in CASES]
BATCH = 32


def states(name: str, num_positions: int, hidden: int) -> NDArray[np.uint16]:
    """Return hidden states, the same everywhere: bfloat16 bits from a hash, small but for 200 of each batch whose magnitudes all differ.

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


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_proofs_are_toplocs_byte_for_byte(case: dict[str, Any]) -> None:
    bits = states(case["name"], case["positions"], case["hidden"])
    assert prove(bits, topk=case["topk"]).hex() == "".join(case["proofs"])


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_deviations_are_toplocs(case: dict[str, Any]) -> None:
    bits = states(case["name"], case["positions"], case["hidden"]).copy()
    bits[::3] ^= 5
    bits[1::7] ^= 0x80
    found = check(bytes.fromhex("".join(case["proofs"])), bits, topk=case["topk"])
    for deviation, (mismatches, mean, median) in zip(found, case["deviations"], strict=True):
        assert deviation.exponent_mismatches == mismatches
        # toploc means over float32 and takes the upper of two middle values.
        assert deviation.mantissa_error_mean == pytest.approx(mean, rel=1e-5)
        assert abs(deviation.mantissa_error_median - median) <= 1


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_toploc_itself_agrees_where_it_is_installed(case: dict[str, Any]) -> None:
    toploc = pytest.importorskip("toploc.poly")
    import torch

    bits = states(case["name"], case["positions"], case["hidden"])
    rows = list(torch.from_numpy(bits.view(np.int16).copy()).view(torch.bfloat16))
    theirs = toploc.build_proofs_bytes(rows, 32, case["topk"], skip_prefill=True)
    assert b"".join(theirs) == prove(bits, topk=case["topk"])


def test_a_recomputation_of_the_same_states_deviates_by_nothing() -> None:
    bits = states("same", 70, 128)
    for deviation in check(prove(bits), bits):
        assert (deviation.exponent_mismatches, deviation.mantissa_error_mean) == (0, 0)
        assert deviation.is_within()


def test_other_states_are_outside_the_published_bounds() -> None:
    proofs = prove(states("claimed", 70, 128))
    assert not any(d.is_within() for d in check(proofs, states("real", 70, 128)))


def read(data: bytes) -> Proofs:
    return Proofs.from_bytes(data, count=1)


def test_the_null_proof_divides_by_zero_in_toploc_and_is_refused_here() -> None:
    null = bytes(2 + 2 * TOPK)
    with pytest.raises(ZeroDivisionError):
        _ = 5 % int.from_bytes(null[:2], "big")  # what a verifier without a check computes
    with pytest.raises(BadProof, match="modulus 0"):
        read(null)


def normal_states(seed: int) -> NDArray[np.uint16]:
    """Return 32 positions of 4,096 normal activations: a wide network's, roughly."""
    drawn = np.random.default_rng(seed).standard_normal((32, 4096)).astype(np.float32)
    return (drawn.view(np.uint32) >> 16).astype(np.uint16)


def comes_close(proof: bytes, bits: NDArray[np.uint16]) -> bool:
    """Whether unchecked it is within TOPLOC's bounds, or beyond them by less than a third."""
    words = np.frombuffer(proof, dtype=">u2").astype(np.int64)
    [deviation] = Proofs(words[:1], words[None, 1:]).deviations(Points.of(bits))
    return deviation.is_within(mean=13.3, median=10.6)


def proof_of(modulus: int, coefficients: Sequence[int]) -> bytes:
    words = [modulus, *coefficients, *[0] * (TOPK - len(coefficients))]
    return np.array(words, dtype=">u2").tobytes()


TYPICAL = 16_479
"""3.48 in bfloat16: in the middle of what 128 largest of 131,072 normal numbers are."""


def test_a_constant_near_any_texts_largest_is_refused() -> None:
    guess = proof_of(PRIME, [TYPICAL])
    assert all(comes_close(guess, normal_states(seed)) for seed in range(20))
    with pytest.raises(BadProof, match="constant"):
        check(guess, normal_states(0))


def test_a_polynomial_flat_on_a_small_modulus_is_refused() -> None:
    modulus, flat = 101, np.array([1], dtype=np.int64)
    for residue in range(modulus):
        flat = (np.append(0, flat) - residue * np.append(flat, 0)) % PRIME
    guess = proof_of(modulus, [*((flat + TYPICAL * (np.arange(len(flat)) == 0)) % PRIME)])
    assert all(comes_close(guess, normal_states(seed)) for seed in range(20))
    with pytest.raises(BadProof, match="modulus 101 "):
        check(guess, normal_states(0))


def test_a_polynomial_that_slopes_is_near_nothing() -> None:
    sloped = proof_of(PRIME, [TYPICAL, 1])
    assert not any(comes_close(sloped, normal_states(seed)) for seed in range(20))
    assert not check(sloped, normal_states(0))[0].is_within()


@pytest.mark.parametrize("modulus", [0, 1, MIN_MODULUS, PRIME + 1, 0xFFFF])
def test_moduli_outside_the_format_are_refused(modulus: int) -> None:
    good = prove(states("good", 32, 128))
    with pytest.raises(BadProof, match=f"modulus {modulus} "):
        read(modulus.to_bytes(2, "big") + good[2:])


@pytest.mark.parametrize("length", [0, 1, 2, 257, 259, 260])
def test_proofs_of_another_length_are_refused(length: int) -> None:
    good = prove(states("good", 32, 128))
    with pytest.raises(BadProof, match=f"are not {length} bytes"):
        read((good + good)[:length])


def test_a_coefficient_outside_the_field_is_refused() -> None:
    good = prove(states("good", 32, 128))
    with pytest.raises(BadProof, match="not in the field"):
        read(good[:-2] + PRIME.to_bytes(2, "big"))


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_missing_and_extra_proofs_are_refused(count: int) -> None:
    bits = states("three", 70, 128)
    assert num_proofs(70) == 3
    with pytest.raises(BadProof, match="3 proofs of 258 bytes are not"):
        check((prove(bits) * 2)[: count * proof_bytes()], bits)


def test_too_few_activations_get_no_null_proof() -> None:
    with pytest.raises(BadProof, match="fewer than 128"):
        prove(states("tiny", 1, 64))


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=258, max_size=258))
def test_any_bytes_are_checked_or_refused_and_never_crash(data: bytes) -> None:
    bits = states("honest", 32, 128)
    try:
        [deviation] = check(data, bits)
    except BadProof:
        return
    assert 0 <= deviation.exponent_mismatches <= TOPK


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2**24), min_size=1, max_size=40, unique=True), st.data())
def test_the_polynomial_passes_through_its_points(indices: list[int], data: st.DataObject) -> None:
    bits = data.draw(st.lists(st.integers(0, 0x7F80), min_size=len(indices), max_size=len(indices)))
    points = Points(np.array([indices], dtype=np.int64), np.array([bits], dtype=np.uint16))
    [deviation] = Proofs.through(points).deviations(points)
    assert (deviation.exponent_mismatches, deviation.mantissa_error_mean) == (0, 0)


def test_many_polynomials_at_once_are_each_of_them_alone() -> None:
    draw = np.random.default_rng(5)
    x = np.stack([draw.choice(PRIME, 20, replace=False) for _ in range(130)])
    y = draw.integers(0, PRIME, x.shape)
    together = interpolate(x, y)
    assert (evaluate(together, x) == y).all()
    for i in (0, 63, 64, 129):
        assert (interpolate(x[i : i + 1], y[i : i + 1])[0] == together[i]).all()
        value = [sum(int(c) * int(z) ** k for k, c in enumerate(together[i])) for z in x[i]]
        assert [v % PRIME for v in value] == y[i].tolist()


def test_the_fields_edges_do_not_overflow() -> None:
    x = np.array([[0, 1, PRIME - 1, PRIME - 2]])
    y = np.full((1, 4), PRIME - 1)
    y[0, ::2] = 0
    assert (evaluate(interpolate(x, y), x) == y).all()
