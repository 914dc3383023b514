"""Send an account's transactions: the one owner of its nonces.

Thread-safe. Decides gas, fees and nonces; `transactions.py` decides what is done until they are mined. Before
anything is sent, the gas estimate finds a refusal and the balance an empty purse. A transaction whose fate is
unknown is never sent under another nonce. One `Sender` per account and process; a second process on the same
key is survived or named in an error, not encouraged.
"""

import threading
import time
from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3RPCError

from ledger.errors import (
    ChainUnreachable,
    LedgerError,
    NotEnoughGas,
    TransactionFailed,
    TransactionPending,
    TransactionReplaced,
)
from ledger.node import (
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
from ledger.transactions import Flight, Flights, Signed, Waits


@dataclass(frozen=True, slots=True)
class MinedTransaction:
    """A transaction that was mined and succeeded. `logs` are web3's raw ones."""

    transaction_hash: str
    block: int
    gas_used: int
    contract_address: str | None
    logs: tuple[Any, ...]


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
        patience: Waits = Waits(),  # noqa: B008 - frozen
        confirmations: int = 0,
    ) -> None:
        self._w3 = w3
        self._account = account
        self._timeout = timeout_seconds
        self._patience = patience
        self._flights = Flights(w3, account, confirmations=confirmations, patience=patience)
        self._lock = threading.Lock()
        self._next_nonce: int | None = None
        self._chain_id: int | None = None

    @property
    def address(self) -> str:
        """The account that pays."""
        return str(self._account.address)

    def send(self, to: str | None, data: bytes) -> MinedTransaction:
        """Send and wait until mined. `to` None creates a contract. Raise a `LedgerError`."""
        deadline = time.monotonic() + self._timeout
        self._bring_back(deadline)
        transaction = self._unsigned(to, data)
        gas = self._estimate(transaction, deadline)
        flight = self._launch({**transaction, "gas": gas}, deadline)
        try:
            receipt = self._flights.land(flight, deadline)
        except TransactionReplaced:
            self._next_nonce = None
            raise
        if receipt["status"] == 1:
            return _receipt(receipt)
        # The cause came between estimate and block; another estimate usually names it.
        self._estimate(transaction, deadline)
        raise TransactionFailed(f"{flight.name} was mined and reverted")

    def estimate(self, to: str | None, data: bytes) -> int:
        """Return the gas a transaction would take now, or raise its refusal; nothing is sent."""
        return self._estimate(self._unsigned(to, data), time.monotonic() + self._timeout)

    def _unsigned(self, to: str | None, data: bytes) -> dict[str, Any]:
        transaction: dict[str, Any] = {"from": self.address, "data": data, "value": 0}
        return transaction if to is None else {**transaction, "to": to}

    def _bring_back(self, deadline: float) -> None:
        while True:
            try:
                return self._flights.bring_back(deadline)
            except NO_ANSWER as error:
                self._pause(deadline, error)

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

    def _launch(self, transaction: dict[str, Any], deadline: float) -> Flight:
        """Offer a transaction under the next nonce, or under the one after if that is taken."""
        with self._lock:
            while True:
                try:
                    if self._next_nonce is None:
                        self._next_nonce = self._count("pending", deadline)
                    signed = self._sign(transaction, self._next_nonce)
                    if self._offer(signed, deadline):
                        self._next_nonce += 1
                        return self._flights.add(signed)
                    self._next_nonce = None
                    self._pause(deadline, "every nonce is taken: is the key used elsewhere?")
                except LedgerError:
                    self._next_nonce = None
                    raise
                except NO_ANSWER as error:
                    self._pause(deadline, error)

    def _sign(self, transaction: dict[str, Any], nonce: int) -> Signed:
        if self._chain_id is None:
            self._chain_id = self._w3.eth.chain_id
        tip = self._w3.eth.max_priority_fee
        # Twice the base fee survives six full blocks in a row.
        price = 2 * self._w3.eth.gas_price + tip
        if (have := self._balance()) < transaction["gas"] * price:
            raise NotEnoughGas(self.address, have, transaction["gas"] * price, self._chain_id)
        fields = {key: value for key, value in transaction.items() if key != "from"}
        fees = {"maxFeePerGas": price, "maxPriorityFeePerGas": tip}
        return Signed.by(
            self._account, {**fields, **fees, "nonce": nonce, "chainId": self._chain_id}
        )

    def _offer(self, signed: Signed, deadline: float) -> bool:
        """Return True once the node has it, False when its nonce belongs to another transaction."""
        has_perhaps_left = False
        while True:
            try:
                self._w3.eth.send_raw_transaction(signed.raw)
                return True
            except NO_ANSWER as error:
                # It may have arrived; the same bytes offered again cannot be executed twice.
                has_perhaps_left |= not never_left(error)
                if has_perhaps_left and time.monotonic() > deadline:
                    raise TransactionPending(signed.name, self._timeout, "had no answer") from error
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
                    # The node also counts this account's other transactions on their way.
                    need = signed.fields["gas"] * signed.fields["maxFeePerGas"]
                    have = min(self._balance(), need - 1)
                    raise NotEnoughGas(self.address, have, need, self._chain_id or 0) from error
                if not asks_for_patience(error):
                    raise TransactionFailed(message_of(error)) from error
                self._pause(deadline, error)

    def _was_mined(self, signed: Signed, has_perhaps_left: bool) -> bool:
        """Return whether this very transaction took its nonce, though the node's answer was lost."""
        until = time.monotonic() + (self._patience.doubt if has_perhaps_left else 0.0)
        while not self._is_known(signed):
            if time.monotonic() < until:
                time.sleep(self._patience.poll)
            elif has_perhaps_left:
                # If the receipt is only late, another nonce would pay twice.
                raise TransactionReplaced(signed.name, self.address, signed.fields["nonce"])
            else:
                return False
        return True

    def _is_known(self, signed: Signed) -> bool:
        try:
            self._w3.eth.get_transaction(signed.transaction_hash)
            return True
        except TransactionNotFound:
            return False

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
        time.sleep(self._patience.poll)


def _receipt(receipt: Any) -> MinedTransaction:
    return MinedTransaction(
        transaction_hash="0x" + bytes(receipt["transactionHash"]).hex(),
        block=int(receipt["blockNumber"]),
        gas_used=int(receipt["gasUsed"]),
        contract_address=receipt["contractAddress"],
        logs=tuple(receipt["logs"]),
    )
