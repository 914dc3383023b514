"""The event stream: what a person watching a run would ask about, in order, with a cursor.

Kinds: lease, submission, verdict (once a group is decided), exclusion, odd_one_out, vote_lost,
canary_committed, canary_opened, batch, policy, epoch_posted, epoch_final, slash_proposed, slashed.
Kept in a capped Redis stream; the stream id is the SSE event id, so a reader that lost the connection
goes on where it was.
"""

from collections import Counter
from collections.abc import AsyncIterator

from orchestrator.store.store import Store
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


async def follow(store: Store, run_id: int, *, after: str) -> AsyncIterator[bytes]:
    """Yield server-sent events after a stream id, and a comment while there are none."""
    while True:
        try:
            found = await store.events.after(
                run_id, after, most=PAGE, wait_milliseconds=BLOCK_MILLISECONDS
            )
        except Busy:
            return  # the headers are sent: end the stream, and the reader comes back with its cursor
        if not found:
            yield b": waiting\n\n"
        for event_id, fields in found:
            after, kind = event_id, fields[b"kind"]
            yield b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id.encode(), kind, fields[b"body"])
