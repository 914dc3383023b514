"""The base of every type that enters as bytes, and the types of their fields.

A `Wire` is frozen, strict and knows no extra fields. It has two forms: JSON (bytes as 0x-hex) for the
HTTP routes, and `canonical` bytes for hashing and compression.
"""

from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
)
from pydantic_core.core_schema import CoreSchema, no_info_before_validator_function

from protocol import canonical
from protocol.errors import Malformed

ADDRESS_CHARACTERS = 42
MOST_NAME = 64
MOST_TEXT = 500
"""Characters of a sender's own field name, and of what was found wrong with it, that a refusal repeats."""


def _bytes_from_hex(value: Any, info: ValidationInfo) -> Any:
    # Only in JSON: in canonical bytes a text would be a second form of the same value.
    if isinstance(value, str) and info.mode == "json":
        if not value.startswith("0x"):
            raise ValueError("bytes are written as 0x followed by hex digits")
        return bytes.fromhex(value[2:])
    return value


def _hex(value: bytes) -> str:
    return "0x" + value.hex()


def _exactly(length: int) -> AfterValidator:
    def check(value: bytes) -> bytes:
        if len(value) != length:
            raise ValueError(f"{len(value)} bytes where {length} are expected")
        return value

    return AfterValidator(check)


@lru_cache(maxsize=4096)
def checksum_address(value: str) -> str:
    """Return the EIP-55 form of a 20-byte hex address; raise `ValueError` if it is not one."""
    digits = value[2:].lower()
    is_hex = len(digits) == ADDRESS_CHARACTERS - 2 and not set(digits) - set("0123456789abcdef")
    if not value.startswith("0x") or not is_hex:
        raise ValueError(f"{value[:12]!r}… is not an address (0x and 40 hex digits)")
    nibbles = canonical.keccak256(digits.encode()).hex()
    pairs = zip(digits, nibbles, strict=False)
    return "0x" + "".join(c.upper() if int(n, 16) >= 8 else c for c, n in pairs)


_json_hex = PlainSerializer(_hex, when_used="json")

Bytes = Annotated[bytes, BeforeValidator(_bytes_from_hex), _json_hex]
Bytes32 = Annotated[bytes, BeforeValidator(_bytes_from_hex), _exactly(32), _json_hex]
Signature = Annotated[bytes, BeforeValidator(_bytes_from_hex), _exactly(65), _json_hex]
Address = Annotated[str, AfterValidator(checksum_address)]
U32 = Annotated[int, Field(ge=0, lt=1 << 32)]
U63 = Annotated[int, Field(ge=0, lt=1 << 63)]
U64 = Annotated[int, Field(ge=0, lt=1 << 64)]
Name = Annotated[str, Field(min_length=1, max_length=128)]


class Wire(BaseModel):
    """A frozen, strict message. Equal messages have equal canonical bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    MAX_ITEMS: ClassVar[int] = 1 << 22
    """Elements that either form may hold: an epoch of 131,072 groups and 700,000 accounts has so many. What a stranger sends
    may hold a fraction of it."""
    MAX_LISTS: ClassVar[int] = 1 << 22
    """Lists and maps among them, in canonical bytes: each costs a hundred times what a number does."""

    def canonical(self) -> bytes:
        """Return the bytes that are hashed, and compressed if the body is binary."""
        return canonical.encode(self.model_dump(mode="python"))

    def canonical_digest(self) -> bytes:
        """Return the Keccak-256 of the canonical bytes."""
        return canonical.keccak256(self.canonical())

    def to_json(self) -> bytes:
        return self.model_dump_json().encode()

    @classmethod
    def from_canonical(cls, data: bytes) -> Self:
        """Read canonical bytes; raise `Malformed` naming the field that is wrong."""
        value = canonical.read(data, max_items=cls.MAX_ITEMS, max_lists=cls.MAX_LISTS)
        try:
            message = cls.model_validate(value)
        except ValidationError as error:
            raise Malformed(describe(error)) from error
        # Of the message and not of the value: else what a type takes in two forms would have two digests.
        canonical.require_encoding(message.canonical(), data)
        return message

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Read JSON; raise `Malformed` naming the field that is wrong."""
        if (count := num_elements(data)) > cls.MAX_ITEMS:
            raise Malformed(f"{count} elements, a {cls.__name__} has at most {cls.MAX_ITEMS}")
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise Malformed(describe(error)) from error


def num_elements(data: bytes | str) -> int:
    """Return at least as many elements as JSON can hold, before any is made: each begins after one of these."""
    data = data.encode() if isinstance(data, str) else data
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def describe(error: ValidationError) -> str:
    """Return one line that names each wrong field and the expected value, never the whole input."""
    parts = (
        f"{'.'.join(str(p)[:MOST_NAME] for p in item['loc']) or 'message'}: {item['msg'][:MOST_TEXT]}"
        for item in error.errors(include_url=False, include_input=False)[:5]
    )
    return "; ".join(parts)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class _AsTuple:
    """A tuple whose first wrong element ends its reading: a report of each costs a hundred times its byte."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        schema: Any = {**handler(source), "fail_fast": True}
        return no_info_before_validator_function(_tuple, schema)


AsTuple = _AsTuple()
"""`Annotated[tuple[X, ...], AsTuple]`: lists are what both decoders produce."""


def _ascending(value: tuple[int, ...]) -> tuple[int, ...]:
    if any(first >= second for first, second in pairwise(value)):
        raise ValueError("each must be above the one before")
    return value


Ascending = AfterValidator(_ascending)
"""For indices: one named twice would be counted twice."""
