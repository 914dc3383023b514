"""A real EVM (py-evm, Prague rules) that mines each transaction at once, for one machine.

Decides block times, gas estimates and what the head is; keeps blocks, receipts and logs in memory. No
network, no files (`journal.py`), no clock: every block's time is an argument. Not a network: one node,
no reorganisations, no fee market worth the name.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from eth.abc import BlockHeaderAPI, ComputationAPI, ReceiptAPI, SignedTransactionAPI
from eth.chains.base import MiningChain
from eth.constants import ZERO_HASH32
from eth.db import get_db_backend
from eth.exceptions import Revert
from eth.vm.forks import PragueVM
from eth.vm.spoof import SpoofTransaction
from eth_utils import ValidationError, keccak
from rlp import encode as rlp_encode  # type: ignore[import-untyped]
from rlp.exceptions import RLPException  # type: ignore[import-untyped]

CHAIN_ID = 31_337
"""What development chains use (anvil, hardhat), so that wallets warn about it."""

BLOCK_GAS = 60_000_000
FUNDING_WEI = 10**24


class TransactionRefused(Exception):
    """The chain does not accept a transaction; nothing changed."""


class ExecutionFailed(Exception):
    """A call or an estimate reverted, or ran out of gas; `data` is what the contract returned."""

    def __init__(self, message: str, data: bytes) -> None:
        super().__init__(message)
        self.data = data


@dataclass(frozen=True, slots=True)
class Call:
    """An unsigned transaction to try."""

    sender: bytes
    to: bytes
    data: bytes
    value: int = 0
    gas: int = BLOCK_GAS


@dataclass(frozen=True, slots=True)
class Mined:
    """A block, which holds at most one transaction and its receipt."""

    header: BlockHeaderAPI
    transaction: SignedTransactionAPI | None
    raw: bytes
    receipt: ReceiptAPI | None

    @property
    def number(self) -> int:
        """Its height."""
        return int(self.header.block_number)

    @property
    def created_address(self) -> bytes | None:
        """The contract that its transaction created, if it did."""
        if self.transaction is None or self.transaction.to:
            return None
        address: bytes = keccak(rlp_encode([self.transaction.sender, self.transaction.nonce]))[12:]
        return address


class _Evm(MiningChain):
    chain_id = CHAIN_ID
    vm_configuration = ((0, PragueVM),)

    def create_header_from_parent(
        self, parent_header: BlockHeaderAPI, **header_params: Any
    ) -> BlockHeaderAPI:
        """Keep the gas limit: py-evm would let it decay towards what the blocks use."""
        header_params["gas_limit"] = parent_header.gas_limit
        return super().create_header_from_parent(parent_header, **header_params)


class DevChain:
    """Blocks in order, each mined from one transaction. Not thread-safe: one lock around it.

    Example:
        chain = DevChain([address], genesis_time=1_800_000_000)
        mined = chain.send(raw_transaction, now=1_800_000_005)
    """

    def __init__(self, funded: Sequence[bytes], *, genesis_time: int) -> None:
        account = {"balance": FUNDING_WEI, "nonce": 0, "code": b"", "storage": {}}
        params = {
            "difficulty": 0,
            "gas_limit": BLOCK_GAS,
            "timestamp": genesis_time,
            "mix_hash": ZERO_HASH32,
            "nonce": b"\0" * 8,
        }
        state = dict.fromkeys(funded, account)
        self._evm = _Evm.from_genesis(get_db_backend(), params, state)
        genesis = self._evm.get_canonical_head()
        self.blocks = [Mined(genesis, None, b"", None)]
        self._number_by_transaction: dict[bytes, int] = {}

    @property
    def head(self) -> Mined:
        """The newest block."""
        return self.blocks[-1]

    def next_time(self, now: int) -> int:
        """Return the next block's time: the wall clock's, but always after its parent's."""
        return max(int(self.head.header.timestamp) + 1, now)

    def send(self, raw: bytes, *, now: int) -> Mined:
        """Mine one signed transaction into its own block, or raise `TransactionRefused`."""
        try:
            transaction = self._evm.get_vm().get_transaction_builder().decode(raw)
            if bytes(transaction.hash) in self._number_by_transaction:
                raise TransactionRefused("already known")
            self._check_nonce(transaction)
            self._evm.set_header_timestamp(self.next_time(now))
            _, receipt, _ = self._evm.apply_transaction(transaction)
        except (ValidationError, RLPException) as error:
            raise TransactionRefused(str(error)) from error
        return self._mine(transaction, raw, receipt)

    def mine_empty(self, *, now: int) -> Mined:
        """Mine a block without a transaction, so that time passes for readers of the head."""
        self._evm.set_header_timestamp(self.next_time(now))
        return self._mine(None, b"", None)

    def call(self, call: Call, *, now: int, at: Mined | None = None) -> bytes:
        """Return the result of `call` in the block after `at` (default: the head), mined `now`."""
        return bytes(self._execute(call, now, at).output)

    def estimate(self, call: Call, *, now: int) -> int:
        """Return a gas limit that suffices: what was used, refunds ignored, and a quarter more.

        The quarter covers the 1/64 that every nested call withholds, and later changes of state.
        """
        computation = self._execute(call, now, None)
        used = computation.get_gas_used() + computation.get_gas_refund()
        return min(BLOCK_GAS, int(self._intrinsic_gas(call) + used) * 5 // 4)

    def balance(self, address: bytes) -> int:
        """Return an account's wei."""
        return int(self._state().get_balance(address))

    def nonce(self, address: bytes) -> int:
        """Return how many transactions an account has sent."""
        return int(self._state().get_nonce(address))

    def code(self, address: bytes) -> bytes:
        """Return a contract's code."""
        return bytes(self._state().get_code(address))

    def block_of(self, transaction_hash: bytes) -> Mined | None:
        """Return the block that holds a transaction, or None."""
        number = self._number_by_transaction.get(transaction_hash)
        return None if number is None else self.blocks[number]

    def rewind(self, number: int) -> None:
        """Forget every block above `number`. For tests that start from a prepared chain."""
        for mined in self.blocks[number + 1 :]:
            if mined.transaction is not None:
                del self._number_by_transaction[bytes(mined.transaction.hash)]
        del self.blocks[number + 1 :]
        self._evm.header = self._evm.create_header_from_parent(self.head.header)

    def _mine(
        self, transaction: SignedTransactionAPI | None, raw: bytes, receipt: ReceiptAPI | None
    ) -> Mined:
        # A constant mix hash keeps a replayed chain identical to the one that was recorded.
        block = self._evm.mine_block(mix_hash=ZERO_HASH32)
        mined = Mined(block.header, transaction, raw, receipt)
        self.blocks.append(mined)
        if transaction is not None:
            self._number_by_transaction[bytes(transaction.hash)] = mined.number
        return mined

    def _check_nonce(self, transaction: SignedTransactionAPI) -> None:
        expected = self.nonce(transaction.sender)
        if transaction.nonce != expected:
            relation = "low" if transaction.nonce < expected else "high"
            raise TransactionRefused(
                f"nonce too {relation}: next nonce {expected}, tx nonce {transaction.nonce}"
            )

    def _state(self, at: Mined | None = None, now: int = 0) -> Any:
        parent = (at or self.head).header
        moment = max(int(parent.timestamp) + 1, now)
        header = self._evm.create_header_from_parent(parent, timestamp=moment)
        # Calls are free: an account need not be able to pay for a question.
        return self._evm.get_vm(header.copy(base_fee_per_gas=0)).state

    def _execute(self, call: Call, now: int, at: Mined | None) -> ComputationAPI:
        state = self._state(at, now)
        spoofed = SpoofTransaction(self._unsigned(call, state), from_=call.sender)
        try:
            computation = state.apply_transaction(spoofed)
        except ValidationError as error:
            raise ExecutionFailed(str(error), b"") from error
        if computation.is_error:
            has_reverted = isinstance(computation.error, Revert)
            data = bytes(computation.output) if has_reverted else b""
            message = "execution reverted" if has_reverted else str(computation.error)
            raise ExecutionFailed(message, data)
        return computation

    def _unsigned(self, call: Call, state: Any) -> Any:
        builder = self._evm.get_vm().get_transaction_builder()
        return builder.new_unsigned_dynamic_fee_transaction(
            chain_id=CHAIN_ID,
            nonce=state.get_nonce(call.sender),
            max_priority_fee_per_gas=0,
            max_fee_per_gas=0,
            gas=min(call.gas, BLOCK_GAS),
            to=call.to,
            value=call.value,
            data=call.data,
            access_list=(),
        )

    def _intrinsic_gas(self, call: Call) -> int:
        return int(self._unsigned(call, self._state()).intrinsic_gas)


Clock = Callable[[], float]
"""Seconds since the epoch; `time.time` on a machine, a variable in a test."""

WALL_CLOCK: Clock = time.time
