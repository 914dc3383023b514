"""The event stream: what a person watching a run would ask about, in order, with a cursor.

Kinds: lease, submission, verdict (once a group is decided), exclusion, odd_one_out, vote_lost,
canary_committed, canary_opened, batch, policy, epoch_posted, epoch_final, slash_proposed, slashed.
Kept in a capped Redis stream; the stream id is the SSE event id, so a reader that lost the connection
goes on where it was.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping

from orchestrator.store import keys
from orchestrator.store.queue import Queue
from protocol.errors import Busy, TooManyRequests

FIRST = "0-0"
BLOCK_MILLISECONDS = 5_000
PAGE = 500


class Streams:
    """The places for event streams: some in all, fewer for one network address."""

    def __init__(self, most: int, most_per_address: int) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._open: Counter[str] = Counter()

    def open(self, address: str) -> None:
        """Take a place; raise `TooManyRequests` where there is none."""
        if self._open.total() >= self._most or self._open[address] >= self._most_per_address:
            raise TooManyRequests("all event streams are taken", retry_after_seconds=5.0)
        self._open[address] += 1

    def close(self, address: str) -> None:
        """Give a place back."""
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]


def event_body(run_id: int, kind: str, at: float, fields: Mapping[str, object]) -> str:
    """Return the JSON of an `Event`; fields are ours, so it is written without validation."""
    return json.dumps(
        {"kind": kind, "at": round(at, 3), "run_id": run_id, "fields": dict(fields)},
        separators=(",", ":"),
    )


async def follow(queue: Queue, run_id: int, *, after: str) -> AsyncIterator[bytes]:
    """Yield server-sent events after a stream id, and a comment while there are none."""
    key = keys.run_prefix(run_id) + "events"
    while True:
        try:
            answer = await queue.call(
                *("XREAD", "COUNT", PAGE, "BLOCK", BLOCK_MILLISECONDS, "STREAMS", key, after)
            )
        except Busy:
            return  # the headers are sent: end the stream, and the reader comes back with its cursor
        if not answer:
            yield b": waiting\n\n"
            continue
        for event_id, fields in _entries(answer):
            after = event_id.decode()
            kind = fields[b"kind"]
            yield b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id, kind, fields[b"body"])


def _entries(answer: object) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """Flatten XREAD's answer, in whichever of the client library's shapes it came."""
    streams = answer.items() if isinstance(answer, dict) else answer
    found: list[tuple[bytes, dict[bytes, bytes]]] = []
    for _, entries in streams:  # type: ignore[attr-defined]
        pages = entries if entries and isinstance(entries[0], tuple) else entries[0]
        for event_id, fields in pages:
            pairs = fields if isinstance(fields, dict) else _pairs(fields)
            found.append((event_id, pairs))
    return found


def _pairs(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
