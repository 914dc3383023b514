"""Connections as they are held: no more than there are descriptors for, few for one network address, and
none that keeps this process waiting: for a head, for the rest of a body, for its answer to be read.

uvicorn waits for each of these as long as its peer likes, and counts nobody's connections.
"""

import asyncio
import resource
from collections.abc import Iterable
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from orchestrator.budgets import block_of
from orchestrator.config import Limits
from protocol.user_error import UserError

RESERVED_FILES = 128
"""Descriptors for what no stranger opens: Redis (one for each event stream), the chain, blobs, scorers."""
AT_A_TIME = RESERVED_FILES // 4
"""Connections accepted in one round of the event loop: one that has to leave is closed three rounds later."""
QUEUE = 2048
"""Connections that may wait to be accepted."""
MOST_HEAD_BYTES = 1 << 16
"""Bytes of a head or of a chunked body's trailers, and of what may come without completing either."""
MOST_HEAD_LINES = 256
"""Each costs a hundred times its bytes."""
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def settings(limits: Limits) -> dict[str, Any]:
    """Return what uvicorn is told about connections.

    A web socket would leave this protocol and its limits. What is not an error is not logged: strangers'
    nonsense would fill the log.
    """
    spoken = {"http": limited(limits), "ws": "none", "backlog": AT_A_TIME}
    return spoken | {"log_level": "error", "access_log": False}


def queue_up(listening: Iterable[Any]) -> None:
    """Let more connections wait in the system than are accepted at a time: asyncio takes both by one number."""
    for listener in listening:
        with listener.dup() as same:
            same.listen(QUEUE)


def most_connections(limits: Limits) -> int:
    """Return how many connections this process may hold, having asked for the descriptors they take."""
    wanted = limits.max_connections + RESERVED_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return limits.max_connections
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft <= RESERVED_FILES:
        raise UserError(
            f"this process may open {soft} files and needs {RESERVED_FILES} besides its connections: "
            "raise the limit, such as by `ulimit -n 1024`"
        )
    return soft - RESERVED_FILES


class Holder(Protocol):
    """A connection, as places are given and taken."""

    block: str
    transport: asyncio.Transport
    since: float
    """When what it waits for, or is asked, began."""

    @property
    def is_waiting(self) -> bool:
        """Whether its peer has not sent all of a request."""
        ...


class Places:
    """The places for connections: some in all, fewer for one network address.

    When all are taken, whoever has most gives one up. A connection over which nothing whole has come is
    closed before one that is being answered, and before a newcomer is.
    """

    def __init__(self, most: int, most_per_address: int) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._held: dict[str, dict[Holder, None]] = {}
        self._num = 0

    def open(self, new: Holder) -> Holder | None:
        """Take a place; return who has to leave for that: somebody, nobody, or the newcomer itself."""
        own = self._held.setdefault(new.block, {})
        own[new] = None
        self._num += 1
        if len(own) > self._most_per_address:
            crowd = own
        elif self._num > self._most:
            crowd = max(self._held.values(), key=len)
        else:
            return None
        leaving = self._longest_waiting(holder for holder in crowd if holder is not new)
        if leaving is None:
            leaving = new if crowd is own else next(iter(crowd))
        self.close(leaving)
        return leaving

    def close(self, holder: Holder) -> None:
        """Give a place back; one that was taken away is back already."""
        own = self._held.get(holder.block, {})
        if holder in own:
            self._num -= 1
            del own[holder]
            if not own:
                del self._held[holder.block]

    @staticmethod
    def _longest_waiting(holders: Iterable[Holder]) -> Holder | None:
        waiting = (holder for holder in holders if holder.is_waiting)
        return min(waiting, key=lambda holder: holder.since, default=None)


def limited(limits: Limits) -> type[asyncio.Protocol]:
    """Return the protocol that one server speaks over each of its connections."""
    places = Places(most_connections(limits), limits.max_connections_per_address)

    class Limited(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.block = block_of(self.client[0] if self.client else "unknown")
            self._timer: asyncio.TimerHandle | None = None
            self._is_sending = False
            self._has_parsed = False
            self._num_unparsed = 0
            self._head_bytes = self._head_lines = 0
            self._wait()
            leaving = places.open(self)
            if leaving is not None:
                leaving.transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            places.close(self)
            self._stop_timer()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            self._has_parsed = False
            super().data_received(data)
            self._num_unparsed = 0 if self._has_parsed else self._num_unparsed + len(data)
            if self._num_unparsed > MOST_HEAD_BYTES:
                self._refuse_head()

        def send_400_response(self, msg: str) -> None:
            if self._is_head_too_large:
                self._refuse_head()
            else:
                super().send_400_response(msg)

        def on_message_begin(self) -> None:
            self._head_bytes = self._head_lines = 0
            super().on_message_begin()

        def on_url(self, url: bytes) -> None:
            self._count_head(len(url), 0)
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._count_head(len(name) + len(value), 1)
            super().on_header(name, value)

        def _count_head(self, num_bytes: int, num_lines: int) -> None:
            """End the parser at what is too much: a head that comes in one piece is never unparsed."""
            self._head_bytes += num_bytes
            self._head_lines += num_lines
            if self._is_head_too_large:
                raise ValueError("the head is too large")

        @property
        def _is_head_too_large(self) -> bool:
            return self._head_bytes > MOST_HEAD_BYTES or self._head_lines > MOST_HEAD_LINES

        def _refuse_head(self) -> None:
            if self._is_asked:  # another answer is on its way
                self.transport.abort()
            else:
                self.transport.write(TOO_LARGE)
                self.transport.close()

        def on_headers_complete(self) -> None:
            super().on_headers_complete()
            self._has_parsed = self._is_sending = True
            self._wait()

        def on_body(self, body: bytes) -> None:
            self._has_parsed = True
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._has_parsed, self._is_sending = True, False
            super().on_message_complete()
            self._wait()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._wait()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._wait()

        def resume_writing(self) -> None:
            super().resume_writing()
            self._wait()

        @property
        def _is_asked(self) -> bool:
            """Whether an answer is due, or on its way."""
            return self.cycle is not None and not self.cycle.response_complete

        @property
        def is_waiting(self) -> bool:
            return self._is_sending or not self._is_asked

        def _wait(self) -> None:
            """Say from now on how long the peer may take for what it owes next."""
            self._stop_timer()
            self.since = self.loop.time()
            if self.flow.write_paused:
                seconds = limits.read_seconds
            elif self._is_asked:
                return  # a body that is read has its time by whoever reads it
            else:
                seconds = limits.body_seconds if self._is_sending else limits.head_seconds
            self._timer = self.loop.call_later(seconds, self.transport.abort)

        def _stop_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()

    return Limited
