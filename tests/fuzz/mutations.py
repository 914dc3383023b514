"""Change an input by its form: what a decoder refuses at the first byte tests nothing behind it.

An input may begin with a line that names the type it is read as; that line is left alone.
"""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgpack
import zstandard

from protocol.errors import MarketError
from protocol.inflate import inflate

NUMBERS = tuple(
    sign * ((1 << bits) + step)
    for bits in (0, 7, 8, 15, 16, 31, 32, 53, 63, 64)
    for step in (-1, 0, 1)
    for sign in (1, -1)
)
ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    "",
    "\0",
    "é",
    "0x",
    "9" * 5000,
    b"",
    b"\xff" * 33,
    [],
    {},
    [[[]]],
    0.5,
)
MOST_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Form:
    """How bytes stand for a value, so that the value can be changed and written again."""

    load: Callable[[bytes], Any]
    dump: Callable[[Any], bytes]


def _json_dump(value: Any) -> bytes:
    return json.dumps(value, default=lambda data: "0x" + data.hex()).encode()


def _canonical_dump(value: Any) -> bytes:
    # Not the protocol's own encoder: it refuses floats, unordered keys and numbers beyond 64 bits.
    data = msgpack.packb(value, use_bin_type=True, default=str)
    return bytes(data)


def _canonical_load(data: bytes) -> Any:
    return msgpack.unpackb(data, strict_map_key=False)


def _frame_dump(value: Any) -> bytes:
    return zstandard.ZstdCompressor().compress(_canonical_dump(value))


def _frame_load(data: bytes) -> Any:
    return _canonical_load(inflate(data, MOST_BYTES))


def _tensors_load(data: bytes) -> Any:
    end = 8 + int.from_bytes(data[:8], "little")
    return [json.loads(data[8:end]), data[end:]]


def _tensors_dump(value: Any) -> bytes:
    header, data = value
    text = _json_dump(header)
    return len(text).to_bytes(8, "little") + text + data


JSON = Form(json.loads, _json_dump)
CANONICAL = Form(_canonical_load, _canonical_dump)
FRAME = Form(_frame_load, _frame_dump)
TENSORS = Form(_tensors_load, _tensors_dump)
PLAIN = Form(bytes, bytes)
UNREADABLE = (
    *(ValueError, TypeError, RecursionError, OverflowError),
    *(msgpack.UnpackException, MarketError),
)


def mutated(data: bytes, form: Form, rng: random.Random, *, is_named: bool = False) -> bytes:
    """Return another input made from this one."""
    name, end, body = data.partition(b"\n") if is_named else (b"", b"", data)
    if form is not PLAIN and rng.random() < 0.8:
        try:
            value = form.load(body)
            for _ in range(rng.choice((1, 1, 2, 4))):
                value = _changed(value, rng)
            return (name + end + form.dump(value))[:MOST_BYTES]
        except UNREADABLE:
            pass  # it was broken before: break its bytes
    return (name + end + _broken(body, rng))[:MOST_BYTES]


def _changed(value: Any, rng: random.Random) -> Any:
    """Return the value with one of its nodes changed."""
    places = list(_places(value))
    if not places:
        return _other(value, rng)
    holder, key = rng.choice(places)
    match rng.randrange(6):
        case 0 if isinstance(holder, dict):
            holder[str(rng.choice((*holder, "", "x")))] = holder.pop(key)
        case 0 | 1:
            del holder[key]
        case 2 if isinstance(holder, list):
            holder[key:key] = [holder[key]] * rng.choice((1, 2, 100))
        case 3:
            other, place = rng.choice(places)
            holder[key] = json.loads(json.dumps(other[place], default=str))
        case _:
            holder[key] = _other(holder[key], rng)
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _other(value: Any, rng: random.Random) -> Any:
    match rng.randrange(4), value:
        case 0, _:
            return rng.choice(ODD)
        case _, bool():
            return not value
        case _, int():
            return rng.choice((*NUMBERS, value + 1, value - 1, -value, value << 1))
        case _, bytes():
            return _broken(value, rng)
        case _, str():
            return _broken(value.encode(), rng).decode(errors="replace")
    return rng.choice(NUMBERS)


def _broken(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    match rng.randrange(5):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + rng.randbytes(rng.choice((1, 2, 8))) + data[at:]
        case 2:
            return data[:at] + data[at + rng.choice((1, 4, 32)) :]
        case 3:
            end = rng.randrange(len(data) + 1)
            return data[:at] + data[end:]
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 4))):
        if changed:
            changed[rng.randrange(len(changed))] = rng.choice(
                (0, 0x7F, 0x80, 0xFF, rng.randrange(256))
            )
    return bytes(changed)
