"""Send an account's transactions: the one owner of its nonces.

Thread-safe. Decides gas, fees, when to send again and when to give up. A refusal is found by the gas
estimate, and an empty purse by the balance, before anything is sent. What is lost on the way is offered
again as the same bytes, or under the same nonce with more gas: neither can be executed twice. Never is a
transaction whose fate is unknown sent under another nonce. One `Sender` per account and process; a second
process on the same key is survived or named, not encouraged.
"""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3RPCError

from contracts.errors import (
    ChainUnreachable,
    LedgerError,
    NotEnoughGas,
    TransactionFailed,
    TransactionPending,
    TransactionReplaced,
)
from contracts.node import (
    NO_ANSWER,
    NONCE_IN_USE,
    NONCE_TAKEN,
    SENT_BEFORE,
    TOO_POOR,
    asks_for_patience,
    message_of,
    never_left,
    refusal,
)

REBROADCAST_SECONDS = 5.0
"""A node that restarts forgets what it had not mined; offering it again is harmless."""
BUMP_SECONDS = 30.0
"""Two and a half of Ethereum's blocks: what is not mined by then was priced too low."""
BUMP_PERCENT = 25
"""Nodes take a replacement from 10 % on."""
LOOK_SECONDS = 1.0
"""How far apart a nonce must be seen taken, twice, before its receipt is believed to be missing."""
DOUBT_SECONDS = 5.0
"""How long the receipt of what was perhaps sent may lag behind its nonce."""
REMEMBERED = 64
"""Transactions offered again after a re-organisation: Ethereum finalises within 64 blocks."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A transaction that was mined and succeeded. `logs` are web3's raw ones."""

    transaction_hash: str
    block: int
    gas_used: int
    contract_address: str | None
    logs: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Signed:
    raw: bytes
    transaction_hash: bytes
    fields: dict[str, Any]


@dataclass(slots=True)
class _Flight:
    """One intention under one nonce, in every form it was offered: at most one of them is mined."""

    forms: list[_Signed]
    is_mined: bool = False
    mined_hash: bytes | None = None
    nonce: int = field(init=False)

    def __post_init__(self) -> None:
        self.nonce = self.forms[0].fields["nonce"]

    @property
    def name(self) -> str:
        return "0x" + (self.mined_hash or self.forms[-1].transaction_hash).hex()


class Sender:
    """Signs and sends for one account.

    `confirmations` is how many blocks must stand on a transaction's own before it counts: 0 for a
    development chain, as many as its re-organisations are deep for another.

    Example:
        sender = Sender(w3, account)
        receipt = sender.send(contract_address, call_data)
    """

    def __init__(
        self,
        w3: Web3,
        account: LocalAccount,
        *,
        timeout_seconds: float = 120.0,
        poll_seconds: float = 0.05,
        confirmations: int = 0,
    ) -> None:
        self._w3 = w3
        self._account = account
        self._timeout = timeout_seconds
        self._poll = poll_seconds
        self._confirmations = confirmations
        self._lock = threading.Lock()
        self._flights: dict[int, _Flight] = {}
        self._next_nonce: int | None = None
        self._chain_id: int | None = None

    @property
    def address(self) -> str:
        """The account that pays."""
        return str(self._account.address)

    def send(self, to: str | None, data: bytes) -> Receipt:
        """Send and wait until mined. `to` None creates a contract. Raise a `LedgerError`."""
        deadline = time.monotonic() + self._timeout
        self._bring_back(deadline)
        transaction = self._unsigned(to, data)
        gas = self._estimate(transaction, deadline)
        flight = self._launch({**transaction, "gas": gas}, deadline)
        receipt = self._land(flight, deadline)
        if receipt["status"] == 1:
            return _receipt(receipt)
        # What made it fail came between estimate and block; asking again usually names it.
        self._estimate(transaction, deadline)
        raise TransactionFailed(f"{flight.name} was mined and reverted")

    def estimate(self, to: str | None, data: bytes) -> int:
        """Return the gas a transaction would take now, or raise its refusal; nothing is sent."""
        return self._estimate(self._unsigned(to, data), time.monotonic() + self._timeout)

    # ---------------------------------------------------------------- before

    def _unsigned(self, to: str | None, data: bytes) -> dict[str, Any]:
        transaction: dict[str, Any] = {"from": self.address, "data": data, "value": 0}
        return transaction if to is None else {**transaction, "to": to}

    def _bring_back(self, deadline: float) -> None:
        """Have mined again what a re-organisation took back: what follows may rest on it."""
        if not self._flights:
            return
        count = self._count("latest", deadline)
        lost = [f for f in list(self._flights.values()) if f.is_mined and f.nonce >= count]
        for flight in sorted(lost, key=lambda flight: flight.nonce):
            flight.is_mined = False
            self._offer_again(flight.nonce)
            self._land(flight, deadline)

    def _estimate(self, transaction: dict[str, Any], deadline: float) -> int:
        while True:
            try:
                return int(self._w3.eth.estimate_gas(transaction))
            except ContractLogicError as error:
                raise refusal(error) from error
            except Web3RPCError as error:
                if not asks_for_patience(error):
                    raise TransactionFailed(message_of(error)) from error
                self._pause(deadline, error)
            except NO_ANSWER as error:
                self._pause(deadline, error)

    # ---------------------------------------------------------------- sending

    def _launch(self, transaction: dict[str, Any], deadline: float) -> _Flight:
        """Offer a transaction under the next nonce, or the one after where that is another's."""
        with self._lock:
            while True:
                try:
                    if self._next_nonce is None:
                        self._next_nonce = self._count("pending", deadline)
                    signed = self._sign(transaction, self._next_nonce)
                    if self._offer(signed, deadline):
                        self._next_nonce += 1
                        return self._remember(_Flight([signed]))
                    self._next_nonce = None
                    self._pause(deadline, "every nonce is taken: is the key used elsewhere?")
                except LedgerError:
                    self._next_nonce = None
                    raise
                except NO_ANSWER as error:
                    self._pause(deadline, error)

    def _remember(self, flight: _Flight) -> _Flight:
        self._flights[flight.nonce] = flight
        for nonce in [nonce for nonce in self._flights if nonce <= flight.nonce - REMEMBERED]:
            del self._flights[nonce]
        return flight

    def _sign(self, transaction: dict[str, Any], nonce: int) -> _Signed:
        if self._chain_id is None:
            self._chain_id = self._w3.eth.chain_id
        tip = self._w3.eth.max_priority_fee
        # Twice the base fee survives six full blocks in a row.
        price = 2 * self._w3.eth.gas_price + tip
        if (have := self._balance()) < transaction["gas"] * price:
            raise NotEnoughGas(self.address, have, transaction["gas"] * price, self._chain_id)
        fields = {key: value for key, value in transaction.items() if key != "from"}
        fees = {"maxFeePerGas": price, "maxPriorityFeePerGas": tip}
        return self._signed({**fields, **fees, "nonce": nonce, "chainId": self._chain_id})

    def _signed(self, fields: dict[str, Any]) -> _Signed:
        signed = self._account.sign_transaction(fields)
        return _Signed(bytes(signed.raw_transaction), bytes(signed.hash), fields)

    def _offer(self, signed: _Signed, deadline: float) -> bool:
        """Return True once the node has it, False when its nonce belongs to another transaction."""
        has_perhaps_left = False
        while True:
            try:
                self._w3.eth.send_raw_transaction(signed.raw)
                return True
            except NO_ANSWER as error:
                # Whether it arrived is unknown: the same bytes again cannot be executed twice.
                has_perhaps_left |= not never_left(error)
                if has_perhaps_left and time.monotonic() > deadline:
                    name = "0x" + signed.transaction_hash.hex()
                    raise TransactionPending(name, self._timeout, "had no answer") from error
                self._pause(deadline, error)
            except Web3RPCError as error:
                message = message_of(error).lower()
                if any(text in message for text in SENT_BEFORE):
                    return True
                if any(text in message for text in NONCE_TAKEN):
                    return self._was_mined(signed, has_perhaps_left)
                if any(text in message for text in NONCE_IN_USE):
                    return self._is_known(signed)
                if any(text in message for text in TOO_POOR):
                    # The node also counts what else of this account is on its way.
                    need = signed.fields["gas"] * signed.fields["maxFeePerGas"]
                    have = min(self._balance(), need - 1)
                    raise NotEnoughGas(self.address, have, need, self._chain_id or 0) from error
                if not asks_for_patience(error):
                    raise TransactionFailed(message_of(error)) from error
                self._pause(deadline, error)

    def _was_mined(self, signed: _Signed, has_perhaps_left: bool) -> bool:
        """Return whether a taken nonce was taken by this very transaction, in an answer that was lost."""
        until = time.monotonic() + (DOUBT_SECONDS if has_perhaps_left else 0.0)
        while not self._is_known(signed):
            if time.monotonic() < until:
                time.sleep(self._poll)
            elif has_perhaps_left:
                # Another nonce now could pay twice, should the receipt only be late.
                name = "0x" + signed.transaction_hash.hex()
                raise TransactionReplaced(name, self.address, signed.fields["nonce"])
            else:
                return False
        return True

    def _is_known(self, signed: _Signed) -> bool:
        try:
            self._w3.eth.get_transaction(signed.transaction_hash)
            return True
        except TransactionNotFound:
            return False

    # ---------------------------------------------------------------- waiting

    def _land(self, flight: _Flight, deadline: float) -> Any:
        """Return the receipt of whichever form was mined, once enough blocks stand on it."""
        now = time.monotonic()
        offered_at, bumped_at, looked_at, taken_at = now, now, now, None
        lack = "has no receipt"
        while (now := time.monotonic()) < deadline:
            try:
                receipt = self._find(flight)
                if receipt is not None:
                    if self._is_settled(receipt):
                        flight.is_mined, flight.mined_hash = True, receipt["transactionHash"]
                        return receipt
                    lack = f"is mined without {self._confirmations} blocks on it"
                    taken_at = None
                elif now - looked_at > LOOK_SECONDS:
                    looked_at = now
                    lack = "has no receipt"
                    taken_at = self._see_nonce(flight, taken_at, now)
                    if now - bumped_at > BUMP_SECONDS:
                        bumped_at = offered_at = now
                        self._bump(flight)
                    elif now - offered_at > REBROADCAST_SECONDS:
                        offered_at = now
                        self._offer_again(flight.nonce)
            except Web3RPCError as error:
                lack = f"has no receipt (the node says {message_of(error)})"
            except NO_ANSWER:
                pass
            time.sleep(self._poll)
        raise TransactionPending(flight.name, self._timeout, lack)

    def _see_nonce(self, flight: _Flight, taken_at: float | None, now: float) -> float | None:
        """Return since when the nonce is taken and no form of it mined; raise when that lasts."""
        count = self._w3.eth.get_transaction_count(self._account.address, "latest")
        if count <= flight.nonce or self._find(flight) is not None:
            return None
        if taken_at is not None and now - taken_at > DOUBT_SECONDS:
            self._flights.pop(flight.nonce, None)
            self._next_nonce = None
            raise TransactionReplaced(flight.name, self.address, flight.nonce)
        return now if taken_at is None else taken_at

    def _is_settled(self, receipt: Any) -> bool:
        if self._confirmations == 0:
            return True
        return bool(self._w3.eth.block_number >= receipt["blockNumber"] + self._confirmations)

    def _offer_again(self, last_nonce: int) -> None:
        """Offer again everything unmined up to a nonce: one that is missing holds up all later ones."""
        first = self._w3.eth.get_transaction_count(self._account.address, "latest")
        for nonce in range(first, last_nonce + 1):
            if nonce in self._flights:
                self._try(self._flights[nonce].forms[-1])

    def _bump(self, flight: _Flight) -> None:
        """Offer more for the same nonce: whichever form is mined, the other one cannot be."""
        last = flight.forms[-1].fields
        price = max(self._w3.eth.gas_price * 2, last["maxFeePerGas"] * (100 + BUMP_PERCENT) // 100)
        tip = max(1, last["maxPriorityFeePerGas"] * (100 + BUMP_PERCENT) // 100)
        fees = {"maxFeePerGas": price + tip, "maxPriorityFeePerGas": tip}
        if self._balance() < (price + tip) * last["gas"]:
            self._offer_again(flight.nonce)
            return
        signed = self._signed({**last, **fees})
        flight.forms.append(signed)
        self._try(signed)

    def _try(self, signed: _Signed) -> None:
        # Known, mined meanwhile, or refused: the receipt or its absence tells.
        with suppress(Web3RPCError):
            self._w3.eth.send_raw_transaction(signed.raw)

    def _find(self, flight: _Flight) -> Any | None:
        for signed in flight.forms:
            try:
                return self._w3.eth.get_transaction_receipt(signed.transaction_hash)
            except TransactionNotFound:
                continue
        return None

    def _balance(self) -> int:
        return int(self._w3.eth.get_balance(self._account.address))

    def _count(self, tag: str, deadline: float) -> int:
        while True:
            try:
                return int(self._w3.eth.get_transaction_count(self._account.address, tag))
            except NO_ANSWER as error:
                self._pause(deadline, error)

    def _pause(self, deadline: float, why: object) -> None:
        if time.monotonic() > deadline:
            error = ChainUnreachable(f"no answer within {self._timeout:.0f} s: {why}")
            raise error from (why if isinstance(why, Exception) else None)
        time.sleep(self._poll)


def _receipt(receipt: Any) -> Receipt:
    return Receipt(
        transaction_hash="0x" + bytes(receipt["transactionHash"]).hex(),
        block=int(receipt["blockNumber"]),
        gas_used=int(receipt["gasUsed"]),
        contract_address=receipt["contractAddress"],
        logs=tuple(receipt["logs"]),
    )
