"""Send an account's transactions: the one owner of its nonces.

Thread-safe. Decides gas, fees, when to send again and when to give up. A refusal is found by the gas
estimate, before anything is sent. One `Sender` per account and process; a second process on the same key
is survived (the nonce is read again), not encouraged.
"""

import threading
import time
from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount
from requests import RequestException
from web3 import Web3
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3RPCError

from contracts.errors import (
    ChainUnreachable,
    LedgerError,
    TransactionFailed,
    TransactionPending,
    decode_error,
)

REBROADCAST_SECONDS = 5.0
"""A node that restarts forgets what it had not mined; offering it again is harmless."""

SENT_BEFORE = ("already known", "already imported", "alreadyknown")
NONCE_IS_STALE = ("nonce too low", "nonce too high", "replacement transaction underpriced")


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


class Sender:
    """Signs and sends for one account.

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
    ) -> None:
        self._w3 = w3
        self._account = account
        self._timeout = timeout_seconds
        self._poll = poll_seconds
        self._lock = threading.Lock()
        self._next_nonce: int | None = None
        self._chain_id: int | None = None

    @property
    def address(self) -> str:
        """The account that pays."""
        return str(self._account.address)

    def send(self, to: str | None, data: bytes) -> Receipt:
        """Send and wait until mined. `to` None creates a contract. Raise a `LedgerError`."""
        deadline = time.monotonic() + self._timeout
        transaction: dict[str, Any] = {"from": self.address, "data": data, "value": 0}
        if to is not None:
            transaction["to"] = to
        gas = self._estimate(transaction, deadline)
        signed = self._broadcast_next({**transaction, "gas": gas}, deadline)
        receipt = self._wait(signed, deadline)
        if receipt["status"] == 1:
            return _receipt(receipt)
        # What made it fail came between estimate and block; asking again usually names it.
        self._estimate(transaction, deadline)
        raise TransactionFailed(f"0x{signed.transaction_hash.hex()} was mined and reverted")

    def _estimate(self, transaction: dict[str, Any], deadline: float) -> int:
        while True:
            try:
                return int(self._w3.eth.estimate_gas(transaction))
            except ContractLogicError as error:
                raise refusal(error) from error
            except Web3RPCError as error:
                raise TransactionFailed(_message(error)) from error
            except (RequestException, OSError) as error:
                self._pause(deadline, error)

    def _broadcast_next(self, transaction: dict[str, Any], deadline: float) -> _Signed:
        with self._lock:
            while True:
                try:
                    if self._next_nonce is None:
                        self._next_nonce = self._w3.eth.get_transaction_count(
                            self._account.address, "pending"
                        )
                    signed = self._sign(transaction, self._next_nonce)
                    if self._offer(signed, deadline):
                        self._next_nonce += 1
                        return signed
                    self._next_nonce = None
                except LedgerError:
                    self._next_nonce = None
                    raise
                except (RequestException, OSError) as error:
                    self._pause(deadline, error)

    def _sign(self, transaction: dict[str, Any], nonce: int) -> _Signed:
        if self._chain_id is None:
            self._chain_id = self._w3.eth.chain_id
        tip = self._w3.eth.max_priority_fee
        fees = {
            # Twice the base fee survives six full blocks in a row.
            "maxFeePerGas": 2 * self._w3.eth.gas_price + tip,
            "maxPriorityFeePerGas": tip,
            "nonce": nonce,
            "chainId": self._chain_id,
        }
        fields = {key: value for key, value in transaction.items() if key != "from"}
        signed = self._account.sign_transaction({**fields, **fees})
        return _Signed(bytes(signed.raw_transaction), bytes(signed.hash))

    def _offer(self, signed: _Signed, deadline: float) -> bool:
        """Return True once the node has it, False when its nonce belongs to another transaction."""
        while True:
            try:
                self._w3.eth.send_raw_transaction(signed.raw)
                return True
            except (RequestException, OSError) as error:
                # Whether it arrived is unknown: the same bytes again cannot be executed twice.
                self._pause(deadline, error)
            except Web3RPCError as error:
                message = _message(error).lower()
                if any(text in message for text in SENT_BEFORE):
                    return True
                if any(text in message for text in NONCE_IS_STALE):
                    return self._find(signed) is not None
                raise TransactionFailed(_message(error)) from error

    def _wait(self, signed: _Signed, deadline: float) -> Any:
        offered_at = time.monotonic()
        while time.monotonic() < deadline:
            try:
                receipt = self._find(signed)
                if receipt is not None:
                    return receipt
                if time.monotonic() - offered_at > REBROADCAST_SECONDS:
                    offered_at = time.monotonic()
                    self._offer(signed, deadline)
            except (RequestException, OSError):
                pass
            time.sleep(self._poll)
        raise TransactionPending("0x" + signed.transaction_hash.hex(), self._timeout)

    def _find(self, signed: _Signed) -> Any | None:
        try:
            return self._w3.eth.get_transaction_receipt(signed.transaction_hash)
        except TransactionNotFound:
            return None

    def _pause(self, deadline: float, error: Exception) -> None:
        if time.monotonic() > deadline:
            raise ChainUnreachable(f"no answer within {self._timeout:.0f} s: {error}") from error
        time.sleep(self._poll)


def refusal(error: ContractLogicError) -> LedgerError:
    """Return a node's report of a revert as the contract's own refusal, where it gave one."""
    if isinstance(error.data, str) and error.data.startswith("0x") and len(error.data) >= 10:
        return decode_error(bytes.fromhex(error.data[2:]))
    return TransactionFailed(str(error.message))


def _message(error: Web3RPCError) -> str:
    response = error.rpc_response or {}
    detail = response.get("error")
    return str(detail["message"]) if isinstance(detail, dict) else str(error)


def _receipt(receipt: Any) -> Receipt:
    return Receipt(
        transaction_hash="0x" + bytes(receipt["transactionHash"]).hex(),
        block=int(receipt["blockNumber"]),
        gas_used=int(receipt["gasUsed"]),
        contract_address=receipt["contractAddress"],
        logs=tuple(receipt["logs"]),
    )
