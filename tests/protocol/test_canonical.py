"""One form per value: what is hashed and signed cannot be written in two ways."""

import json
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.canonical import decode, encode, keccak256
from protocol.errors import Malformed

VECTORS = Path(__file__).parent.parent / "vectors" / "canonical.json"

values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.text(max_size=40)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)


@given(values)
def test_every_value_survives_a_round_trip(value: Any) -> None:
    assert decode(encode(value)) == value


@given(st.dictionaries(st.text(max_size=6), st.integers(0, 99), min_size=2))
def test_the_order_of_insertion_does_not_show(items: dict[str, int]) -> None:
    assert encode(items) == encode(dict(reversed(items.items())))


@given(st.binary(max_size=60))
def test_what_decodes_has_only_that_encoding(data: bytes) -> None:
    try:
        value = decode(data)
    except Malformed:
        return
    assert encode(value) == data


@pytest.mark.parametrize(
    "data",
    [
        encode(1) + b"\x00",  # trailing byte
        b"\xcd\x00\x01",  # 1 as uint16
        b"\xd9\x01a",  # "a" as str8
        msgpack.packb({"b": 1, "a": 2}),  # keys out of order
        b"\x82\xa1a\x01\xa1a\x02",  # a key twice
        msgpack.packb(1.5),
        msgpack.packb({1: 2}, use_bin_type=True),
        msgpack.packb(msgpack.ExtType(1, b"x")),
        b"\x91\xc7\x00a",  # an extension of no bytes
        msgpack.packb([0, 1.5]),
        msgpack.packb({"a": 1.5}),
        msgpack.packb([{"b": 1, "a": 2}]),
        b"\xdf\xff\xff\xff\xff",  # a map that claims four billion entries
        b"\xa2\xff\xfe",  # not UTF-8
        b"",
        b"\x91" * 5000 + b"\x01",  # nesting that would exhaust the stack
    ],
)
def test_another_form_or_type_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode(data)


def test_numbers_that_do_not_fit_are_refused_not_wrapped() -> None:
    for value in (1 << 64, -(1 << 63) - 1, 0.5):
        with pytest.raises(Malformed):
            encode(value)  # type: ignore[arg-type]


def test_the_golden_vectors_hold() -> None:
    for vector in json.loads(VECTORS.read_text()):
        value = _from_json(vector["value"])
        assert encode(value).hex() == vector["encoded"]
        assert keccak256(encode(value)).hex() == vector["keccak256"]


def _from_json(value: Any) -> Any:
    """Bytes stand as {"hex": …} in the vectors."""
    if isinstance(value, dict):
        if set(value) == {"hex"}:
            return bytes.fromhex(value["hex"])
        return {key: _from_json(item) for key, item in value.items()}
    return [_from_json(item) for item in value] if isinstance(value, list) else value
