"""Patches and anchors: nothing is lost, and nothing but the promised weights comes out."""

from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from protocol import canonical
from protocol.errors import Malformed
from protocol.policies import patch
from protocol.policies.manifest import MAX_CHUNK_BYTES, HostTensor, entries

ROOM = 1 << 24


def bf16(values: Any) -> HostTensor:
    bits = np.asarray(values, dtype=np.uint16)
    return HostTensor(dtype="bfloat16", shape=bits.shape, bits=bits.reshape(-1))


def f32(values: Any) -> HostTensor:
    bits = np.asarray(values, dtype=np.uint32)
    return HostTensor(dtype="float32", shape=bits.shape, bits=bits.reshape(-1))


def trained(share: float, *, size: int = 20_000, seed: int = 0) -> tuple[Any, Any]:
    """Two versions of a matrix of which `share` moved by one or two ulps."""
    draws = np.random.default_rng(seed)
    old = (draws.normal(size=size).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    moved = draws.random(size) < share
    step = draws.choice([-2, -1, 1, 2], size=size, p=[0.05, 0.45, 0.45, 0.05])
    new = np.where(moved, old + step, old).astype(np.uint16)
    return {"w": bf16(old)}, {"w": bf16(new)}


def bits_of(weights: Any) -> dict[str, bytes]:
    return {name: tensor.bits.tobytes() for name, tensor in weights.items()}


def applied(old: Any, new: Any, data: bytes | None = None) -> dict[str, HostTensor]:
    data = patch.encode(old, new) if data is None else data
    return patch.apply(old, data, entries(new), max_bytes=ROOM)


words16 = st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=40)
words32 = st.lists(st.integers(0, 0xFFFF_FFFF), min_size=1, max_size=40)


@given(words16, words32, st.randoms(use_true_random=False))
def test_any_bit_patterns_come_back_exactly(a: list[int], b: list[int], draws: Any) -> None:
    old = {"a": bf16(a), "b": f32(b)}
    new = {
        "a": bf16([draws.choice([x, x ^ 0x8000, draws.getrandbits(16)]) for x in a]),
        "b": f32([draws.choice([x, x ^ 1, draws.getrandbits(32)]) for x in b]),
    }
    assert bits_of(applied(old, new)) == bits_of(new)


@given(words16, words32)
def test_anchors_come_back_exactly(a: list[int], b: list[int]) -> None:
    weights = {"b": f32(b), "a.weight": bf16(a)}
    data = patch.anchor_bytes(weights)
    read = patch.from_anchor(data)
    patch.verify(read, entries(weights))
    assert bits_of(read) == bits_of(weights)
    assert patch.anchor_bytes(dict(reversed(weights.items()))) == data


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.3, 1.0])
def test_every_form_of_a_tensor_is_lossless_and_smaller_than_raw_pairs(share: float) -> None:
    old, new = trained(share)
    data = patch.encode(old, new)
    assert bits_of(applied(old, new, data)) == bits_of(new)
    changed = int((old["w"].bits != new["w"].bits).sum())
    assert len(data) < min(old["w"].bits.nbytes, 6 * changed + 100)


def test_one_changed_weight_in_a_hundred_costs_under_eleven_bits() -> None:
    old, new = trained(0.01, size=400_000)
    changed = int((old["w"].bits != new["w"].bits).sum())
    assert 8 * len(patch.encode(old, new)) / changed < 11


def test_negative_zero_is_a_change_although_the_values_are_equal() -> None:
    old, new = {"w": bf16([0x0000, 0x3F80])}, {"w": bf16([0x8000, 0x3F80])}
    assert np.float32(0.0) == np.float32(-0.0)  # a comparison of values would send nothing
    assert applied(old, new)["w"].bits.tolist() == [0x8000, 0x3F80]


def test_equal_weights_make_a_patch_that_changes_nothing_and_shares_tensors() -> None:
    old, _ = trained(0.5)
    assert applied(old, old)["w"] is old["w"]


def test_a_patch_does_not_invent_tensors() -> None:
    with pytest.raises(ValueError, match="anchor"):
        patch.encode({"w": bf16([1])}, {"w": bf16([1]), "v": bf16([1])})


def test_a_patch_on_other_weights_is_refused_and_leaves_them_alone() -> None:
    old, new = trained(0.01)
    other, _ = trained(0.01, seed=9)
    before = bits_of(other)
    data = patch.encode(old, new)
    # Without the digests the attack succeeds: the patch reads well and gives other weights.
    bits = patch.apply(other, data, entries(_blindly(other, data)), max_bytes=ROOM)["w"].bits
    assert bits.tolist() != new["w"].bits.tolist()
    with pytest.raises(patch.PatchMismatch, match="1 of 1 tensors"):
        applied(other, new, data)
    assert bits_of(other) == before


def _blindly(old: Any, data: bytes) -> dict[str, HostTensor]:
    """What a receiver without digests would hold."""
    weights = dict(old)
    for name, mode, *fields in canonical.decode(data)[2]:
        bits = patch._decode_tensor(name, old[name].bits, mode, fields)
        weights[name] = HostTensor(dtype=old[name].dtype, shape=old[name].shape, bits=bits)
    return weights


def test_a_swapped_patch_is_refused() -> None:
    old, new = trained(0.01)
    _, other = trained(0.01, seed=3)
    with pytest.raises(patch.PatchMismatch):
        applied(old, new, patch.encode(old, {"w": bf16(other["w"].bits)}))


def test_all_tensors_or_none() -> None:
    old = {"a": bf16([1, 2, 3]), "b": bf16([4, 5, 6])}
    new = {"a": bf16([1, 2, 4]), "b": bf16([4, 5, 7])}
    halfway = {"a": new["a"], "b": bf16([4, 5, 8])}
    with pytest.raises(patch.PatchMismatch, match="b first"):
        applied(old, new, patch.encode(old, halfway))
    assert old["a"].bits.tolist() == [1, 2, 3]


@pytest.mark.parametrize("share", [0.01, 1.0])
def test_no_truncation_or_single_flipped_byte_is_taken_for_the_policy(share: float) -> None:
    old, new = trained(share, size=400)
    data = patch.encode(old, new)
    for length in range(len(data)):
        with pytest.raises((Malformed, patch.PatchMismatch)):
            applied(old, new, data[:length])
    for i in range(0, len(data), 3):
        spoiled = bytearray(data)
        spoiled[i] ^= 0x5A
        with pytest.raises((Malformed, patch.PatchMismatch)):
            applied(old, new, bytes(spoiled))
    with pytest.raises(Malformed):
        applied(old, new, data + b"\0")


def test_a_bomb_is_refused_by_its_header() -> None:
    old, new = {"w": bf16([1, 2, 3])}, {"w": bf16([1, 2, 4])}
    bomb = zstandard.ZstdCompressor().compress(bytes(64 << 20))
    assert len(zstandard.ZstdDecompressor().decompress(bomb)) == 64 << 20  # what it would do
    for form in (["dense", [bomb]], ["sparse", 3, [bomb], [bomb]]):
        data = canonical.encode([patch.MAGIC, patch.FORMAT, [["w", *form]]])
        with pytest.raises(Malformed, match="67108864 bytes where 3 belong"):
            applied(old, new, data)


def test_a_frame_that_hides_its_size_is_refused() -> None:
    old, new = {"w": bf16([1, 2, 3])}, {"w": bf16([1, 2, 4])}
    hidden = zstandard.ZstdCompressor(write_content_size=False).compress(b"\0\0\2")
    data = canonical.encode([patch.MAGIC, patch.FORMAT, [["w", "dense", [hidden]]]])
    with pytest.raises(Malformed, match="byte plane"):
        applied(old, new, data)


def test_the_size_limit_holds_on_both_sides() -> None:
    old, new = trained(0.5, size=1000)
    data = patch.encode(old, new)
    assert patch.apply(old, data, entries(new), max_bytes=2000)
    with pytest.raises(Malformed, match="rewrites more than 1999"):
        patch.apply(old, data, entries(new), max_bytes=1999)
    with pytest.raises(Malformed, match="at most"):
        patch.apply(old, data, entries(new), max_bytes=len(data) - 1)


def section(*fields: Any) -> bytes:
    return canonical.encode([patch.MAGIC, patch.FORMAT, [list(fields)]])


def planes(*numbers: int) -> list[bytes]:
    return patch._planes(np.asarray(numbers))


@pytest.mark.parametrize(
    "data",
    [
        canonical.encode([patch.MAGIC, 2, []]),
        canonical.encode({"sections": []}),
        section("w", "sparse", 1, planes(3), planes(0)),
        section("w", "sparse", 2, planes(2**39, 0), planes(0, 0)),
        section("w", "sparse", 0, planes(), planes()),
        section("w", "sparse", 2, planes(0), planes(0)),
        section("w", "sparse", 1, planes(0), planes(0xFFFF)),
        section("w", "sparse", 1, planes(0), [*planes(0), *planes(0)]),
        section("w", "dense", planes(0, 0, 0)),
        section("w", "dense", planes(0, 0, 0x1_0000)),
        section("w", "dense", [b"junk"]),
        section("w", "dense", ["text"]),
        section("w", "raw", b"\0\0"),
        section("w", "raw", bf16([1, 2, 3]).bits.tobytes()),
        section("w", "shuffled", b""),
        section("w"),
        section(7, "raw", b""),
        canonical.encode([patch.MAGIC, 1, [["w", "raw", bytes(6)], ["w", "raw", bytes(6)]]]),
    ],
)
def test_other_forms_are_malformed(data: bytes) -> None:
    old = {"w": bf16([1, 2, 3])}
    with pytest.raises(Malformed):
        patch.apply(old, data, entries(old), max_bytes=ROOM)


def test_a_patch_for_an_unknown_tensor_is_a_mismatch() -> None:
    old = {"w": bf16([1])}
    with pytest.raises(patch.PatchMismatch, match="do not have"):
        patch.apply(old, section("v", "raw", b"\0\0"), entries(old), max_bytes=ROOM)


def test_chunks_are_bounded_and_in_order() -> None:
    data = np.random.default_rng(0).bytes(2 * MAX_CHUNK_BYTES + 5)
    chunks = patch.split(data)
    named = patch.blobs(chunks)
    assert [blob.size for blob in named] == [MAX_CHUNK_BYTES, MAX_CHUNK_BYTES, 5]
    assert b"".join(chunks) == data


@pytest.mark.parametrize("data", [b"", b"\0" * 8, b"\xff" * 64])
def test_what_is_no_safetensors_file_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        patch.from_anchor(data)


def test_an_anchor_of_integers_is_malformed() -> None:
    header = b'{"w":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}'
    data = len(header).to_bytes(8, "little") + header + bytes(4)
    with pytest.raises(Malformed, match="I32"):
        patch.from_anchor(data)
