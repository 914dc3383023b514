"""No input makes a decoder do more than read or refuse, or use more than so much memory a byte."""

import random
import re
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
import zstandard

from rollcall.frame.roles import RECURSION_LIMIT
from tests.fuzz.decoders import BY_NAME, DECODERS, STORED, Decoder
from tests.fuzz.kept import inputs
from tests.fuzz.mutations import mutated

OPENAPI = Path(__file__).parents[1] / "orchestrator" / "openapi.json"
MUTATIONS = 300
FEW_BYTES = 1 << 19
"""What any call may allocate: error texts, and libraries' own buffers."""
BOMB_BYTES = 1 << 13


def each(decoder: Decoder) -> str:
    return decoder.name


def bombs() -> list[bytes]:
    """Return what is small and makes many or deep values, in each form."""
    count = (BOMB_BYTES).to_bytes(4, "big")
    values = [
        *(
            b"\xdd" + count + element * BOMB_BYTES
            for element in (b"\x90", b"\x80", b"\xc0", b"\xa0")
        ),
        b"\xdd" + count + b"\xcd\xff\xff" * BOMB_BYTES,
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * BOMB_BYTES,
        b"\xc6\xff\xff\xff\xff",
        b"".join(
            (b"\xdf", count, *(msgpack.packb(f"{n:05}") + b"\xc0" for n in range(BOMB_BYTES)))
        ),
    ]
    texts = [
        b"[" * BOMB_BYTES,
        b"[" + b"[]," * BOMB_BYTES + b"[]]",
        b"{" + b'"a":{},' * BOMB_BYTES + b'"b":1}',
        b'{"' + b"x" * BOMB_BYTES + b'":' + b"9" * BOMB_BYTES + b"}",
        b'"' + b"\\u0041" * BOMB_BYTES + b'"',
    ]
    named = [f"{name}\n".encode() for name in ("Verdict", "Submission", "EpochFile", "ErrorBody")]
    frames = [zstandard.compress(value) for value in (*values, bytes(1 << 24))]
    return [*values, *texts, *(name + bomb for name in named for bomb in values + texts), *frames]


BOMBS = bombs()


def allocated(decoder: Decoder, data: bytes) -> int:
    """Return the most bytes that were allocated at once while an input was read."""
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    decoder(data)
    return tracemalloc.get_traced_memory()[1] - before


@pytest.fixture(scope="module", autouse=True)
def _as_a_role() -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(RECURSION_LIMIT)
    yield
    sys.setrecursionlimit(before)


@pytest.fixture(scope="module")
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("decoder", DECODERS, ids=each)
def test_what_is_kept_and_what_is_made_of_it_is_read_or_refused(decoder: Decoder) -> None:
    seeds, rng = inputs(decoder.name), random.Random(decoder.name)
    assert [decoder(data) for data in seeds].count(True) > 0, "no seed is read: make them anew"
    for number in range(MUTATIONS):
        data = seeds[number % len(seeds)]
        for _ in range(rng.choice((1, 1, 3))):
            data = mutated(data, decoder.form, rng, is_named=decoder.is_named)
        try:
            decoder(data)
        except Exception as error:
            raise AssertionError(f"add to crashes/{decoder.name}.txt: {data.hex()}") from error


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("decoder", DECODERS, ids=each)
def test_an_input_makes_no_more_than_so_many_bytes_of_each_of_its_own(
    decoder: Decoder,
) -> None:
    for data in (*BOMBS, *inputs(decoder.name)):
        most = FEW_BYTES + decoder.per_byte * len(data)
        assert allocated(decoder, data) <= most, (len(data), data[:32])


def test_every_type_that_parties_send_by_itself_has_a_seed_that_is_read() -> None:
    """To make them anew: `python -m tests.fuzz.seeds`."""
    for name, types in (("json", described()), ("canonical", {kind.__name__ for kind in STORED})):
        found = {d.partition(b"\n")[0].decode() for d in inputs(name) if BY_NAME[name](d)}
        assert types <= found


def described() -> set[str]:
    """Return the types of whole bodies in the description of the routes."""
    content = re.compile(
        r'"application/json": {\s*"schema": {\s*"\$ref": "#/components/schemas/(\w+)"'
    )
    return set(content.findall(OPENAPI.read_text("utf-8")))
