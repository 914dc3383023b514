"""Policy manifest: which weights version n has, and how to get them.

A policy's digest is the Merkle root over its tensors' digests in name order. It names the weights, not
how they travelled: patch, skip patch and anchor lead to the same digest or are refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from protocol import merkle
from protocol.canonical import content_digest, encode, keccak256
from protocol.wire import U32, U63, U64, AsTuple, Bytes32, Name, Signature, Wire

MAX_CHUNK_BYTES = 4 << 20
"""Anchors and patches travel in chunks of at most this size, so a lost one is cheap to fetch again."""


class Blob(Wire):
    """Content-addressed bytes: the SHA-256 that names them and their exact size."""

    digest: Bytes32
    size: Annotated[int, Field(ge=0, le=MAX_CHUNK_BYTES)]


Blobs = Annotated[tuple[Blob, ...], AsTuple]


class TensorEntry(Wire):
    """One tensor of the policy, by the digest of its little-endian bytes after applying."""

    name: Name
    dtype: Annotated[str, Field(pattern="^(bfloat16|float16|float32)$")]
    shape: Annotated[tuple[U63, ...], AsTuple]
    digest: Bytes32

    def leaf(self) -> bytes:
        return keccak256(encode([self.name, self.dtype, list(self.shape), self.digest]))


class PatchEntry(Wire):
    """A patch from `base_version`, as chunks to be joined in order."""

    base_version: U32
    chunks: Blobs


class Manifest(Wire):
    """The trainer's signed statement of one policy version."""

    run_id: U63
    version: U32
    policy_digest: Bytes32
    tensors: Annotated[tuple[TensorEntry, ...], AsTuple]
    """In order of name."""
    patches: Annotated[tuple[PatchEntry, ...], AsTuple]
    """From version − 1 first, then skip patches; empty for version 0."""
    anchor_version: U32
    anchor: Blobs
    """The newest full set of weights, as a chunked safetensors file."""
    lineage: Bytes32 = bytes(32)
    """Blob of the record of the step that made this version (`lineage.py`); zero for version 0."""
    created_at: U64

    def size(self) -> int:
        """Return the bytes of the anchor, a full copy."""
        return sum(blob.size for blob in self.anchor)


class SignedManifest(Wire):
    manifest: Manifest
    signature: Signature


Bits = NDArray[np.uint16] | NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class HostTensor:
    """One tensor on the host as bit patterns: uint16 for bfloat16 and float16, uint32 for float32.

    `bits` is flat and little-endian; nobody writes to it after construction.
    """

    dtype: str
    shape: tuple[int, ...]
    bits: Bits

    def entry(self, name: str) -> TensorEntry:
        """Describe the tensor as a manifest does."""
        digest = content_digest(self.bits.tobytes())
        return TensorEntry(name=name, dtype=self.dtype, shape=self.shape, digest=digest)


Weights = Mapping[str, HostTensor]


def entries(weights: Weights) -> tuple[TensorEntry, ...]:
    """Describe a whole policy, in order of name."""
    return tuple(weights[name].entry(name) for name in sorted(weights))


def policy_digest(tensors: tuple[TensorEntry, ...]) -> bytes:
    """Return the Merkle root over the tensors in order of name."""
    return merkle.root([t.leaf() for t in sorted(tensors, key=lambda t: t.name)])


def differing(expected: tuple[TensorEntry, ...], found: Mapping[str, TensorEntry]) -> list[str]:
    """Return the names of tensors that are missing, extra or not the promised bytes."""
    wanted = {entry.name: entry for entry in expected}
    return sorted(
        name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)
    )
