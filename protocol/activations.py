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
that the text was sampled from it: replay does (`protocol/README.md` section 4).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

PRIME: Final = 65_497
"""The field, and the largest modulus. Another one is another format."""
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
class Proof:
    """One polynomial: `coefficients` ascend by degree, `modulus` reduces indices.

    Example: Proof.through(indices, bits).to_bytes()  # 258 bytes at 128 points
    """

    modulus: int
    coefficients: NDArray[np.int64]

    @classmethod
    def through(cls, indices: NDArray[np.int64], bits: NDArray[np.uint16]) -> "Proof":
        """Interpolate through (index, bfloat16 bits); raises `BadProof` where no modulus separates the indices."""
        modulus = _injective_modulus(indices)
        return cls(modulus, _interpolate(indices % modulus, bits.astype(np.int64) % PRIME))

    def to_bytes(self) -> bytes:
        """Return the modulus and the coefficients as big-endian 16-bit words."""
        return np.concatenate([[self.modulus], self.coefficients]).astype(">u2").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, *, topk: int = TOPK) -> "Proof":
        """Read a proof of exactly `topk` points; raises `BadProof`."""
        if len(data) != 2 + 2 * topk:
            raise BadProof(f"a proof of {topk} points has {2 + 2 * topk} bytes, not {len(data)}")
        words = np.frombuffer(data, dtype=">u2").astype(np.int64)
        modulus, coefficients = int(words[0]), words[1:]
        if not MIN_MODULUS < modulus <= PRIME:
            raise BadProof(f"modulus {modulus} is not in ({MIN_MODULUS}, {PRIME}]")
        if int(coefficients.max()) >= PRIME:
            raise BadProof(f"coefficient {int(coefficients.max())} is not in the field")
        if not coefficients[1:].any():
            raise BadProof(
                "a constant polynomial commits to nothing: it is near the largest of any text"
            )
        return cls(modulus, coefficients)

    def at(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Evaluate at indices, which are reduced first (Horner)."""
        x = indices % self.modulus
        value = np.zeros_like(x)
        for coefficient in self.coefficients[::-1]:
            value = (value * x + coefficient) % PRIME
        return value


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


def num_proofs(num_positions: int, *, batching: int = DECODE_BATCHING_SIZE) -> int:
    """Return how many proofs so many positions take: one per started batch."""
    return -(-num_positions // batching)


def prove(
    bits_TH: NDArray[np.uint16], *, batching: int = DECODE_BATCHING_SIZE, topk: int = TOPK
) -> list[bytes]:
    """Return the proofs of T positions' last hidden states, given as bfloat16 bits.

    As toploc's `build_proofs_bytes(…, skip_prefill=True)`. Raises `BadProof` where a batch has fewer than
    `topk` entries: a null proof is never substituted.
    """
    return [
        Proof.through(indices, flat[indices]).to_bytes()
        for flat, indices in _batches(bits_TH, batching, topk)
    ]


def check(
    proofs: Sequence[bytes],
    bits_TH: NDArray[np.uint16],
    *,
    batching: int = DECODE_BATCHING_SIZE,
    topk: int = TOPK,
) -> list[Deviation]:
    """Compare proofs with recomputed hidden states of the same T positions; raises `BadProof`."""
    expected = num_proofs(len(bits_TH), batching=batching)
    if len(proofs) != expected:
        raise BadProof(f"{len(bits_TH)} positions take {expected} proofs, not {len(proofs)}")
    read = [Proof.from_bytes(data, topk=topk) for data in proofs]
    batches = _batches(bits_TH, batching, topk)
    return [
        _deviation(proof.at(indices), flat[indices])
        for proof, (flat, indices) in zip(read, batches, strict=True)
    ]


def _batches(
    bits_TH: NDArray[np.uint16], batching: int, topk: int
) -> list[tuple[NDArray[np.uint16], NDArray[np.int64]]]:
    """Return each batch's flat values with the places of its largest, largest first."""
    found = []
    for start in range(0, len(bits_TH), batching):
        flat = np.ascontiguousarray(bits_TH[start : start + batching]).reshape(-1)
        if flat.size < topk:
            raise BadProof(f"{flat.size} activations are fewer than {topk}")
        # Without its sign bit a bfloat16 orders as an integer.
        magnitude = (flat & 0x7FFF).astype(np.int64)
        largest = np.argpartition(-magnitude, topk - 1)[:topk]
        order = np.lexsort((largest, -magnitude[largest]))
        found.append((flat, largest[order].astype(np.int64)))
    return found


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


def _interpolate(x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the coefficients of the polynomial through (x, y) over GF(PRIME), by Newton's divided differences."""
    count = len(x)
    divided = y.copy()
    for k in range(1, count):
        inverse = _inverses()[(x[k:] - x[:-k]) % PRIME]
        divided[k:] = (divided[k:] - divided[k - 1 : -1]) % PRIME * inverse % PRIME
    coefficients = np.zeros(count, dtype=np.int64)
    factor = np.zeros(count, dtype=np.int64)
    factor[0] = 1
    for i in range(count):
        coefficients = (coefficients + divided[i] * factor) % PRIME
        shifted = np.concatenate([[0], factor[:-1]])
        factor = (shifted - x[i] * factor) % PRIME
    return coefficients


@cache
def _inverses() -> NDArray[np.int64]:
    """Return 1/a for every a of the field, by Fermat's a**(p - 2); 0 where there is none."""
    base = np.arange(PRIME, dtype=np.int64)
    result = np.ones(PRIME, dtype=np.int64)
    exponent = PRIME - 2
    while exponent:
        if exponent & 1:
            result = result * base % PRIME
        base = base * base % PRIME
        exponent >>= 1
    return result
