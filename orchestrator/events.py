"""The event stream: what a person watching a run would ask about, in order, with a cursor.

Kinds: lease, submission, verdict (once a group is decided), exclusion, odd_one_out, vote_lost,
canary_committed, canary_opened, batch, policy, epoch_posted, epoch_final, slash_proposed, slashed.
Kept in a capped Redis stream; the stream id is the SSE event id, so a reader that lost the connection
goes on where it was.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from orchestrator.store.store import Store
from protocol.errors import Busy, TooManyRequests

FIRST = "0-0"
BLOCK_MILLISECONDS = 5_000
PAGE = 500


@dataclass(slots=True, eq=False)
class StreamPlace:
    """A place that a network address has; over once another took it."""

    address: str
    is_over: bool = False


class Streams:
    """The places for event streams: some in all, fewer for one network address.

    When all are taken, the address with the most gives one to an address with fewer: a few addresses cannot
    keep all others from watching.
    """

    def __init__(self, most: int, most_per_address: int) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._open: dict[str, list[StreamPlace]] = {}

    def open(self, address: str) -> StreamPlace:
        """Take a place; raise `TooManyRequests` where there is none."""
        num_own = len(self._open.get(address, ()))
        if num_own >= self._most_per_address:
            raise TooManyRequests("all event streams are taken", retry_after_seconds=5.0)
        if sum(map(len, self._open.values())) >= self._most:
            largest = max(self._open.values(), key=len)
            if len(largest) <= num_own + 1:
                raise TooManyRequests("all event streams are taken", retry_after_seconds=5.0)
            self.close(largest[0])
        place = StreamPlace(address)
        self._open.setdefault(address, []).append(place)
        return place

    def close(self, place: StreamPlace) -> None:
        """Give a place back; one that is over is back already."""
        if not place.is_over:
            place.is_over = True
            self._open[place.address].remove(place)
            if not self._open[place.address]:
                del self._open[place.address]


async def follow(
    store: Store, run_id: int, *, after: str, place: StreamPlace
) -> AsyncIterator[bytes]:
    """Yield server-sent events after a stream id, and a comment while there are none, until the place is over."""
    while not place.is_over:
        try:
            found = await store.events.after(
                run_id, after, most=PAGE, wait_milliseconds=BLOCK_MILLISECONDS
            )
        except Busy:
            return  # the headers are sent: end the stream, and the reader comes back with its cursor
        # In one piece: between pieces nobody would notice that the reader has gone.
        yield b"".join(_written(*event) for event in found) if found else b": waiting\n\n"
        after = found[-1][0] if found else after


def _written(event_id: str, fields: Mapping[bytes, bytes]) -> bytes:
    kind, body = fields[b"kind"], fields[b"body"]
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id.encode(), kind, body)
