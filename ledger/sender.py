"""Send an account's transactions: the one owner of its nonces.

Thread-safe. Decides gas and nonces; `fees.py` decides what is offered for gas, and `transactions.py` decides what is done until they are mined. Before
anything is sent, the gas estimate finds a refusal and the balance an empty purse. A transaction whose fate is
unknown is never sent under another nonce. One `Sender` per account and process; a second process on the same
key is survived or named in an error, not encouraged.
"""

import threading
import time
from typing import Any

from eth_account.signers.local import LocalAccount

from ledger.answers import NO_TYPE_2, NONCE_TAKEN, NONCE_WAITS, SENT_BEFORE, TOO_POOR
from ledger.errors import (
    ChainUnreachable,
    ContractError,
    LedgerError,
    NodeRefused,
    NotEnoughGas,
    TransactionFailed,
    TransactionPending,
    TransactionReplaced,
)
from ledger.fees import MOST_GWEI, Fees, most_of
from ledger.node import MinedTransaction, Node
from ledger.transactions import Flight, Flights, Signed, Waits


class Sender:
    """Signs and sends for one account.

    `confirmations` is how many blocks must stand on a transaction's own before it counts: 0 for a
    development chain, as many as its re-organisations are deep for another. `timeout_seconds` is how long a
    node is waited for, and how long a transaction.

    Example:
        sender = Sender(node, account)
        receipt = sender.send(contract_address, call_data)
    """

    def __init__(
        self,
        node: Node,
        account: LocalAccount,
        *,
        timeout_seconds: float = 120.0,
        patience: Waits = Waits(),  # noqa: B008 - frozen
        confirmations: int = 0,
        max_gas_gwei: float = MOST_GWEI,
    ) -> None:
        self._node = node.patient(timeout_seconds)
        self._account = account
        self._timeout = timeout_seconds
        self._patience = patience
        self._fees = Fees(self._node, max_gas_gwei)
        self._flights = Flights(
            node, account, self._fees, confirmations=confirmations, patience=patience
        )
        self._lock = threading.Lock()
        self._next_nonce: int | None = None
        self._chain_id: int | None = None
        self._newest: int | None = None

    @property
    def address(self) -> str:
        """The account that pays."""
        return str(self._account.address)

    def send(self, to: str | None, data: bytes) -> MinedTransaction:
        """Send and wait until mined. `to` None creates a contract. Raise a `LedgerError`."""
        deadline = time.monotonic() + self._timeout
        self._flights.bring_back(deadline)
        transaction = self._unsigned(to, data)
        gas = self._estimate(transaction)
        flight = self._launch({**transaction, "gas": gas}, deadline)
        try:
            mined = self._flights.land(flight, deadline)
        except TransactionReplaced:
            self._next_nonce = None
            raise
        self._newest = mined.block
        if mined.succeeded:
            return mined
        # The cause came between estimate and block; another estimate usually names it.
        self._estimate(transaction)
        raise TransactionFailed(f"{flight.name} was mined and reverted")

    def estimate(self, to: str | None, data: bytes) -> int:
        """Return the gas a transaction would take now, or raise its refusal; nothing is sent."""
        return self._estimate(self._unsigned(to, data))

    def _unsigned(self, to: str | None, data: bytes) -> dict[str, Any]:
        transaction: dict[str, Any] = {"from": self.address, "data": data, "value": 0}
        return transaction if to is None else {**transaction, "to": to}

    def _estimate(self, transaction: dict[str, Any]) -> int:
        """Return the gas. A refusal counts if it stands in the block of this account's last transaction too.

        A balancer may have asked a machine that has not that block yet, and what rests on it fails there.
        """
        until = time.monotonic() + self._patience.doubt
        while True:
            try:
                return self._node.estimate(transaction)
            except (ContractError, TransactionFailed) as refusal:
                if self._newest is None or time.monotonic() > until:
                    raise
                try:
                    self._node.estimate(transaction, at=self._newest)
                except NodeRefused:
                    raise refusal from None  # it estimates by the newest block alone
            time.sleep(self._patience.poll)

    def _launch(self, transaction: dict[str, Any], deadline: float) -> Flight:
        """Offer a transaction under the next nonce, or under a later one if that is taken."""
        with self._lock:
            while True:
                try:
                    if self._next_nonce is None:
                        self._next_nonce = self._node.count(self.address, "pending")
                    signed = self._sign(transaction, self._next_nonce)
                    if self._offer(signed):
                        self._next_nonce = signed.fields["nonce"] + 1
                        return self._flights.add(signed)
                except LedgerError:
                    self._next_nonce = None
                    raise
                if time.monotonic() > deadline:
                    self._next_nonce = None
                    raise ChainUnreachable(
                        f"every nonce of {self.address} was taken for {self._timeout:.0f} s: is the key used "
                        "elsewhere?"
                    )
                time.sleep(self._patience.poll)

    def _sign(self, transaction: dict[str, Any], nonce: int) -> Signed:
        if self._chain_id is None:
            self._chain_id = self._node.chain_id()
        fees = self._fees.first()
        have, need = self._node.balance(self.address), transaction["gas"] * most_of(fees)
        if have < need:
            raise NotEnoughGas(self.address, have, need, self._chain_id)
        fields = {key: value for key, value in transaction.items() if key != "from"}
        return Signed.by(
            self._account, {**fields, **fees, "nonce": nonce, "chainId": self._chain_id}
        )

    def _offer(self, signed: Signed) -> bool:
        """Return True once the node has it; False, with another nonce or type to try, if it takes no such."""
        try:
            self._node.offer(signed.raw)
            return True
        except ChainUnreachable as error:
            # It may have arrived; the same bytes offered again cannot be executed twice.
            if error.may_have_left:
                raise TransactionPending(signed.name, self._timeout, "had no answer") from error
            raise
        except NodeRefused as error:
            return self._is_taken_after(error, signed)

    def _is_taken_after(self, error: NodeRefused, signed: Signed) -> bool:
        text = str(error)
        if NONCE_WAITS.search(text):
            # A node may count no waiting transactions: those of another program have the nonces after its count.
            is_ahead = "high" in text or "big" in text or "gap" in text
            self._next_nonce = None if is_ahead else signed.fields["nonce"] + 1
            return self._node.knows(signed.transaction_hash)
        if NONCE_TAKEN.search(text):
            self._next_nonce = None
            return self._was_mined(signed, error.may_have_left)
        if SENT_BEFORE.search(text):
            return True
        if error.may_have_left:
            if self._node.knows(signed.transaction_hash):
                return True
            raise TransactionPending(signed.name, self._timeout, "had no answer") from error
        if NO_TYPE_2.search(text) and "maxFeePerGas" in signed.fields:
            self._fees.forget_type_2()
            return False
        if TOO_POOR.search(text):
            # The node also counts this account's other transactions on their way.
            need = signed.fields["gas"] * most_of(signed.fields)
            have = min(self._node.balance(self.address), need - 1)
            raise NotEnoughGas(self.address, have, need, self._chain_id or 0) from error
        raise error

    def _was_mined(self, signed: Signed, may_have_left: bool) -> bool:
        """Return whether this very transaction took its nonce, though the node's answer was lost."""
        until = time.monotonic() + (self._patience.doubt if may_have_left else 0.0)
        while not self._node.knows(signed.transaction_hash):
            if time.monotonic() < until:
                time.sleep(self._patience.poll)
            elif may_have_left:
                # If the receipt is only late, another nonce would pay twice.
                raise TransactionReplaced(signed.name, self.address, signed.fields["nonce"])
            else:
                return False
        return True
