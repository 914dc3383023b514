"""An answer that drips, on a real line: its head, its body, or its first byte that never comes."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpcore
import httpx
import pytest
from httpcore._backends.sync import SyncStream

from client import pace
from client.connection import Connection
from client.pace import PacedBackend, PacedStream
from client.public import PublicRoutes
from client.retry import Patience, RetryConfig, Unreachable
from protocol.messages import RunList

EMPTY = RunList(runs=()).to_json()
AT_ONCE = Patience(silent_seconds=0.0, faltering_seconds=0.0)
FAST = RetryConfig(first_seconds=0.01, most_seconds=0.02)
DRIPS = 60
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
LENGTH = b"content-length: %d\r\n" % (len(EMPTY) + DRIPS)
ANSWERS = {
    "head": (HEAD + b"x: ", b"\r\n" + LENGTH + b"\r\n" + EMPTY + b" " * DRIPS),
    "body": (HEAD + LENGTH + b"\r\n", EMPTY),
}


@contextmanager
def dripping(first: bytes, last: bytes, num_drips: int = DRIPS) -> Iterator[str]:
    """Serve an answer whose middle comes a space at a time, never silent for long."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection, suppress(OSError):
                        connection.recv(65536)
                        connection.sendall(first)
                        for _ in range(num_drips):
                            over.wait(0.02)
                            connection.sendall(b" ")
                        connection.sendall(last)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def ask(url: str) -> None:
    with PublicRoutes(Connection(url, patience=AT_ONCE, retry=FAST)) as routes:
        assert tuple(routes.runs()) == ()


@pytest.mark.parametrize("part", ANSWERS)
def test_an_answer_that_drips_is_lost(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "GRACE_SECONDS", 0.3)
    with dripping(*ANSWERS[part]) as url:
        with pytest.raises(Unreachable, match=r"only \d+ bytes in \d s"):
            ask(url)
        with monkeypatch.context() as without:
            without.setattr("client.connection.paced", lambda client: client)
            ask(url)


def test_a_slow_answer_within_the_pace_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "GRACE_SECONDS", 0.3)
    monkeypatch.setattr(pace, "SLOWEST_BYTES_PER_SECOND", 5)
    with dripping(*ANSWERS["head"]) as url:
        ask(url)


def test_events_may_be_silent_once_their_answer_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "GRACE_SECONDS", 0.1)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream = PacedStream(SyncStream(ours))
        stream.write(b"GET")
        with pytest.raises(httpcore.ReadTimeout):
            stream.read(10)
        theirs.sendall(b"HTTP")
        assert stream.read(10) == b"HTTP"
        later = threading.Timer(0.5, theirs.sendall, [b"x"])
        later.start()
        assert stream.read(10) == b"x"
        later.join()


def test_what_goes_through_a_proxy_is_paced_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    connection = Connection("https://market.test")
    client = connection._http
    transports = [client._transport, *client._mounts.values()]
    pools = [t._pool for t in transports if isinstance(t, httpx.HTTPTransport)]
    assert len(pools) >= 3
    assert all(isinstance(pool._network_backend, PacedBackend) for pool in pools)
    connection.close()
