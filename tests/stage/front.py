"""A place's app and its chain, each on a loopback port: what processes of their own talk to.

A front has the faults that a line or a liar has: `fault` may answer in the app's place, or break an answer off.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from devchain.server import DevChainServer
from protocol.errors import MarketError, NotFound
from protocol.messages import ErrorBody
from tests.stage.place import Place


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, by the app or in its place; the line breaks after `cut` bytes of it."""

    status: int
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]


Fault = Callable[[Asked, Answered | None], Answered | None]
"""(what is asked, the app's answer or None before it is asked) → what is answered instead, if anything."""


def no_fault(_asked: Asked, _answered: Answered | None) -> None:
    return None


def refusal(error: MarketError) -> Answered:
    body = ErrorBody(code=error.code, message=error.message)
    return Answered(error.status, body.to_json())


def blob_path(digest: bytes) -> str:
    return f"/v1/blobs/0x{digest.hex()}"


MISSING = refusal(NotFound("it was left out"))


class Front(ThreadingHTTPServer):
    """The place's app on a loopback port, what was asked of it, and what is answered in its place."""

    daemon_threads = True

    def __init__(self, place: Place) -> None:
        self.place = place
        self.requests: list[Asked] = []
        self.lies: dict[str, Answered] = {}
        """By path: what is answered whatever the app would say."""
        self.fault: Fault = no_fault
        super().__init__(("127.0.0.1", 0), _Forward)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, asked: Asked, body: bytes) -> Answered:
        self.requests.append(asked)
        early = self.fault(asked, None) or self.lies.get(asked.path)
        if early is not None:
            return early
        found = self.place.client.request(
            asked.method, asked.path, content=body, headers=dict(asked.headers)
        )
        answered = Answered(found.status_code, found.content, dict(found.headers))
        return self.fault(asked, answered) or answered


class _Forward(BaseHTTPRequestHandler):
    server: Front
    protocol_version = "HTTP/1.1"

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answered = self.server.answer(Asked(self.command, self.path, dict(self.headers)), body)
        self.send_response(answered.status)
        for name, value in answered.headers.items():
            if name.lower() not in ("content-length", "connection", "date", "server"):
                self.send_header(name, value)
        if answered.status != 204:
            self.send_header("Content-Length", str(len(answered.content)))
        self.end_headers()
        self.wfile.write(answered.content[: answered.cut])
        self.close_connection = self.close_connection or answered.cut is not None

    do_GET = do_POST = do_PUT = _forward

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""


@contextmanager
def facing(place: Place) -> Iterator[Front]:
    """Serve the app until the end of a `with`."""
    front = Front(place)
    with _running(front):
        yield front


@contextmanager
def serving(place: Place) -> Iterator[tuple[Front, DevChainServer]]:
    """Serve app and chain until the end of a `with`."""
    chain = DevChainServer(place.ground.w3.provider.rpc, 0)
    with facing(place) as front, _running(chain):
        yield front, chain


@contextmanager
def _running(server: ThreadingHTTPServer) -> Iterator[None]:
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
