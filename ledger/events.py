"""Read what the contracts emitted, in order, exactly once.

`LogCursor` polls `eth_getLogs` from where it stopped to the head: a re-organisation that takes a returned
log back is noticed by the hashes of the blocks it stopped at. The newest blocks are asked for by their hashes,
which no machine of a balancer that is behind can answer for. No filters: nodes forget them.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import structlog
from eth_abi.codec import ABICodec
from eth_abi.decoding import StringDecoder
from eth_abi.exceptions import DecodingError
from eth_utils.abi import event_abi_to_log_topic
from web3 import Web3
from web3._utils.abi import build_strict_registry
from web3.contract.contract import ContractEvent
from web3.exceptions import LogTopicError, MismatchedABI

from ledger.artifact import artifact
from ledger.errors import CONTRACTS, BlocksRemoved, LedgerError
from ledger.node import Node
from local.files import UNREADABLE, tell_damaged, write_whole

APART = 4
"""The newest blocks are read each by its hash: machines behind one balancer are about so many apart, and one that
has a block not yet would leave its events out without a word."""
MARKS = 64
"""How many stops keep their hashes. After a re-organisation below them all, reading starts anew."""
UNDECODABLE = (DecodingError, LogTopicError, MismatchedABI, ValueError, OverflowError)
"""What decoding raises for a log that only looks like one of ours: a token may emit such logs."""


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """One decoded log. `values` are the event's arguments under their Solidity names."""

    name: str
    values: dict[str, Any]
    address: str
    block: int
    log_index: int
    transaction_hash: str


def decode_events(logs: Iterable[Any]) -> list[LedgerEvent]:
    """Return the events of our contracts among `logs`; others are left out.

    A log that cannot be decoded is left out too: anybody may emit one, and it must not stop readers.
    """
    found = []
    for log in logs:
        kind = _kinds().get(bytes(log["topics"][0])) if log["topics"] else None
        if kind is None:
            continue
        try:
            decoded = kind.process_log(log)
        except UNDECODABLE as error:
            where = {"address": log["address"], "block": int(log["blockNumber"])}
            structlog.get_logger().warning("log not decoded", **where, error=str(error))
            continue
        found.append(
            LedgerEvent(
                name=decoded["event"],
                values=dict(decoded["args"]),
                address=decoded["address"],
                block=int(log["blockNumber"]),
                log_index=int(log["logIndex"]),
                transaction_hash="0x" + bytes(log["transactionHash"]).hex(),
            )
        )
    return found


class LogCursor:
    """Events of `addresses` from `next_block` on, remembered in the file `path` if one is given.

    Position and block hashes are kept together: when the chain reorganises below what was returned,
    `poll` steps back and raises `BlocksRemoved` instead of going on as if nothing had happened. Only
    `commit` writes the file, so events that were polled but not dealt with come again after a crash.

    Example:
        cursor = ledger.events(path=folder / "cursor.json")
        for event in cursor.poll(): ...
        cursor.commit()
    """

    def __init__(
        self,
        node: Node,
        addresses: Sequence[str],
        next_block: int,
        path: Path | None = None,
    ) -> None:
        self._node = node
        self._addresses = list(addresses)
        self._path = path
        self._first = next_block
        self._trail: list[tuple[int, str]] = []
        self.next_block = next_block
        self.num_events = 0
        """As the file says that it was committed with."""
        if path is not None and path.exists():
            self._load(path)

    def poll(self) -> list[LedgerEvent]:
        """Return the events since the last poll, oldest first, and move on.

        If the node does not answer, raise `ChainUnreachable` and stay. If the chain took back
        blocks that were read, step back and raise `BlocksRemoved`.
        """
        while True:
            last = self._node.height()
            near = max(self.next_block, last - APART + 1)
            digests = [self._hash(number) for number in range(near, last + 1)]
            # A node may name any height; what it has no block of is not read.
            known = [digest for digest in digests if digest is not None]
            is_there = bool(digests) and len(known) == len(digests)
            logs = self._read(near, known) if is_there else []
            # Check afterwards, to notice what changed while the logs were read.
            self._require_unchanged()
            if not is_there:
                return []
            mark = known[-1]
            if self._hash(last) == mark:
                break
        # Move only when every query has answered, so that a failure half-way loses nothing.
        self.next_block = last + 1
        self._trail = [*self._trail[1 - MARKS :], (last, mark)]
        return decode_events(logs)

    def _read(self, near: int, digests: Sequence[str]) -> list[Any]:
        """Return the logs up to the block before `near`, and those of each block of these digests."""
        logs = self._node.logs(self.next_block, near - 1, self._addresses)
        for digest in digests:
            logs += self._node.logs_in(digest, self._addresses)
        return logs

    def commit(self, num_events: int = 0) -> None:
        """Write the position: what was polled has been dealt with, and so many events are on disk by now."""
        if self._path is None:
            return
        content = {
            "addresses": self._addresses,
            "next_block": self.next_block,
            "trail": self._trail,
            "num_events": num_events,
        }
        write_whole(self._path, json.dumps(content) + "\n")

    def restart(self) -> None:
        """Read from the first block on again."""
        self.next_block, self._trail, self.num_events = self._first, [], 0

    def _load(self, path: Path) -> None:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            addresses, self.num_events = content["addresses"], int(content.get("num_events", 0))
            self.next_block = int(content["next_block"])
            self._trail = [(int(number), str(digest)) for number, digest in content["trail"]]
        except UNREADABLE as error:
            tell_damaged(path, error, f"events are read anew from block {self._first} on")
            self.restart()
            return
        if addresses != self._addresses:
            raise LedgerError(f"{path} is of another deployment: remove it, or name another file")

    def _require_unchanged(self) -> None:
        last = self.next_block - 1
        while self._trail and self._hash(self._trail[-1][0]) != self._trail[-1][1]:
            self._trail.pop()
            self.next_block = self._trail[-1][0] + 1 if self._trail else self._first
        if self.next_block <= last:
            raise BlocksRemoved(self.next_block, last)

    def _hash(self, number: int) -> str | None:
        block = self._node.block(number)
        return None if block is None else block.digest


@cache
def _kinds() -> dict[bytes, ContractEvent]:
    w3 = Web3()
    w3.codec = _lenient()
    kinds = {}
    for name in CONTRACTS:
        contract = w3.eth.contract(abi=artifact(name).abi)
        for entry in artifact(name).abi:
            if entry["type"] == "event":
                kinds[bytes(event_abi_to_log_topic(entry))] = contract.events[entry["name"]]()
    return kinds


def _lenient() -> ABICodec:
    """Return web3's codec, but take strings that are not UTF-8: their emitter chooses the bytes."""
    registry = build_strict_registry()
    registry.unregister_decoder("string")
    registry.register_decoder("string", StringDecoder(handle_string_errors="replace"))
    return ABICodec(registry)
