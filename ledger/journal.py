"""The events a watcher has read, kept on disk beside its cursor, so that a restart forgets nothing.

One JSON line per event. Lines are written before the cursor moves, so a crash between the two reads a
block again and loses none. Blocks that the chain takes back take their lines with them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ledger.errors import BlocksRemoved
from ledger.events import LedgerEvent, LogCursor
from local.files import UNREADABLE, append, flush, tell_damaged, write_whole


class Journal:
    """Events in the order of the chain.

    Example:
        journal = Journal(ledger.events(path=folder / "cursor.json"), folder / "events.jsonl")
        while True: react(journal.refresh())
    """

    def __init__(self, cursor: LogCursor, path: Path) -> None:
        self._cursor = cursor
        self._path = path
        self.events = self._kept()
        self.num_reorganisations = 0
        self._write()

    def refresh(self) -> bool:
        """Read what is new; return whether anything is. Raises as `LogCursor.poll` does."""
        changed = False
        while True:
            try:
                new = self._cursor.poll()
            except BlocksRemoved as removed:
                self._forget(removed.first)
                self.num_reorganisations += 1
                changed = True
                continue
            break
        if self.events and new and new[0].block <= self.events[-1].block:
            # A crash came between the lines and the cursor: these were read before.
            self._forget(new[0].block)
        if new:
            append(self._path, "".join(map(_line, new)).encode())
            flush(self._path)
            self.events += new
        self._cursor.commit(len(self.events))
        return changed or bool(new)

    def _forget(self, first: int) -> None:
        self.events = [event for event in self.events if event.block < first]
        self._write()

    def _write(self) -> None:
        write_whole(self._path, "".join(map(_line, self.events)))

    def _kept(self) -> list[LedgerEvent]:
        """Return the events of earlier lives; where some cannot be read, none, and the cursor starts again."""
        # A crash while writing leaves at most half a line, whose event the cursor has not passed.
        try:
            text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
            events = [_event(json.loads(line)) for line in text.split("\n")[:-1]]
            if len(events) < self._cursor.num_events:
                raise ValueError(f"{len(events)} of {self._cursor.num_events} events are in it")
        except UNREADABLE as error:
            tell_damaged(self._path, error, "all events are read from the chain again")
            self._cursor.restart()
            return []
        return events


def _line(event: LedgerEvent) -> str:
    fields = {
        "name": event.name,
        "values": _packed(event.values),
        "address": event.address,
        "block": event.block,
        "log_index": event.log_index,
        "transaction_hash": event.transaction_hash,
    }
    return json.dumps(fields, separators=(",", ":")) + "\n"


def _event(fields: dict[str, Any]) -> LedgerEvent:
    return LedgerEvent(**{**fields, "values": _unpacked(fields["values"])})


def _packed(value: Any) -> Any:
    """Write bytes, which JSON lacks, as an object of one key. Integers keep all their digits."""
    if isinstance(value, bytes):
        return {"0x": value.hex()}
    if isinstance(value, Mapping):
        return {"{}": {key: _packed(item) for key, item in value.items()}}
    if isinstance(value, (list, tuple)):
        return [_packed(item) for item in value]
    return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, dict):
        if "0x" in value:
            return bytes.fromhex(value["0x"])
        return {key: _unpacked(item) for key, item in value["{}"].items()}
    return [_unpacked(item) for item in value] if isinstance(value, list) else value
