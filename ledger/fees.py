"""What to offer for a unit of gas: by EIP-1559 where the chain has it, at one price (type 0) where it has not.

Nothing above the cap is ever offered, whatever a node says that gas costs: the account pays it.
"""

from typing import Any

from ledger.errors import GasTooDear, NodeRefused
from ledger.node import Node

MOST_GWEI = 500
"""Several times what the dearest chains ask on a usual day."""
BUMP_PERCENT = 25
"""Nodes take a replacement that offers 10 % more."""


class Fees:
    """One account's offers on one chain. Prices in wei of the chain's coin."""

    def __init__(self, node: Node, most_gwei: float) -> None:
        self._node = node
        self._most = int(most_gwei * 10**9)

    @property
    def is_legacy(self) -> bool:
        """Return whether the chain takes type 0 alone: no base fee in its blocks, or no priority fee asked."""
        traits = self._node.traits
        if traits.is_legacy is None:
            traits.is_legacy = self._node.newest().base_fee is None or self._tip() is None
        return traits.is_legacy

    def forget_type_2(self) -> None:
        """A node refused the type, so its chain has it not."""
        self._node.traits.is_legacy = True

    def first(self) -> dict[str, int]:
        """Return the fields of a new offer, or raise `GasTooDear`."""
        # A node that does not reckon prices says 0, and takes no less than the newest block asks for.
        price = self._node.gas_price() or self._node.newest().base_fee or 0
        if price > self._most:
            raise GasTooDear(price, self._most)
        if self.is_legacy:
            return {"gasPrice": min(self._most, price * (100 + BUMP_PERCENT) // 100)}
        # Twice the base fee survives six full blocks in a row.
        return self._capped(2 * price, self._tip() or 0)

    def raised(self, last: dict[str, Any]) -> dict[str, int] | None:
        """Return the fields that replace an offer, None where the cap leaves no room for one."""
        old = most_of(last)
        now, more = self._node.gas_price(), -(-old * (100 + BUMP_PERCENT) // 100)
        if "gasPrice" in last:
            fees = {"gasPrice": min(self._most, max(now, more))}
        else:
            tip = max(1, int(last["maxPriorityFeePerGas"]) * (100 + BUMP_PERCENT) // 100)
            fees = self._capped(max(2 * now, more), tip)
        # A node takes no replacement for less than a tenth more.
        return fees if most_of(fees) * 10 >= old * 11 else None

    def _capped(self, price: int, tip: int) -> dict[str, int]:
        most = min(self._most, price + tip)
        return {"maxFeePerGas": most, "maxPriorityFeePerGas": min(tip, most)}

    def _tip(self) -> int | None:
        try:
            return self._node.number("eth_maxPriorityFeePerGas", bits=128)
        except NodeRefused:
            return None


def most_of(fields: dict[str, Any]) -> int:
    """Return the most that an offer may cost for a unit of gas."""
    return int(fields["gasPrice" if "gasPrice" in fields else "maxFeePerGas"])
