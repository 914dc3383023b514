"""Token amounts as people write them, such as "1.5", by the symbol and decimals on chain.

Exact: decimal text to whole numbers and back, never through a float. The one rule: settings and commands
read and show tokens; the chain, the wire and what is computed have the smallest denomination.
"""

from dataclasses import dataclass
from decimal import Context, Decimal, InvalidOperation
from typing import TYPE_CHECKING

from protocol.user_error import UserError

if TYPE_CHECKING:
    from ledger.ledger import Ledger

MOST = (1 << 128) - 1
"""The ledger keeps amounts in 128 bits."""
LONGEST_SYMBOL = 12
EXACT = Context(prec=200)
"""More digits than any amount has. The default of 28 would round."""


@dataclass(frozen=True, slots=True)
class Token:
    """One ERC-20, or the chain's coin (`address` empty).

    Example:
        Token("0x…", "TEST", 18).parse("1.5")  # 1_500_000_000_000_000_000
    """

    address: str
    symbol: str
    decimals: int

    def parse(self, text: str) -> int:
        """Return an amount in the smallest denomination; raise `UserError` if it is not one."""
        try:
            value = Decimal(text)
        except InvalidOperation as error:
            raise UserError(
                f"{text!r} is not an amount: write it like 1.5 ({self.symbol})"
            ) from error
        if not value.is_finite() or value <= 0:
            raise UserError(f"{text} {self.symbol} is not an amount above zero")
        if value.adjusted() + self.decimals > len(str(MOST)):
            raise UserError(f"{text} {self.symbol} is more than the ledger can hold: give less")
        _, digits, exponent = value.normalize(EXACT).as_tuple()
        shift = int(exponent) + self.decimals
        if shift < 0:
            raise UserError(f"{text} is too fine: {self.symbol} has {self.decimals} decimals")
        amount = int("".join(map(str, digits))) * 10**shift
        if amount > MOST:
            raise UserError(f"{text} {self.symbol} is more than the ledger can hold: give less")
        return amount

    def exactly(self, tokens: Decimal) -> int:
        """Return a setting's amount in the smallest denomination; it may be 0."""
        return self.parse(f"{tokens:f}") if tokens else 0

    def show(self, amount: int) -> str:
        """Return an exact amount with thousands separators and its symbol."""
        sign, digits = ("-", -amount) if amount < 0 else ("", amount)
        whole, part = divmod(digits, 10**self.decimals)
        fraction = str(part).rjust(self.decimals, "0").rstrip("0") if part else ""
        return f"{sign}{whole:,}{'.' if fraction else ''}{fraction} {self.symbol}"


USUAL = Token("", "tokens", 18)
"""A payment token of as many decimals as most have."""


def token_of(ledger: "Ledger", address: str) -> Token:
    """Return a token as its contract names it."""
    symbol, decimals = ledger.token(address)
    return Token(address, symbol_of(symbol), decimals)


def symbol_of(text: str) -> str:
    """Return a token's symbol fit to print: a stranger's contract may answer anything."""
    fit = "".join(letter for letter in text if letter.isprintable() and letter not in "[]\\ ")
    return fit[:LONGEST_SYMBOL] or "tokens"
