"""The dtype that a run is computed in, and how published bits are cast to it.

The rounding of honest arithmetic limits what a replay can tell apart, so the dtype of that arithmetic is
a term of the run: workers, verifiers and the trainer's recomputation all compute in it. Weights are
published in their own dtype and cast before anything is computed: to the nearest value of the compute
dtype, ties to even (IEEE 754-2019, 4.3.1), which is exact if it widens. A finite weight that has no
finite value there cannot be computed with and is refused.

This is the reference, in numpy; engines cast with their own arrays and are held to it by vectors.
Left out: how sums are accumulated, which is an engine's business.
"""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from protocol.policies.manifest import Bits, HostTensor, Weights


class ComputeDtype(StrEnum):
    """A binary floating-point format. `float32` is exact to the token on CPUs; see the spec, 2.4."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"

    @property
    def unit_roundoff(self) -> float:
        """Half the distance from 1 to the next number: the relative error of one rounding."""
        return _UNIT_ROUNDOFF[self]

    @property
    def largest(self) -> float:
        """The largest finite value."""
        return _LARGEST[self]

    @property
    def probe_nats(self) -> float:
        """Most by which a token's log-probabilities may differ, on average over a short text, if both are computed right."""
        return _PROBE_NATS[self]


_UNIT_ROUNDOFF = {
    ComputeDtype.FLOAT32: 2.0**-24,
    ComputeDtype.FLOAT16: 2.0**-11,
    ComputeDtype.BFLOAT16: 2.0**-8,
}
_LARGEST = {
    ComputeDtype.FLOAT32: float(np.finfo(np.float32).max),
    ComputeDtype.FLOAT16: 65504.0,
    ComputeDtype.BFLOAT16: float(np.uint32(0x7F7F0000).view(np.float32)),
}
_PROBE_NATS = {
    ComputeDtype.FLOAT32: 0.002,
    ComputeDtype.FLOAT16: 0.05,
    ComputeDtype.BFLOAT16: 0.25,
}
"""Honest engines of the starting model differ by a tenth of it and less; a head without its bias, a window that is
left out, experts in another order and the weights of the version before by 0.4 nats and more."""


def cast(tensor: HostTensor, dtype: ComputeDtype) -> HostTensor:
    """Return the tensor in `dtype`; raise `ValueError` if a finite weight becomes infinite."""
    if tensor.dtype == dtype:
        return tensor
    exact = _float32(tensor)
    bits = _narrowed(exact, dtype)
    found = HostTensor(dtype.value, tensor.shape, bits)
    overflows = np.isinf(_float32(found)) & np.isfinite(exact)
    if overflows.any():
        largest = float(np.abs(exact[overflows]).max())
        raise ValueError(
            f"a weight of {largest:.6g} does not fit {dtype}, whose largest value is "
            f"{dtype.largest:.6g}: compute in bfloat16 or float32"
        )
    return found


def cast_all(weights: Weights, dtype: ComputeDtype) -> dict[str, HostTensor]:
    """Return a policy in its compute dtype."""
    return {name: cast(tensor, dtype) for name, tensor in weights.items()}


def _float32(tensor: HostTensor) -> NDArray[np.float32]:
    if tensor.dtype == ComputeDtype.FLOAT32:
        return tensor.bits.view(np.float32)
    if tensor.dtype == ComputeDtype.FLOAT16:
        return tensor.bits.view(np.float16).astype(np.float32)
    return (tensor.bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _narrowed(exact: NDArray[np.float32], dtype: ComputeDtype) -> Bits:
    if dtype is ComputeDtype.FLOAT32:
        return exact.view(np.uint32)
    if dtype is ComputeDtype.FLOAT16:
        with np.errstate(over="ignore"):
            return exact.astype(np.float16).view(np.uint16)
    bits = exact.view(np.uint32)
    # Half of the last kept bit, less one if that bit is even: ties go to even.
    carried = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    quiet = np.uint16(0x7FC0)
    return np.where(np.isnan(exact), quiet, (carried >> np.uint32(16)).astype(np.uint16))
