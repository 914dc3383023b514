"""Ethereum's JSON-RPC over a `DevChain`: the methods that wallets, web3 and `contracts/` use.

Decides when an empty block is mined: on reading the newest block if that is more than a second old, so
that windows expire while nothing is sent. Calls run in the block that would be mined now. Errors carry
what the contract returned, as geth's do. Source: ethereum/execution-apis.
"""

import threading
from collections.abc import Callable
from typing import Any

from eth_utils import ValidationError, to_checksum_address

from devchain.chain import (
    BLOCK_GAS,
    CHAIN_ID,
    WALL_CLOCK,
    Call,
    Clock,
    DevChain,
    ExecutionFailed,
    Mined,
    TransactionRefused,
)
from devchain.journal import ChainFile

Json = Any


class RpcError(Exception):
    """An answer that is an error object."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class Rpc:
    """Answers one method at a time, from any thread.

    Example:
        rpc = Rpc(DevChain([address], genesis_time=0))
        rpc.answer("eth_blockNumber", [])  # "0x0"
    """

    def __init__(
        self, chain: DevChain, journal: ChainFile | None = None, clock: Clock = WALL_CLOCK
    ) -> None:
        self._chain = chain
        self._journal = journal
        self._clock = clock
        self._lock = threading.Lock()
        self._methods: dict[str, Callable[..., Json]] = {
            "eth_chainId": lambda: hex(CHAIN_ID),
            "net_version": lambda: str(CHAIN_ID),
            "web3_clientVersion": lambda: "rollcall-devchain/py-evm",
            "eth_accounts": list,
            "eth_syncing": lambda: False,
            "eth_gasPrice": self._gas_price,
            "eth_maxPriorityFeePerGas": lambda: "0x0",
            "eth_blockNumber": lambda: hex(self._chain.head.number),
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getBalance": lambda a, _tag="latest": hex(chain.balance(_bytes(a))),
            "eth_getCode": lambda a, _tag="latest": _hex(chain.code(_bytes(a))),
            "eth_getTransactionCount": lambda a, _tag="latest": hex(chain.nonce(_bytes(a))),
            "eth_call": self._call,
            "eth_estimateGas": self._estimate,
            "eth_sendRawTransaction": self._send,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getTransactionByHash": self._transaction,
            "eth_getLogs": self._logs,
            "evm_mine": self._mine,
        }

    def answer(self, method: str, params: list[Json]) -> Json:
        """Return a method's result, or raise `RpcError`."""
        handler = self._methods.get(method)
        if handler is None:
            raise RpcError(-32601, f"the method {method} does not exist")
        with self._lock:
            try:
                return handler(*params)
            except ExecutionFailed as error:
                raise RpcError(3, str(error), _hex(error.data)) from error
            except TransactionRefused as error:
                raise RpcError(-32000, str(error)) from error
            except (AttributeError, TypeError, ValueError, KeyError, ValidationError) as error:
                raise RpcError(-32602, f"invalid argument: {error}") from error

    def _now(self) -> int:
        return int(self._clock())

    def _send(self, raw: str) -> str:
        mined = self._chain.send(_bytes(raw), now=self._now())
        self._record(mined)
        assert mined.transaction is not None
        return _hex(mined.transaction.hash)

    def _mine(self, *_: Json) -> str:
        self._record(self._chain.mine_empty(now=self._now()))
        return "0x0"

    def _record(self, mined: Mined) -> None:
        if self._journal is not None:
            self._journal.record(mined)

    def _call(self, call: dict[str, str], tag: str = "latest", *_: Json) -> str:
        if tag in ("latest", "pending", "safe", "finalized"):
            return _hex(self._chain.call(_parse_call(call), now=self._now()))
        at = self._numbered(tag)
        return _hex(self._chain.call(_parse_call(call), now=0, at=at))

    def _estimate(self, call: dict[str, str], *_: Json) -> str:
        return hex(self._chain.estimate(_parse_call(call), now=self._now()))

    def _gas_price(self) -> str:
        return hex(int(self._chain.head.header.base_fee_per_gas))

    def _numbered(self, tag: str) -> Mined:
        number = 0 if tag == "earliest" else int(tag, 16)
        if not 0 <= number <= self._chain.head.number:
            raise RpcError(-32000, f"no block {number}; the head is {self._chain.head.number}")
        return self._chain.blocks[number]

    def _block_by_number(self, tag: str, is_full: bool = False) -> Json:
        if tag in ("latest", "pending", "safe", "finalized"):
            if self._now() > int(self._chain.head.header.timestamp) + 1:
                self._mine()
            return _block(self._chain.head, is_full)
        try:
            return _block(self._numbered(tag), is_full)
        except RpcError:
            return None

    def _block_by_hash(self, digest: str, is_full: bool = False) -> Json:
        wanted = _bytes(digest)
        found = (m for m in reversed(self._chain.blocks) if bytes(m.header.hash) == wanted)
        mined = next(found, None)
        return None if mined is None else _block(mined, is_full)

    def _receipt(self, digest: str) -> Json:
        mined = self._chain.block_of(_bytes(digest))
        return None if mined is None else _receipt(mined)

    def _transaction(self, digest: str) -> Json:
        mined = self._chain.block_of(_bytes(digest))
        return None if mined is None else _transaction(mined)

    def _logs(self, query: dict[str, Json]) -> list[Json]:
        head, digest = self._chain.head.number, query.get("blockHash")
        if digest is None:
            first = _height(query.get("fromBlock", "latest"), head)
            last = min(_height(query.get("toBlock", "latest"), head), head)
        else:
            first = last = self._height_of(_bytes(digest))
        addresses = _lower_set(query.get("address"))
        topics = [_lower_set(topic) for topic in query.get("topics") or []]
        found = []
        for mined in self._chain.blocks[first : last + 1]:
            for log in _log_list(mined):
                if (not addresses or log["address"].lower() in addresses) and _fits(log, topics):
                    found.append(log)
        return found

    def _height_of(self, digest: bytes) -> int:
        for mined in reversed(self._chain.blocks):
            if mined.header.hash == digest:
                return mined.number
        raise RpcError(-32000, "unknown block")


def _fits(log: dict[str, Json], topics: list[set[str]]) -> bool:
    if len(topics) > len(log["topics"]):
        return False
    return all(
        not any_of or have in any_of for any_of, have in zip(topics, log["topics"], strict=False)
    )


def _height(tag: str, head: int) -> int:
    if tag == "earliest":
        return 0
    return head if tag in ("latest", "pending", "safe", "finalized") else int(tag, 16)


def _lower_set(value: str | list[str] | None) -> set[str]:
    if value is None:
        return set()
    return {item.lower() for item in ([value] if isinstance(value, str) else value)}


def _parse_call(call: dict[str, str]) -> Call:
    data = call.get("data") or call.get("input") or "0x"
    return Call(
        sender=_bytes(call.get("from") or "0x" + "00" * 20),
        to=_bytes(call.get("to") or "0x"),
        data=_bytes(data),
        value=int(call.get("value", "0x0"), 16),
        gas=int(call.get("gas", hex(BLOCK_GAS)), 16),
    )


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _hex(data: bytes) -> str:
    return "0x" + bytes(data).hex()


def _word(number: int) -> str:
    return "0x" + int(number).to_bytes(32, "big").hex()


def _address(raw: bytes) -> str | None:
    return str(to_checksum_address(raw)) if raw else None


def _block(mined: Mined, is_full: bool) -> dict[str, Json]:
    header = mined.header
    held: list[Json] = []
    if mined.transaction is not None:
        held = [_transaction(mined) if is_full else _hex(mined.transaction.hash)]
    return {
        "number": hex(mined.number),
        "hash": _hex(header.hash),
        "parentHash": _hex(header.parent_hash),
        "nonce": _hex(header.nonce),
        "sha3Uncles": _hex(header.uncles_hash),
        "logsBloom": "0x" + int(header.bloom).to_bytes(256, "big").hex(),
        "transactionsRoot": _hex(header.transaction_root),
        "stateRoot": _hex(header.state_root),
        "receiptsRoot": _hex(header.receipt_root),
        "miner": _address(header.coinbase),
        "difficulty": "0x0",
        "extraData": _hex(header.extra_data),
        "mixHash": _hex(header.mix_hash),
        "size": hex(600 + len(mined.raw)),
        "gasLimit": hex(header.gas_limit),
        "gasUsed": hex(header.gas_used),
        "timestamp": hex(header.timestamp),
        "baseFeePerGas": hex(header.base_fee_per_gas),
        "transactions": held,
        "uncles": [],
    }


def _transaction(mined: Mined) -> dict[str, Json]:
    tx = mined.transaction
    assert tx is not None
    return {
        "hash": _hex(tx.hash),
        "type": hex(getattr(tx, "type_id", None) or 0),
        "nonce": hex(tx.nonce),
        "blockHash": _hex(mined.header.hash),
        "blockNumber": hex(mined.number),
        "transactionIndex": "0x0",
        "from": _address(tx.sender),
        "to": _address(tx.to),
        "value": hex(tx.value),
        "gas": hex(tx.gas),
        "gasPrice": hex(tx.max_fee_per_gas if hasattr(tx, "max_fee_per_gas") else tx.gas_price),
        "input": _hex(tx.data),
        "chainId": hex(CHAIN_ID),
    }


def _log_list(mined: Mined) -> list[dict[str, Json]]:
    if mined.receipt is None or mined.transaction is None:
        return []
    return [
        {
            "address": _address(log.address),
            "topics": [_word(topic) for topic in log.topics],
            "data": _hex(log.data),
            "blockHash": _hex(mined.header.hash),
            "blockNumber": hex(mined.number),
            "transactionHash": _hex(mined.transaction.hash),
            "transactionIndex": "0x0",
            "logIndex": hex(index),
            "removed": False,
        }
        for index, log in enumerate(mined.receipt.logs)
    ]


def _receipt(mined: Mined) -> dict[str, Json]:
    tx, receipt = mined.transaction, mined.receipt
    assert tx is not None
    assert receipt is not None
    created = mined.created_address
    return {
        "transactionHash": _hex(tx.hash),
        "transactionIndex": "0x0",
        "blockHash": _hex(mined.header.hash),
        "blockNumber": hex(mined.number),
        "from": _address(tx.sender),
        "to": _address(tx.to),
        "contractAddress": None if created is None else _address(created),
        "cumulativeGasUsed": hex(receipt.gas_used),
        "gasUsed": hex(receipt.gas_used),
        "effectiveGasPrice": hex(mined.header.base_fee_per_gas),
        "logs": _log_list(mined),
        "logsBloom": "0x" + int(receipt.bloom).to_bytes(256, "big").hex(),
        "type": hex(getattr(tx, "type_id", None) or 0),
        "status": "0x1" if receipt.state_root == b"\x01" else "0x0",
    }
