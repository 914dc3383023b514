"""Read what the contracts emitted, in order, exactly once.

`LogCursor` polls `eth_getLogs` from where it stopped and stays `margin` blocks behind the head: a log it
has returned is never taken back by a shallower re-organisation. No filters: nodes forget them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from requests import RequestException
from web3 import Web3
from web3.contract.contract import ContractEvent

from contracts.artifact import artifact
from contracts.errors import CONTRACTS, ChainUnreachable
from protocol.canonical import keccak256

BLOCKS_PER_QUERY = 2_000
"""What public nodes commonly allow in one query."""


@dataclass(frozen=True, slots=True)
class Event:
    """One decoded log. `values` are the event's arguments under their Solidity names."""

    name: str
    values: dict[str, Any]
    address: str
    block: int
    log_index: int
    transaction_hash: str


def decode_events(logs: Iterable[Any]) -> list[Event]:
    """Return the events of our contracts among `logs`; others are left out."""
    found = []
    for log in logs:
        kind = _kinds().get(bytes(log["topics"][0])) if log["topics"] else None
        if kind is None:
            continue
        decoded = kind.process_log(log)
        found.append(
            Event(
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
    """Events of `addresses` from `next_block` on. Keep `next_block` to go on after a restart.

    Example:
        cursor = ledger.events(next_block=stored)
        for event in cursor.poll(): ...
        store(cursor.next_block)
    """

    def __init__(self, w3: Web3, addresses: Sequence[str], next_block: int, margin: int) -> None:
        self._w3 = w3
        self._addresses = list(addresses)
        self._margin = margin
        self.next_block = next_block

    def poll(self) -> list[Event]:
        """Return the events since the last poll, oldest first, and move on.

        Raise `ChainUnreachable` and stay where it was when the node does not answer.
        """
        try:
            return self._poll()
        except (RequestException, OSError) as error:
            raise ChainUnreachable(f"no logs from block {self.next_block} on: {error}") from error

    def _poll(self) -> list[Event]:
        last = self._w3.eth.block_number - self._margin
        events: list[Event] = []
        start = self.next_block
        while start <= last:
            end = min(last, start + BLOCKS_PER_QUERY - 1)
            events += decode_events(self._logs(start, end))
            start = end + 1
        # Moved only when every query has answered: a failure half-way repeats, and loses nothing.
        self.next_block = start
        return events

    def _logs(self, start: int, end: int) -> list[Any]:
        query: Any = {"fromBlock": start, "toBlock": end, "address": self._addresses}
        return list(self._w3.eth.get_logs(query))


@cache
def _kinds() -> dict[bytes, ContractEvent]:
    w3 = Web3()
    kinds = {}
    for name in CONTRACTS:
        contract = w3.eth.contract(abi=artifact(name).abi)
        for entry in artifact(name).abi:
            if entry["type"] == "event":
                types = ",".join(member["type"] for member in entry["inputs"])
                topic = keccak256(f"{entry['name']}({types})".encode())
                kinds[topic] = contract.events[entry["name"]]()
    return kinds
