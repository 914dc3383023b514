"""Work out the arithmetic of an answer, exactly and within bounds, or refuse it.

Every operand needs an operator beside it. A library for LaTeX would read more, but it multiplies what
merely stands side by side, and its time has no bound short of killing it. Left out: variables,
functions other than the square root, and roots that are not rational.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import isqrt

from protocol.environments.tokens import Token

MAX_DEPTH = 16
MAX_POWER_BITS = 4096
"""Sixty-four digits have 213 bits; a power that would have more than this is no answer."""


def worked_out(tokens: Sequence[Token]) -> Fraction | None:
    """Return what arithmetic comes to, or None where the tokens are none."""
    try:
        return _Arithmetic(tokens).result()
    except (_NoNumber, ZeroDivisionError):
        return None


class _NoNumber(Exception):
    """The text is no arithmetic; it ends its reading."""


class _Arithmetic:
    """Exact arithmetic by recursive descent; every operand needs an operator beside it."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = list(tokens)[::-1]
        self._depth = 0

    def result(self) -> Fraction:
        value = self._sum()
        if self._tokens:
            raise _NoNumber
        return value

    def _take(self, texts: str) -> str:
        """Take the next token if it is one of these characters, else nothing."""
        if self._tokens and self._tokens[-1].kind == "operator" and self._tokens[-1].text in texts:
            return self._tokens.pop().text
        return ""

    def _sum(self) -> Fraction:
        sign = self._take("-+")
        value = self._product() * (-1 if sign == "-" else 1)
        while sign := self._take("-+"):
            is_negative = (sign == "-") != (self._take("-") == "-")
            value += self._product() * (-1 if is_negative else 1)
        return value

    def _product(self) -> Fraction:
        """Multiply and divide; a bracket or a root that touches what it multiplies needs no sign."""
        value = self._power()
        operator = ""
        while True:
            is_touching = bool(self._tokens) and self._tokens[-1].is_attached
            if is_touching and self._tokens[-1].kind in ("open", "root") and operator != "/":
                value *= self._power()
            elif operator := self._take("*/"):
                sign = -1 if self._take("-") else 1
                factor = sign * self._power()
                value = value * factor if operator == "*" else value / factor
            else:
                return value

    def _power(self) -> Fraction:
        base = self._operand()
        if self._tokens and self._tokens[-1].kind == "percent":
            self._tokens.pop()
            return base / 100
        if not self._take("^"):
            return base
        sign = -1 if self._take("-") else 1
        power = sign * self._operand()
        size = max(base.numerator.bit_length(), base.denominator.bit_length())
        if power.denominator != 1 or abs(power) * size > MAX_POWER_BITS:
            raise _NoNumber
        return Fraction(base ** int(power))

    def _operand(self) -> Fraction:
        if not self._tokens:
            raise _NoNumber
        token = self._tokens.pop()
        if token.value is not None:
            return token.value
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _NoNumber
        if token.kind == "root":
            return _square_root(self._operand())
        if token.kind != "open":
            raise _NoNumber
        value = self._sum()
        if not self._tokens or self._tokens.pop().kind != "close":
            raise _NoNumber
        return value


def _square_root(value: Fraction) -> Fraction:
    if value < 0:
        raise _NoNumber
    root = Fraction(isqrt(value.numerator), isqrt(value.denominator))
    if root * root != value:
        raise _NoNumber
    return root
