"""The pace of answers, kept on the connection itself: a byte within each timeout would hold a client for ever.

httpx has a timeout for each read and none for all of them, so a head that drips has no end.
"""

import time
from typing import Any

import httpcore
import httpx

GRACE_SECONDS = 30.0
SLOWEST_BYTES_PER_SECOND = 512
"""An answer that has come slower than this after its grace is lost: a byte a second would hold its reader
for ever."""


def paced(client: httpx.Client) -> httpx.Client:
    """Return the client, its answers held to the pace.

    httpx has no public way to the connections under a transport that is also a proxy's.
    """
    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx.HTTPTransport):
            pool = transport._pool
            pool._network_backend = PacedBackend(pool._network_backend)
    return client


class PacedBackend(httpcore.NetworkBackend):
    """Opens connections that are paced."""

    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        self._backend = backend

    def connect_tcp(self, *where: Any, **how: Any) -> httpcore.NetworkStream:
        return PacedStream(self._backend.connect_tcp(*where, **how))


class PacedStream(httpcore.NetworkStream):
    """A connection whose answers have a pace, each from its first byte on."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream
        self._began: float | None = None
        self._received = 0

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read; without a timeout, as events are, silence is no loss once an answer began."""
        within = timeout if timeout is not None or self._began is not None else GRACE_SECONDS
        data = self._stream.read(max_bytes, within)
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        self._received += len(data)
        seconds = now - self._began
        if (
            timeout is not None
            and self._received < (seconds - GRACE_SECONDS) * SLOWEST_BYTES_PER_SECOND
        ):
            raise httpcore.ReadTimeout(f"only {self._received} bytes in {seconds:.0f} s")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._began, self._received = None, 0
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, *how: Any, **more: Any) -> httpcore.NetworkStream:
        return PacedStream(self._stream.start_tls(*how, **more))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
