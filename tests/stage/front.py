"""A place's public routes and its chain, each on a loopback port: what processes of their own talk to."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from devchain.server import DevChainServer
from tests.stage.place import HOST, Place


class Front(ThreadingHTTPServer):
    """The place's public routes on a loopback port."""

    daemon_threads = True

    def __init__(self, place: Place) -> None:
        self.place = place
        super().__init__(("127.0.0.1", 0), _Forward)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Forward(BaseHTTPRequestHandler):
    server: Front

    def do_GET(self) -> None:
        answer = self.server.place.client.get(self.path, headers={"host": HOST})
        self.send_response(answer.status_code)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""


@contextmanager
def serving(place: Place) -> Iterator[tuple[Front, DevChainServer]]:
    """Serve both until the end of a `with`."""
    front = Front(place)
    chain = DevChainServer(place.ground.w3.provider.rpc, 0)
    for server in (front, chain):
        Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield front, chain
    finally:
        for server in (front, chain):
            server.shutdown()
            server.server_close()
