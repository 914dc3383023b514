"""Ask a node, whoever runs it: the one place with patience, and the one that reads what libraries raise.

Every question goes through `Patient`: it asks again where `answers.py` says that this helps, a bounded time, and
tells of it. `Node` is what the ledger asks. What it raises is a `LedgerError`, whatever the node answers.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import structlog
from eth_abi.exceptions import DecodingError
from web3 import HTTPProvider, Web3
from web3.exceptions import BadFunctionCallOutput, TransactionNotFound, Web3Exception
from web3.providers import BaseProvider

from ledger.answers import LOST, Kind, Trouble, trouble_in, trouble_of
from ledger.artifact import artifact
from ledger.errors import (
    ChainUnreachable,
    LedgerError,
    NodeLimits,
    NodeRefused,
    TransactionFailed,
    decode_error,
)
from ledger.ranges import Span
from local.voice import Rarely
from protocol.user_error import hosts_only

NONSENSE = (
    *(Web3Exception, DecodingError, ValueError, TypeError),
    *(LookupError, AttributeError, ArithmeticError),
)
"""What reading an answer raises if it is not what was asked for."""
LOG = (
    *("address", "data", "blockNumber", "logIndex"),
    *("transactionHash", "transactionIndex", "blockHash"),
)
DOES = {
    Kind.LIMITED: "limits how often it is asked",
    Kind.SILENT: "does not answer",
    Kind.PASSING: "is behind or busy",
}
CONTRACTS_KEPT = 64
"""Of one node: a deployment's, and the tokens of runs."""
TELL_AFTER = 2.0
"""Seconds of silence that nobody may wait through without a word."""
TOLD_AGAIN = 300.0
"""Seconds until the same trouble of a node is told again."""


@dataclass(frozen=True, slots=True)
class Patience:
    """For how many seconds the same is asked again, by what the trouble is; and how often at least."""

    silent: float = 2.0
    limited: float = 60.0
    passing: float = 3.0
    tries: int = 5
    first: float = 0.1
    longest: float = 8.0

    def pause(self, trouble: Trouble, tries: int, elapsed: float) -> float | None:
        """Return how long to wait before the next try, None to give up."""
        match trouble.kind:
            case Kind.LIMITED:
                seconds = self.limited
            case Kind.SILENT:
                seconds = self.silent
            case Kind.PASSING:
                seconds = self.passing
            case Kind.REFUSED:
                return None
        wait = max(trouble.retry_after, min(self.longest, self.first * 2 ** (tries - 1)))
        is_late = elapsed + wait > seconds and tries >= self.tries
        return None if is_late or trouble.retry_after > seconds else wait


ONCE = Patience(silent=0, limited=0, passing=0, tries=1)


@dataclass(slots=True)
class Traits:
    """What is known of a node, shared by all who ask it in this process."""

    host: str
    tell: Callable[[str], None]
    span: Span = field(default_factory=Span)
    is_legacy: bool | None = None
    """Whether it takes fees of before EIP-1559 alone; None: not looked."""
    num_limited: int = 0
    _rarely: Rarely = field(default_factory=lambda: Rarely(again=TOLD_AGAIN))

    def met(self, trouble: Trouble, pause: float) -> None:
        """Count it, and tell it: the first at once, then rarely."""
        self.num_limited += trouble.kind is Kind.LIMITED
        if self._rarely.due(trouble.kind.name) is not None:
            what = f"{DOES[trouble.kind]} ({trouble.text})"
            self.tell(f"the node {self.host} {what}: trying again in {pause:.1f} s")

    def limits(self) -> list[str]:
        """Return in words what the node does not give."""
        found = []
        if self.num_limited:
            found.append(f"limits how often it is asked ({self.num_limited} times refused)")
        if self.span.is_limited:
            found.append(f"gives events of {self.span.size} blocks at a time")
        if self.is_legacy:
            found.append("has no fees of EIP-1559")
        return found


class Patient(BaseProvider):
    """A transport that asks the same again; whatever has no result is raised as a `LedgerError`."""

    def __init__(self, transport: BaseProvider, patience: Patience, traits: Traits) -> None:
        super().__init__()
        self.transport = transport
        self.patience = patience
        self.traits = traits

    def make_request(self, method: Any, params: Any) -> Any:
        began, may_have_left = time.monotonic(), False
        met: Counter[Kind] = Counter()  # one trouble spends no other's patience
        while True:
            cause = None
            try:
                answer: Any = self.transport.make_request(method, params)
                trouble = trouble_in(answer, method)
            except LOST as error:
                cause = error
                trouble = trouble_of(error, method, time.time())
                may_have_left |= trouble.may_have_left
            if trouble is None:
                # web3 would refuse an answer with another id, or with an error of null beside its result.
                return {"jsonrpc": "2.0", "id": 1, "result": answer["result"]}
            met[trouble.kind] += 1
            tries = met[trouble.kind]
            pause = self.patience.pause(trouble, tries, time.monotonic() - began)
            if pause is None:
                raise self._failure(method, trouble, may_have_left) from cause
            # A short silence that lasts is told by the error that ends it.
            is_long = time.monotonic() - began >= TELL_AFTER or tries >= self.patience.tries
            if trouble.kind is Kind.LIMITED or is_long:
                self.traits.met(trouble, pause)
            # Several that were refused together must not come back together.
            time.sleep(pause * random.uniform(1.0, 1.25))

    def _failure(self, method: str, trouble: Trouble, may_have_left: bool) -> LedgerError:
        host, text = self.traits.host, hosts_only(trouble.text)
        match trouble.kind:
            case Kind.LIMITED:
                self.traits.num_limited += 1
                wait = (
                    f", and says to come again in {trouble.retry_after:.0f} s"
                    if trouble.retry_after
                    else ""
                )
                return NodeLimits(
                    f"the node {host} limits how often it is asked ({text}{wait}): ask less, or take a "
                    "node that allows more",
                    may_have_left=may_have_left,
                )
            case Kind.SILENT:
                return ChainUnreachable(
                    f"no answer to {method} from the node {host}: {text}",
                    text,
                    may_have_left=may_have_left,
                )
        if trouble.data is not None:
            return decode_error(trouble.data) if len(trouble.data) >= 4 else TransactionFailed(text)
        return NodeRefused(
            f"the node {host} refuses {method}: {text}", trouble.code, may_have_left=may_have_left
        )


@dataclass(frozen=True, slots=True)
class Block:
    """What is read of a block. `base_fee` is None where the chain has no EIP-1559."""

    number: int
    digest: str
    time: int
    base_fee: int | None


@dataclass(frozen=True, slots=True)
class MinedTransaction:
    """A transaction that was mined. `logs` are as web3 reads them."""

    transaction_hash: str
    block: int
    gas_used: int
    contract_address: str | None
    logs: tuple[Any, ...]
    succeeded: bool = True


class Node:
    """A node behind any transport of web3.

    Example:
        node = Node.at("http://127.0.0.1:8545")
        node.height()
    """

    def __init__(
        self,
        transport: BaseProvider,
        *,
        patience: Patience = Patience(),
        traits: Traits | None = None,
    ) -> None:
        self.traits = traits or Traits(_host(transport), _warn)
        self._transport = transport
        self._patience = patience
        self._contract = lru_cache(CONTRACTS_KEPT)(
            lambda name, address: self.w3.eth.contract(address=address, abi=artifact(name).abi)
        )

    @classmethod
    def at(
        cls,
        url: str,
        *,
        timeout_seconds: float = 10.0,
        patience: Patience = Patience(),
        tell: Callable[[str], None] | None = None,
    ) -> "Node":
        """Return the node at an address; nothing is asked yet."""
        settings = {"timeout": timeout_seconds}
        transport = HTTPProvider(url, settings, exception_retry_configuration=None)
        return cls(transport, patience=patience, traits=Traits(_host(transport), tell or _warn))

    @cached_property
    def w3(self) -> Web3:
        """web3 on top of this patience. Its middleware asks more and takes less than is asked for here."""
        return Web3(Patient(self._transport, self._patience, self.traits), middleware=[])

    def patient(self, seconds: float) -> "Node":
        """Return the same node, waited for so long where it is silent or limits."""
        longer = replace(self._patience, silent=seconds, limited=seconds)
        return Node(self._transport, patience=longer, traits=self.traits)

    # ---------------------------------------------------------------- questions

    def ask(self, method: str, *params: Any) -> Any:
        """Return a method's bare result."""
        with self._reading(method):
            return self.w3.provider.make_request(method, list(params))["result"]

    def number(self, method: str, *params: Any, bits: int = 64) -> int:
        """Return a method's result that is a number."""
        with self._reading(method):
            result = self.ask(method, *params)
            found = int(result, 16) if isinstance(result, str) else int(result)
            if not 0 <= found < 1 << bits:
                raise ValueError
            return found

    def chain_id(self) -> int:
        return self.number("eth_chainId")

    def height(self) -> int:
        """Return the newest block's number."""
        return self.number("eth_blockNumber")

    def gas_price(self) -> int:
        """Return what a unit of gas costs now, in wei of the chain's coin."""
        return self.number("eth_gasPrice", bits=128)

    def block(self, which: int | str) -> Block | None:
        """Return a block by its number or tag, None where the node has none."""
        method = "eth_getBlockByNumber"
        try:
            found = self.ask(method, which if isinstance(which, str) else hex(which), False)
        except NodeRefused:
            return None  # a number that it does not have, in a node's words
        with self._reading(method):
            if found is None:
                return None
            fee = found.get("baseFeePerGas")
            number, at = (int(found[name], 16) for name in ("number", "timestamp"))
            digest = "0x" + bytes.fromhex(found["hash"][2:]).hex()
            return Block(number, digest, at, None if fee is None else int(fee, 16))

    def newest(self) -> Block:
        """Return the newest block."""
        block = self.block("latest")
        if block is None:
            raise ChainUnreachable(f"the node {self.traits.host} has no newest block")
        return block

    def count(self, account: str, tag: str) -> int:
        """Return the transactions an account has sent, by a block's tag."""
        return self.number("eth_getTransactionCount", account, tag)

    def balance(self, account: str) -> int:
        return self.number("eth_getBalance", account, "latest", bits=256)

    def estimate(self, transaction: Mapping[str, Any], at: int | None = None) -> int:
        """Return the gas a transaction takes, or raise its refusal; by the newest block, or by another."""
        asked = {**transaction, "data": "0x" + transaction["data"].hex(), "value": "0x0"}
        return self.number("eth_estimateGas", asked, *([] if at is None else [hex(at)]))

    def offer(self, raw: bytes) -> None:
        """Offer a signed transaction."""
        self.ask("eth_sendRawTransaction", "0x" + raw.hex())

    def knows(self, transaction_hash: bytes) -> bool:
        return self.ask("eth_getTransactionByHash", "0x" + transaction_hash.hex()) is not None

    def receipt(self, transaction_hash: bytes) -> MinedTransaction | None:
        """Return what became of a transaction, None while it has no block."""
        with self._reading("eth_getTransactionReceipt"):
            try:
                found = self.w3.eth.get_transaction_receipt(transaction_hash)
            except TransactionNotFound:
                return None
            if found["blockNumber"] is None:
                return None  # half a receipt, before its block
            return MinedTransaction(
                transaction_hash="0x" + bytes(found["transactionHash"]).hex(),
                block=int(found["blockNumber"]),
                gas_used=int(found["gasUsed"]),
                contract_address=found["contractAddress"],
                logs=tuple(_whole(log) for log in found["logs"]),
                succeeded=int(found["status"]) == 1,
            )

    def inputs(self, transaction: str) -> Iterator[bytes]:
        """Yield the call data of a transaction, then of the calls within it if the node keeps traces."""
        try:
            found = self.ask("eth_getTransactionByHash", transaction)
            with self._reading("eth_getTransactionByHash"):
                if found is None:
                    return  # re-organised away
                data = bytes.fromhex(found["input"][2:])
            yield data
            trace = self.ask("debug_traceTransaction", transaction, {"tracer": "callTracer"})
        except NodeRefused:
            return
        with self._reading("debug_traceTransaction"):
            calls = list(_inputs(trace))
        yield from calls

    # ---------------------------------------------------------------- contracts

    def contract(self, name: str, address: str) -> Any:
        """Return a contract as web3 sees it. Kept, because web3 makes a class of each function."""
        return self._contract(name, Web3.to_checksum_address(address))

    def call(self, call: Any, shape: Callable[[Any], Any] = lambda value: value) -> Any:
        """Return what a contract answers, in this shape, or raise its refusal."""
        try:
            return shape(call.call())
        except BadFunctionCallOutput as error:
            raise LedgerError(
                f"{call.address} answers nothing to {call.fn_name}: is it the deployment's chain?"
            ) from error
        except NONSENSE as error:
            raise LedgerError(
                f"{call.address} answers {call.fn_name} with what cannot be read: is it the deployment's chain?"
            ) from error

    def logs(self, first: int, last: int, addresses: list[str]) -> list[Any]:
        """Return the logs of a range of blocks, in as many questions as the node wants."""
        found: list[Any] = []
        while first <= last:
            span = self.traits.span
            end = min(last, first + span.size - 1)
            query: Any = {"fromBlock": hex(first), "toBlock": hex(end), "address": addresses}
            try:
                with self._reading("eth_getLogs"):
                    found += map(_whole, self.w3.eth.get_logs(query))
            except (NodeRefused, ChainUnreachable) as error:
                # A node that dies of the question or of its answer says nothing more than a lost connection.
                is_away = isinstance(error, ChainUnreachable) and not error.may_have_left
                if end == first or is_away:
                    raise
                self.traits.span = span.refused(end - first + 1)
                continue
            self.traits.span = span.answered(end - first + 1)
            first = end + 1
        return found

    def logs_in(self, block: str, addresses: list[str]) -> list[Any]:
        """Return the logs of the block of a digest; a machine that has not that block refuses (EIP-234).

        Asked for a range, one that is behind the others gives what it has, as if there were no more.
        """
        with self._reading("eth_getLogs"):
            query: Any = {"blockHash": block, "address": addresses}
            return [_whole(log) for log in self.w3.eth.get_logs(query)]

    @contextmanager
    def _reading(self, method: str) -> Iterator[None]:
        try:
            yield
        except NONSENSE as error:
            raise ChainUnreachable(
                f"the node {self.traits.host} answers {method} with what cannot be read: "
                f"{type(error).__name__}"
            ) from error


def _whole(log: Any) -> dict[str, Any]:
    """Return a log's fields, all of them, or raise."""
    topics = [bytes(topic) for topic in log["topics"]]
    return {**{name: log[name] for name in LOG}, "topics": topics}


def _inputs(call: Mapping[str, Any]) -> Iterator[bytes]:
    yield bytes.fromhex(call["input"][2:])
    for inner in call.get("calls", ()):
        yield from _inputs(inner)


def _host(transport: BaseProvider) -> str:
    return hosts_only(str(getattr(transport, "endpoint_uri", "") or "in this process"))


def _warn(text: str) -> None:
    structlog.get_logger().warning(text)
