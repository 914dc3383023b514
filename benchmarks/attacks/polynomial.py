"""Polynomials over GF(65497), many at a time: interpolate through points, evaluate at others.

Plain numpy in uint32, which one product of the field and one more element just fit. Points stand in
rows outside and in columns inside, one column per polynomial: each step of either algorithm then works
on all polynomials at once. One alone costs 6.6 ms to interpolate at 128 points, each of 64 together
0.2 ms (`python -m benchmarks.activations`).

Suffixes: P polynomials, N points of each.
"""

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

PRIME: Final = 65_497
"""The field of toploc 0.1.6, and its largest modulus. Another one is another format."""

_TOGETHER: Final = 64
"""Polynomials worked on at once: their differences fit a core's cache."""


def interpolate(x_PN: NDArray[np.int64], y_PN: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ascending coefficients, P × N, of the polynomials through points of the field.

    The x of one polynomial must differ. Newton's divided differences, then Horner's scheme.
    """
    parts = [
        _interpolated(_columns(x_PN[i : i + _TOGETHER]), _columns(y_PN[i : i + _TOGETHER]))
        for i in range(0, len(x_PN), _TOGETHER)
    ]
    return np.concatenate([part.T for part in parts]).astype(np.int64)


def evaluate(coefficients_PN: NDArray[np.int64], x_PK: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each polynomial's values at its own x, elements of the field; P × K."""
    coefficients, x = _columns(coefficients_PN), _columns(x_PK)
    value = np.zeros_like(x)
    for coefficient in coefficients[::-1]:
        value = _reduced(value * x + coefficient)
    return value.T.astype(np.int64)


def _interpolated(x: NDArray[np.uint32], differences: NDArray[np.uint32]) -> NDArray[np.uint32]:
    count, prime = len(x), np.uint32(PRIME)
    for k in range(1, count):
        inverse = _inverses()[_reduced(x[k:] + (prime - x[:-k]))]
        rise = _reduced(differences[k:] + (prime - differences[k - 1 : -1]))
        differences[k:] = _reduced(rise * inverse)
    coefficients = np.zeros_like(differences)
    coefficients[0] = differences[-1]
    for i in range(count - 2, -1, -1):  # times (X − x_i), plus the next difference
        degree = count - 1 - i
        product = _reduced((prime - x[i]) * coefficients[: degree + 1])
        product[1:] += coefficients[:degree]
        product[0] += differences[i]
        coefficients[: degree + 1] = _reduced(product)
    return coefficients


def _columns(values_PN: NDArray[np.int64]) -> NDArray[np.uint32]:
    return np.ascontiguousarray(values_PN.T.astype(np.uint32))


def _reduced(value: NDArray[np.uint32]) -> NDArray[np.uint32]:
    # numpy divides by a scalar in SIMD and takes remainders one by one.
    return value - value // np.uint32(PRIME) * np.uint32(PRIME)


@cache
def _inverses() -> NDArray[np.uint32]:
    """Return 1/a for every a of the field, by Fermat's a**(p - 2); 0 where there is none."""
    base = np.arange(PRIME, dtype=np.int64)
    result = np.ones(PRIME, dtype=np.int64)
    exponent = PRIME - 2
    while exponent:
        if exponent & 1:
            result = result * base % PRIME
        base = base * base % PRIME
        exponent >>= 1
    return result.astype(np.uint32)
