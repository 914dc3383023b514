"""Transactions on their way, until they are mined and stay so.

Decides when to offer one again, when to raise its fee, and when its nonce is another's. A second offer
is the same bytes, or the same intention under the same nonce, so nothing can be executed twice. It
includes the earlier nonces that a re-organisation took back, because they hold up all later ones.
"""

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
from eth_account.signers.local import LocalAccount

from ledger.errors import LedgerError, NodeRefused, TransactionPending, TransactionReplaced
from ledger.fees import Fees, most_of
from ledger.node import MinedTransaction, Node

REMEMBERED = 64
"""Most transactions offered again after a re-organisation: Ethereum finalises within 64 blocks."""


@dataclass(frozen=True, slots=True)
class Waits:
    """How long each wait is, in seconds. The defaults suit blocks of twelve seconds and less."""

    rebroadcast: float = 5.0
    """A node that restarts forgets what it had not mined; offering it again is harmless."""
    bump: float = 30.0
    """Two and a half of Ethereum's blocks: a transaction not mined by then was priced too low."""
    look: float = 1.0
    """Between two looks at the account's nonce."""
    doubt: float = 5.0
    """How long a receipt may lag behind its nonce, at a node behind a load balancer."""
    poll: float = 0.05
    """Between two looks for a receipt."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed transaction, and the fields it was signed with."""

    raw: bytes
    transaction_hash: bytes
    fields: dict[str, Any]

    @classmethod
    def by(cls, account: LocalAccount, fields: dict[str, Any]) -> "Signed":
        """Sign."""
        signed = account.sign_transaction(fields)
        return cls(bytes(signed.raw_transaction), bytes(signed.hash), fields)

    @property
    def name(self) -> str:
        return "0x" + self.transaction_hash.hex()


@dataclass(slots=True)
class Flight:
    """One intention under one nonce, in every form it was offered: at most one of them is mined."""

    forms: list[Signed]
    is_mined: bool = False

    @property
    def nonce(self) -> int:
        return int(self.forms[0].fields["nonce"])

    @property
    def name(self) -> str:
        return self.forms[-1].name


class Flights:
    """One account's transactions on their way. Threads may wait for several at once."""

    def __init__(
        self,
        node: Node,
        account: LocalAccount,
        fees: Fees,
        *,
        confirmations: int,
        patience: Waits,
    ) -> None:
        self._node = node
        self._fees = fees
        self._account = account
        self._confirmations = confirmations
        self._patience = patience
        self._known: dict[int, Flight] = {}

    def add(self, signed: Signed) -> Flight:
        """Remember a transaction that a node has taken."""
        flight = Flight([signed])
        self._known[flight.nonce] = flight
        for nonce in [nonce for nonce in self._known if nonce <= flight.nonce - REMEMBERED]:
            del self._known[nonce]
        return flight

    def bring_back(self, deadline: float) -> None:
        """Have mined again what a re-organisation took back: later transactions may rest on it."""
        mined = [flight for flight in list(self._known.values()) if flight.is_mined]
        if not mined:
            return
        count = self._num_mined()
        for flight in sorted(mined, key=lambda flight: flight.nonce):
            if flight.nonce >= count:
                flight.is_mined = False
                self._offer_again(flight.nonce)
                self.land(flight, deadline)

    def land(self, flight: Flight, deadline: float) -> MinedTransaction:
        """Return the receipt of the form that was mined, once enough blocks stand on it."""
        began = time.monotonic()
        watch = _Watch(began)
        lack = "has no receipt"
        while True:
            now = time.monotonic()
            try:
                receipt = self._find(flight)
                if receipt is None:
                    lack = "has no receipt"
                    lack = self._tend(flight, watch, now) or lack
                elif self._is_settled(receipt):
                    flight.is_mined = True
                    return receipt
                else:
                    lack = f"is mined without {self._confirmations} blocks on it"
                    watch.taken_at = None
            except TransactionReplaced:
                raise
            except LedgerError as error:
                lack = f"has no receipt ({error})"
            if now > deadline:
                raise TransactionPending(flight.name, now - began, lack)
            time.sleep(self._patience.poll)

    def _tend(self, flight: Flight, watch: "_Watch", now: float) -> str:
        """Do what is due for a transaction without a receipt; return what holds it up, if that is known."""
        if now - watch.looked_at < self._patience.look:
            return watch.hold
        watch.looked_at = now
        self._see_nonce(flight, watch, now)
        if now - watch.bumped_at > self._patience.bump:
            watch.bumped_at = watch.offered_at = now
            self._bump(flight)
        elif now - watch.offered_at > self._patience.rebroadcast:
            watch.offered_at = now
            self._offer_again(flight.nonce)
        return watch.hold

    def _see_nonce(self, flight: Flight, watch: "_Watch", now: float) -> None:
        """Raise `TransactionReplaced` when the nonce stays taken and no form of it is mined."""
        count = self._num_mined()
        watch.hold = self._hold(flight, count)
        if count <= flight.nonce or self._find(flight) is not None:
            watch.taken_at = None
        elif watch.taken_at is None:
            watch.taken_at = now
        elif now - watch.taken_at > self._patience.doubt:
            self._known.pop(flight.nonce, None)
            raise TransactionReplaced(flight.name, str(self._account.address), flight.nonce)

    def _hold(self, flight: Flight, count: int) -> str:
        if count < flight.nonce and count not in self._known:
            return (
                f"waits behind nonce {count} of the same account, which another program sent or must send: "
                "have it mined or replaced there, and use the key in one program at a time"
            )
        return ""

    def _is_settled(self, receipt: MinedTransaction) -> bool:
        if self._confirmations == 0:
            return True
        return bool(self._node.height() >= receipt.block + self._confirmations)

    def _offer_again(self, last_nonce: int) -> None:
        for nonce in range(self._num_mined(), last_nonce + 1):
            if nonce in self._known:
                self._try(self._known[nonce].forms[-1])

    def _bump(self, flight: Flight) -> None:
        """Offer more for the same nonce: only one of the two forms can be mined."""
        last = flight.forms[-1].fields
        fees = self._fees.raised(last)
        if fees is None:
            structlog.get_logger().warning(
                "offering no more for a transaction: its fee is at the cap",
                transaction=flight.name,
                gwei=most_of(last) / 10**9,
                remedy="raise max_gas_gwei (for commands ROLLCALL_MAX_GAS_GWEI), or wait for cheaper gas",
            )
        if fees is None or self._node.balance(self._account.address) < most_of(fees) * last["gas"]:
            self._offer_again(flight.nonce)
            return
        flight.forms.append(Signed.by(self._account, {**last, **fees}))
        self._try(flight.forms[-1])

    def _try(self, signed: Signed) -> None:
        # Known, mined meanwhile, or refused: the receipt or its absence tells.
        with suppress(NodeRefused):
            self._node.offer(signed.raw)

    def _find(self, flight: Flight) -> MinedTransaction | None:
        for signed in list(flight.forms):
            receipt = self._node.receipt(signed.transaction_hash)
            if receipt is not None:
                return receipt
        return None

    def _num_mined(self) -> int:
        return self._node.count(self._account.address, "latest")


@dataclass(slots=True)
class _Watch:
    """When each step was last done for one waiting transaction; since when its nonce is taken."""

    offered_at: float
    bumped_at: float = 0.0
    looked_at: float = 0.0
    taken_at: float | None = None
    hold: str = ""

    def __post_init__(self) -> None:
        self.bumped_at = self.looked_at = self.offered_at
