"""What survives `kill -9`: the accepted transactions with their block times, one JSON line each.

Append-only. Replaying the lines into the same genesis gives the same blocks, which every line's hash
checks. A torn last line (the process died while writing) was never answered and is cut off.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from devchain.chain import CHAIN_ID, DevChain, Mined

FILE_NAME = "chain.jsonl"


class JournalMismatch(Exception):
    """The journal belongs to another chain, or its blocks do not come out as they were recorded."""


@dataclass(frozen=True, slots=True)
class Genesis:
    """The journal's first line."""

    chain_id: int
    time: int
    funded: list[str]


class ChainFile:
    """One chain's file. Its lines reach the kernel before a transaction is answered.

    So they survive the death of the process. Only a loss of power can take the last lines, because a
    chain for development does not wait for the disk.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / FILE_NAME
        self._file: BinaryIO | None = None

    def open(self, funded: Sequence[str], now: int) -> DevChain:
        """Return the recorded chain, or a new one whose genesis funds `funded`."""
        lines = self._complete_lines()
        if not lines:
            genesis = Genesis(CHAIN_ID, now, list(funded))
            self._append(asdict(genesis))
            return _chain_of(genesis)
        try:
            genesis = Genesis(**json.loads(lines[0]))
        except (ValueError, TypeError) as error:
            raise self._damaged(error) from error
        missing = sorted({address.lower() for address in funded} - set(_lower(genesis.funded)))
        if genesis.chain_id != CHAIN_ID or missing:
            raise JournalMismatch(
                f"{self._path} holds a chain that does not fund {missing}: "
                "start with the accounts it was made with, or remove the folder"
            )
        chain = _chain_of(genesis)
        for line in lines[1:]:
            self._replay(chain, line)
        return chain

    def record(self, mined: Mined) -> None:
        """Append one block."""
        self._append(
            {"t": mined.header.timestamp, "tx": mined.raw.hex(), "hash": mined.header.hash.hex()}
        )

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _replay(self, chain: DevChain, line: bytes) -> None:
        try:
            entry = json.loads(line)
            raw = bytes.fromhex(entry["tx"])
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(error) from error
        mined = chain.send(raw, now=entry["t"]) if raw else chain.mine_empty(now=entry["t"])
        if mined.header.hash.hex() != entry["hash"]:
            raise JournalMismatch(f"{self._path}: block {mined.number} is not the recorded one")

    def _damaged(self, error: Exception) -> JournalMismatch:
        return JournalMismatch(
            f"{self._path} is damaged ({error}), and later blocks stand on what was there: restore the file, "
            "or remove the folder to begin a new chain"
        )

    def _complete_lines(self) -> list[bytes]:
        if not self._path.exists():
            return []
        content = self._path.read_bytes()
        end = content.rfind(b"\n") + 1
        if end < len(content):
            os.truncate(self._path, end)
        return content[:end].splitlines()

    def _append(self, entry: dict[str, object]) -> None:
        if self._file is None:
            self._file = self._path.open("ab", buffering=0)
        self._file.write(json.dumps(entry).encode() + b"\n")


def _chain_of(genesis: Genesis) -> DevChain:
    funded = [bytes.fromhex(address[2:]) for address in genesis.funded]
    return DevChain(funded, genesis_time=genesis.time)


def _lower(addresses: Sequence[str]) -> list[str]:
    return [address.lower() for address in addresses]
