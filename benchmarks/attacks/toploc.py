"""TOPLOC's activation commitments: a polynomial through the largest activations of a decode.

For each run of `decode_batching_size` positions the prover takes the `topk` entries of the flattened
last hidden states (bfloat16) that are largest by magnitude, and sends the polynomial over GF(65497)
that passes through (index mod m, bits of the value). A verifier that recomputes the hidden states
evaluates it at its *own* largest entries and compares exponents and mantissas.

Byte-compatible with toploc 0.1.6 (arXiv:2501.16007, section 4). What differs is what a prover may not
do here. The largest of many activations share an exponent or two, so a *constant* comes close to any
text's with no forward pass at all (normal activations of width 4,096: 5 exponents of 128 differ, mean
mantissa error 10.6, median 8, where 38, 10 and 8 pass); so does a polynomial that vanishes on every
residue of a small modulus, plus a constant. Hence a proof is no constant, its modulus is above
`MIN_MODULUS`, it has exactly `topk` coefficients of the field, counts are exact, and there is no null
proof. Everything is plain numpy: no proof, however formed, ends the verifier's process. Left out:
capturing activations, which is the engines'.

A proof shows that *a* forward pass of the right weights was made over the text. It does not show
that the text was sampled from it: replay does (`protocol/checks/replay.md`).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.attacks.polynomial import PRIME, evaluate, interpolate

MIN_MODULUS: Final = 1 << 15
"""Honest searches end far above it: modulo m, 128 places collide with odds of 1 - exp(-128²/2m), so one
of the 32,729 moduli above this bound fits but for odds of less than 1e-9000. A polynomial of 128
coefficients can be flat on at most 127 residues: a modulus of 127 would make a constant of it."""
TOPK: Final = 128
DECODE_BATCHING_SIZE: Final = 32

MAX_EXPONENT_MISMATCHES: Final = 38
MAX_MANTISSA_ERROR_MEAN: Final = 10.0
MAX_MANTISSA_ERROR_MEDIAN: Final = 8.0
"""The published thresholds, of 128 values (arXiv:2501.16007, table 2); ours are calibrated beside them."""

_EXPONENT: Final = 0x7F80
_MANTISSA: Final = 0x007F
_EXPONENT_SHIFT: Final = 7


class BadProof(ValueError):
    """Bytes that no honest prover sends."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far a recomputation lies from a proof. Mantissa errors are over equal exponents only."""

    exponent_mismatches: int
    mantissa_error_mean: float
    mantissa_error_median: float

    def is_within(
        self,
        exponent_mismatches: int = MAX_EXPONENT_MISMATCHES,
        mean: float = MAX_MANTISSA_ERROR_MEAN,
        median: float = MAX_MANTISSA_ERROR_MEDIAN,
    ) -> bool:
        """Whether all three stay at or below their bounds; the defaults are TOPLOC's own."""
        return (
            self.exponent_mismatches <= exponent_mismatches
            and self.mantissa_error_mean <= mean
            and self.mantissa_error_median <= median
        )


@dataclass(frozen=True, slots=True)
class Points:
    """What proofs pass through: the `topk` largest activations of each of P batches, largest first.

    `indices` are places in a batch's flattened hidden states, `bits` the bfloat16 patterns there. Both
    P × `topk`; a device that holds the hidden states may choose them, and only these leave it.
    """

    indices: NDArray[np.int64]
    bits: NDArray[np.uint16]

    @classmethod
    def of(
        cls, bits_TH: NDArray[np.uint16], *, batching: int = DECODE_BATCHING_SIZE, topk: int = TOPK
    ) -> "Points":
        """Choose from T positions' last hidden states; raises `BadProof` where a batch has too few.

        Without its sign bit a bfloat16 orders as an integer; equal magnitudes order by place.
        """
        chosen = []
        for start in range(0, len(bits_TH), batching):
            flat = np.ascontiguousarray(bits_TH[start : start + batching]).reshape(-1)
            require_enough(flat.size, topk=topk)
            magnitude = (flat & 0x7FFF).astype(np.int64)
            largest = np.argpartition(-magnitude, topk - 1)[:topk]
            order = largest[np.lexsort((largest, -magnitude[largest]))].astype(np.int64)
            chosen.append((order, flat[order]))
        return cls(np.stack([c[0] for c in chosen]), np.stack([c[1] for c in chosen]))


@dataclass(frozen=True, slots=True)
class Proofs:
    """P polynomials: `coefficients` ascend by degree, `moduli` reduce indices.

    Example: Proofs.through(Points.of(bits_TH)).to_bytes()  # 258 bytes for each 32 positions
    """

    moduli: NDArray[np.int64]
    coefficients: NDArray[np.int64]
    """P × `topk`."""

    @classmethod
    def through(cls, points: Points) -> "Proofs":
        """Interpolate; raises `BadProof` where no modulus separates a batch's indices."""
        moduli = np.array([_injective_modulus(row) for row in points.indices], dtype=np.int64)
        values = points.bits.astype(np.int64) % PRIME
        return cls(moduli, interpolate(points.indices % moduli[:, None], values))

    def to_bytes(self) -> bytes:
        """Return each polynomial's modulus and coefficients as big-endian 16-bit words."""
        return np.column_stack([self.moduli, self.coefficients]).astype(">u2").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, *, count: int, topk: int = TOPK) -> "Proofs":
        """Read `count` proofs of exactly `topk` points each; raises `BadProof`."""
        size = proof_bytes(topk)
        if len(data) != count * size:
            raise BadProof(f"{count} proofs of {size} bytes are not {len(data)} bytes")
        words = np.frombuffer(data, dtype=">u2").astype(np.int64).reshape(count, 1 + topk)
        moduli, coefficients = words[:, 0], words[:, 1:]
        for i in np.flatnonzero((moduli <= MIN_MODULUS) | (moduli > PRIME)):
            raise BadProof(f"modulus {moduli[i]} of proof {i} is not in ({MIN_MODULUS}, {PRIME}]")
        for i in np.flatnonzero((coefficients >= PRIME).any(axis=1)):
            raise BadProof(f"coefficient {coefficients[i].max()} of proof {i} is not in the field")
        for i in np.flatnonzero(~coefficients[:, 1:].any(axis=1)):
            raise BadProof(
                f"proof {i} is constant: it commits to nothing, being near the largest of any text"
            )
        return cls(moduli, coefficients)

    def deviations(self, points: Points) -> list[Deviation]:
        """Compare with recomputed points of the same batches, one by one."""
        claimed = evaluate(self.coefficients, points.indices % self.moduli[:, None])
        return [_deviation(a, b) for a, b in zip(claimed, points.bits, strict=True)]


def num_proofs(num_positions: int, *, batching: int = DECODE_BATCHING_SIZE) -> int:
    """Return how many proofs so many positions take: one per started batch."""
    return -(-num_positions // batching)


def proof_bytes(topk: int = TOPK) -> int:
    """Return the size of one proof: its modulus and its coefficients."""
    return 2 + 2 * topk


def require_enough(num_activations: int, *, topk: int = TOPK) -> None:
    """Raise `BadProof` below `topk` activations: a null proof is never substituted."""
    if num_activations < topk:
        raise BadProof(f"{num_activations} activations are fewer than {topk}")


def prove(
    bits_TH: NDArray[np.uint16], *, batching: int = DECODE_BATCHING_SIZE, topk: int = TOPK
) -> bytes:
    """Return the proofs of T positions' last hidden states, given as bfloat16 bits, one after another.

    As toploc's `build_proofs_bytes(…, skip_prefill=True)`. Raises `BadProof` where a batch has fewer than
    `topk` entries.
    """
    return Proofs.through(Points.of(bits_TH, batching=batching, topk=topk)).to_bytes()


def check(
    proofs: bytes,
    bits_TH: NDArray[np.uint16],
    *,
    batching: int = DECODE_BATCHING_SIZE,
    topk: int = TOPK,
) -> list[Deviation]:
    """Compare proofs with recomputed hidden states of the same T positions; raises `BadProof`."""
    count = num_proofs(len(bits_TH), batching=batching)
    read = Proofs.from_bytes(proofs, count=count, topk=topk)
    return read.deviations(Points.of(bits_TH, batching=batching, topk=topk))


def _deviation(claimed: NDArray[np.int64], bits: NDArray[np.uint16]) -> Deviation:
    own = bits.astype(np.int64)
    equal = (claimed & _EXPONENT) >> _EXPONENT_SHIFT == (own & _EXPONENT) >> _EXPONENT_SHIFT
    if not equal.any():
        return Deviation(len(own), float("inf"), float("inf"))
    errors = np.abs((claimed & _MANTISSA) - (own & _MANTISSA))[equal]
    return Deviation(int((~equal).sum()), float(errors.mean()), float(np.median(errors)))


def _injective_modulus(indices: NDArray[np.int64]) -> int:
    for modulus in range(PRIME, MIN_MODULUS, -1):
        if len(np.unique(indices % modulus)) == len(indices):
            return modulus
    raise BadProof("no modulus separates the indices")
