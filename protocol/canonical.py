"""The one byte encoding that is hashed, signed and sent: MessagePack with a single form per value.

Allowed values are None, booleans, integers of 64 bits, strings, bytes, lists and maps with string
keys. Floats are refused because their text and rounding differ between languages: numbers that
matter are integers with the unit in their name, and vectors are little-endian bytes. Maps are
written in the order of their keys' code points, integers and lengths in their shortest form, so
equal values have equal bytes; `decode` refuses every other form of the same value.
Source: the MessagePack specification, sections "Formats" and "Serialization: type to format".
"""

import hashlib
from typing import Any, Final

import msgpack
from sha3 import keccak_256

from protocol.errors import Malformed

PLAIN: Final = frozenset({type(None), bool, str, bytes})
LOWEST: Final = -(1 << 63)
HIGHEST: Final = (1 << 64) - 1

MOST_KEYS: Final = 64
"""Of a map; the largest message has half as many fields. A reader reports each field that it does not know."""

BUFFER_BYTES: Final = 1024
"""The first buffer of an encoding; it grows. The library's 256 KiB cost more than most values."""

Value = None | bool | int | str | bytes | list[Any] | dict[str, Any]


def keccak256(data: bytes) -> bytes:
    """Return the 32-byte Keccak-256 of `data`, as Ethereum uses it (not NIST SHA3-256)."""
    return keccak_256(data).digest()


def content_digest(data: bytes) -> bytes:
    """Return the 32-byte SHA-256 that names a blob or a tensor.

    SHA-256 rather than Keccak because bulk data is hashed at memory speed by common processors and
    the name is what object stores and `sha256sum` print.
    """
    return hashlib.sha256(data).digest()


def encode(value: Value) -> bytes:
    """Return the only encoding of `value`; raise `Malformed` for a type that has none."""
    packer = msgpack.Packer(use_bin_type=True, buf_size=BUFFER_BYTES)
    try:
        return bytes(packer.pack(_ordered(value)))
    except (ValueError, RecursionError) as error:
        raise Malformed(f"no canonical encoding: {error}") from error


def decode(data: bytes) -> Any:
    """Return the value whose encoding is exactly `data`; raise `Malformed` for anything else."""
    value = read(data)
    require_encoding(encode(value), data)
    return value


def read(data: bytes, *, max_items: int = 1 << 22, max_lists: int = 1 << 22) -> Any:
    """Return what `data` says; whoever calls this requires that it is the encoding of what follows.

    Raises `Malformed` for trailing bytes, a map of more than `MOST_KEYS`, and more lists and maps, or elements in
    all of them, than asked: a few kilobytes under zstd otherwise fill a gigabyte and ten seconds.
    """
    count = _Counter(max_items, max_lists)
    try:
        return msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            max_array_len=max_items,
            max_map_len=MOST_KEYS,
            max_ext_len=0,
            list_hook=count,
            object_hook=count,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise Malformed(f"not canonical MessagePack: {error}") from error


def require_encoding(encoded: bytes, data: bytes) -> None:
    """Raise `Malformed` unless `data` is the one encoding: floats, other orders and longer forms are not."""
    if encoded != data:
        raise Malformed("not canonical: ordered keys, short integers, EIP-55 addresses, all fields")


class _Counter:
    """Counts lists, maps and their elements as they are read, and ends the reading at a limit."""

    def __init__(self, most: int, most_lists: int) -> None:
        self._most = self._left = most
        self._most_lists = self._left_lists = most_lists

    def __call__(self, items: Any) -> Any:
        self._left -= len(items)
        self._left_lists -= 1
        if self._left < 0:
            raise ValueError(f"more than {self._most} elements")
        if self._left_lists < 0:
            raise ValueError(f"more than {self._most_lists} lists and maps")
        return items


def _ordered(value: Any) -> Value:
    if type(value) in PLAIN or isinstance(value, (str, bytes)):
        return value
    if isinstance(value, int):
        if not LOWEST <= value <= HIGHEST:
            raise Malformed(f"integer {value} does not fit 64 bits; send it as 32 bytes")
        return value
    if isinstance(value, (list, tuple)):
        # A prompt is thousands of ids, so whole lists of one plain type are checked in C.
        kinds = set(map(type, value))
        if kinds <= PLAIN or (kinds == {int} and min(value) >= LOWEST and max(value) <= HIGHEST):
            return list(value)
        return [_ordered(item) for item in value]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise Malformed("map keys must be strings")
        return {key: _ordered(value[key]) for key in sorted(value)}
    raise Malformed(f"{type(value).__name__} has no canonical encoding")
