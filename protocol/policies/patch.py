"""Carry one policy to the next as a lossless patch, or whole as an anchor.

A patch compares *bit patterns*: a comparison of values misses −0.0 against +0.0 and loses NaNs. Each
changed tensor is written in the shortest of three forms: `sparse` (gaps between changed elements and
the zig-zag of the ordered bit patterns' difference), `dense` (that difference for every element) or
`raw`. Numbers are split into byte planes, each under its own zstd frame, so that the planes' codes do
not spoil one another. Sizes follow from the old tensor, and a frame's header must agree before
anything is allocated. Left out: contexts by exponent, chunks decoded in parallel.
Source: `protocol/wire.md` section 9; arXiv:2602.03839 for how few bit patterns change in a step.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import zstandard
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError, TensorSpec, deserialize, serialize

from protocol import canonical
from protocol.canonical import content_digest
from protocol.errors import Malformed, MarketError
from protocol.policies.manifest import (
    MAX_CHUNK_BYTES,
    Blob,
    HostTensor,
    TensorEntry,
    Weights,
    differing,
)
from protocol.wire import describe

MAGIC: Final = "rollcall/patch"
FORMAT: Final = 1
ZSTD_LEVEL: Final = 6
"""Levels above 6 save under 1 % for twice the time (measured on 0.4 M parameters)."""

DTYPES: Final[Mapping[str, tuple[str, type[np.unsignedinteger[Any]]]]] = {
    "bfloat16": ("BF16", np.uint16),
    "float16": ("F16", np.uint16),
    "float32": ("F32", np.uint32),
}
"""For each dtype: its safetensors name and the unsigned integer that holds its bits."""

Array = NDArray[Any]


class PatchMismatch(MarketError):
    """The patch reads well but does not lead from these weights to the promised ones."""

    status = 409


def encode(old: Weights, new: Weights) -> bytes:
    """Return the patch from `old` to `new`: the same tensors by name, dtype and shape."""
    if _layout(old) != _layout(new):
        raise ValueError("a patch keeps every tensor's name, dtype and shape; publish an anchor")
    sections = [
        [name, *_encode_tensor(old[name].bits, new[name].bits)]
        for name in sorted(new)
        if not np.array_equal(old[name].bits, new[name].bits)
    ]
    return canonical.encode([MAGIC, FORMAT, sections])


def apply(
    old: Weights, patch: bytes, expected: tuple[TensorEntry, ...], *, max_bytes: int
) -> dict[str, HostTensor]:
    """Apply `patch` to `old`; return all the promised tensors, or raise.

    `max_bytes` bounds the patch and, separately, the tensors it rewrites. `old` is not written to,
    and tensors that the patch leaves alone are shared with it. Raises `Malformed` if the patch cannot
    be read and `PatchMismatch` if it does not give the tensors in `expected`.
    """
    if len(patch) > max_bytes:
        raise Malformed(f"a patch of {len(patch)} bytes where at most {max_bytes} are allowed")
    sections = _read_sections(patch)
    names = [section[0] for section in sections]
    if any(left >= right for left, right in pairwise(names)):
        raise Malformed("the patch's tensors are not strictly in order of name")
    unknown = sorted(set(names) - set(old))
    if unknown:
        raise PatchMismatch(f"the patch changes {unknown[:3]}, which these weights do not have")
    if sum(old[name].bits.nbytes for name in names) > max_bytes:
        raise Malformed(f"the patch rewrites more than {max_bytes} bytes of tensors")
    new = dict(old)
    for name, mode, *fields in sections:
        before = old[name]
        bits = _decode_tensor(name, before.bits, mode, fields)
        new[name] = HostTensor(dtype=before.dtype, shape=before.shape, bits=bits)
    verify(new, expected)
    return new


def verify(weights: Weights, expected: tuple[TensorEntry, ...]) -> None:
    """Raise `PatchMismatch` unless every tensor is the promised one and none is missing or extra."""
    try:
        found = {name: tensor.entry(name) for name, tensor in weights.items()}
    except ValidationError as error:  # a name or a shape that no manifest may promise
        raise Malformed(describe(error)) from error
    wrong = differing(expected, found)
    if wrong:
        raise PatchMismatch(
            f"{len(wrong)} of {len(expected)} tensors are not as the manifest promises, "
            f"{wrong[0]} first: keep the old policy, take another patch or the anchor"
        )


def anchor_bytes(weights: Weights) -> bytes:
    """Return a full set of weights as a safetensors file; equal weights give equal bytes."""
    specs = {}
    for name in sorted(weights):
        tensor = weights[name]
        if not tensor.bits.flags.c_contiguous:
            raise ValueError(f"{name} is not contiguous")
        specs[name] = TensorSpec(
            dtype=tensor.dtype,
            shape=list(tensor.shape),
            data_ptr=tensor.bits.ctypes.data,
            data_len=tensor.bits.nbytes,
        )
    return bytes(serialize(specs))


def from_anchor(data: bytes) -> dict[str, HostTensor]:
    """Read a safetensors file; raise `Malformed` if it is not one. Call `verify` on the result."""
    dtypes = {code: (dtype, bits) for dtype, (code, bits) in DTYPES.items()}
    try:
        tensors = deserialize(data)
    except SafetensorError as error:
        raise Malformed(f"the anchor is not a safetensors file: {error}") from error
    weights = {}
    for name, tensor in tensors:
        if tensor["dtype"] not in dtypes:
            raise Malformed(f"{name} is {tensor['dtype']}; weights are one of {sorted(dtypes)}")
        dtype, bits = dtypes[tensor["dtype"]]
        weights[name] = HostTensor(
            dtype=dtype,
            shape=tuple(tensor["shape"]),
            bits=np.frombuffer(bytes(tensor["data"]), dtype=np.dtype(bits).newbyteorder("<")),
        )
    return weights


def split(data: bytes) -> list[bytes]:
    """Cut blobs for travel: at most `MAX_CHUNK_BYTES` each, in order, none empty."""
    return [data[i : i + MAX_CHUNK_BYTES] for i in range(0, len(data), MAX_CHUNK_BYTES)]


def blobs(chunks: Sequence[bytes]) -> tuple[Blob, ...]:
    """Name chunks as a manifest does."""
    return tuple(Blob(digest=content_digest(chunk), size=len(chunk)) for chunk in chunks)


def _layout(weights: Weights) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in weights.items()}


def _encode_tensor(old: Array, new: Array) -> list[Any]:
    difference = _zigzag(old, new)
    changed = np.flatnonzero(difference)
    gaps = np.diff(changed, prepend=-1) - 1
    count = len(changed)
    sparse = ["sparse", count, _planes(gaps), _planes(difference[changed] - 1)]
    dense = ["dense", _planes(difference)]
    raw = ["raw", new.tobytes()]
    return min((sparse, dense, raw), key=lambda form: len(canonical.encode(form)))


def _decode_tensor(name: str, old: Array, mode: str, fields: list[Any]) -> Any:
    match mode, fields:
        case "sparse", [int(count), list(gaps), list(values)] if 0 < count <= old.size:
            steps = _numbers(gaps, count) + 1
            differences = _numbers(values, count) + 1
            # Check the largest step first: the sum of absurd steps would wrap around.
            if int(steps.max()) > old.size or int(steps.sum()) > old.size:
                raise Malformed(f"{name}: a changed element lies beyond {old.size}")
            if int(differences.max()) > np.iinfo(old.dtype).max:
                raise Malformed(f"{name}: a difference is out of range")
            positions = np.cumsum(steps) - 1
            bits = old.copy()
            bits[positions] = _add_zigzag(old[positions], differences)
        case "dense", [list(values)]:
            differences = _numbers(values, old.size)
            if int(differences.max(initial=0)) > np.iinfo(old.dtype).max:
                raise Malformed(f"{name}: a difference is out of range")
            bits = _add_zigzag(old, differences)
        case "raw", [bytes(data)] if len(data) == old.nbytes:
            bits = np.frombuffer(data, dtype=old.dtype)
        case _:
            raise Malformed(f"{name}: no form {mode!r} with these fields for {old.size} elements")
    if np.array_equal(bits, old):
        raise Malformed(f"{name}: listed as changed and is not")
    return bits


def _read_sections(patch: bytes) -> list[Any]:
    match canonical.decode(patch):
        case [str(magic), int(version), list(sections)] if (magic, version) == (MAGIC, FORMAT):
            pass
        case _:
            raise Malformed(f"not a patch of format {FORMAT}")
    for section in sections:
        match section:
            case [str(), str(), *_]:
                continue
            case _:
                raise Malformed("a tensor's section is name, form and the form's fields")
    return sections


def _order(bits: Array) -> Array:
    """Map bit patterns to integers in the order of the floats they stand for, one to one."""
    sign = bits.dtype.type(1 << (8 * bits.itemsize - 1))
    return np.where(bits & sign, ~bits, bits | sign)


def _unorder(ordered: Array) -> Array:
    sign = ordered.dtype.type(1 << (8 * ordered.itemsize - 1))
    return np.where(ordered & sign, ordered ^ sign, ~ordered)


def _zigzag(old: Array, new: Array) -> NDArray[np.int64]:
    """Return 0, 1, 2, 3 … for differences 0, −1, 1, −2 … of the ordered patterns, wrapping around."""
    signed = np.dtype(f"i{old.itemsize}")
    difference = (_order(new) - _order(old)).view(signed).astype(np.int64)
    result: NDArray[np.int64] = (difference << 1) ^ (difference >> 63)
    return result


def _add_zigzag(old: Array, zigzag: NDArray[np.int64]) -> Array:
    difference = (zigzag >> 1) ^ -(zigzag & 1)
    return _unorder(_order(old) + difference.astype(old.dtype))


def _planes(numbers: NDArray[np.int64]) -> list[bytes]:
    """Split non-negative numbers into as few byte planes as hold them, each a zstd frame."""
    width = max(1, math.ceil(int(numbers.max(initial=0)).bit_length() / 8))
    columns = numbers.astype("<i8").view(np.uint8).reshape(-1, 8)
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
    return [compressor.compress(columns[:, i].tobytes()) for i in range(width)]


def _numbers(planes: list[Any], count: int) -> NDArray[np.int64]:
    """Read `count` numbers; refuse planes of another length before making room for them."""
    if not 1 <= len(planes) <= 5:
        raise Malformed(f"numbers in {len(planes)} byte planes")
    columns = np.zeros((count, 8), dtype=np.uint8)
    for i, frame in enumerate(planes):
        columns[:, i] = np.frombuffer(_inflate(frame, count), dtype=np.uint8)
    if len(planes) > 1 and not columns[:, len(planes) - 1].any():
        raise Malformed("the highest byte plane is empty: the numbers have a shorter form")
    return columns.view("<i8").reshape(-1)


def _inflate(frame: Any, size: int) -> bytes:
    if not isinstance(frame, bytes):
        raise Malformed("a byte plane is not bytes")
    try:
        declared = zstandard.get_frame_parameters(frame).content_size
        if declared != size:
            raise Malformed(f"a byte plane inflates to {declared} bytes where {size} belong")
        return zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Malformed(f"a byte plane is not one zstd frame: {error}") from error
