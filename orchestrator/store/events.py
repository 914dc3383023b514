"""A run's event stream, capped, with a cursor."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.store import keys
from orchestrator.store.queue import Queue


@dataclass(frozen=True, slots=True)
class EventStore:
    queue: Queue

    async def append(self, run_id: int, kind: str, event: str) -> None:
        await self.queue.call(*event_command(run_id, kind, event))

    async def after(
        self, run_id: int, cursor: str, *, most: int, wait_milliseconds: int
    ) -> list[tuple[str, dict[bytes, bytes]]]:
        """Return events after a cursor, each with its own; wait for one where there is none."""
        stream = keys.run_prefix(run_id) + "events"
        answer = await self.queue.call(
            *("XREAD", "COUNT", most, "BLOCK", wait_milliseconds, "STREAMS", stream, cursor)
        )
        return _entries(answer) if answer else []


def event_body(run_id: int, kind: str, at: float, fields: Mapping[str, object]) -> str:
    """Return the JSON of an `Event`; fields are ours, so it is written without validation."""
    return json.dumps(
        {"kind": kind, "at": round(at, 3), "run_id": run_id, "fields": dict(fields)},
        separators=(",", ":"),
    )


def event_command(run_id: int, kind: str, event: str) -> tuple[str | int, ...]:
    stream = keys.run_prefix(run_id) + "events"
    most = keys.NUM_EVENTS_KEPT
    return ("XADD", stream, "MAXLEN", "~", most, "*", "kind", kind, "body", event)


def _entries(answer: object) -> list[tuple[str, dict[bytes, bytes]]]:
    """Flatten XREAD's answer, in whichever of the client library's shapes it came."""
    streams = answer.items() if isinstance(answer, dict) else answer
    found: list[tuple[str, dict[bytes, bytes]]] = []
    for _, entries in streams:  # type: ignore[attr-defined]
        pages = entries if entries and isinstance(entries[0], tuple) else entries[0]
        for event_id, fields in pages:
            pairs = fields if isinstance(fields, dict) else _pairs(fields)
            found.append((event_id.decode(), pairs))
    return found


def _pairs(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
