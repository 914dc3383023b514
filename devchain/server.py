"""The HTTP front of a development chain: JSON-RPC POSTs on loopback, one thread per connection.

Answers are written in one piece with Nagle's algorithm off; otherwise header and body leave as two
packets and every request waits for a delayed acknowledgement (2-10 transactions a second).
"""

import json
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from devchain.rpc import Rpc, RpcError

MAX_BODY_BYTES = 4_000_000


class DevChainServer(ThreadingHTTPServer):
    """Serves one `Rpc`. Loopback only: any caller may spend every development account."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, rpc: Rpc, port: int) -> None:
        self.rpc = rpc
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that died while being answered; print anything else."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: DevChainServer

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_POST(self) -> None:
        """Answer one request or a batch of them."""
        declared = self.headers.get("Content-Length", "")
        length = int(declared) if declared.isdecimal() else MAX_BODY_BYTES + 1
        if length > MAX_BODY_BYTES:
            self._reply(413, {"error": f"Content-Length {declared}; at most {MAX_BODY_BYTES}"})
            self.close_connection = True
            return
        try:
            request = json.loads(self.rfile.read(length))
        except ValueError:
            self._reply(200, _failure(None, RpcError(-32700, "parse error")))
            return
        if isinstance(request, list):
            self._reply(200, [self._answer(entry) for entry in request])
        else:
            self._reply(200, self._answer(request))

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet: requests are not news."""

    def _answer(self, request: Any) -> dict[str, Any]:
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return _failure(None, RpcError(-32600, "invalid request"))
        identifier, params = request.get("id"), request.get("params") or []
        if not isinstance(params, list):
            return _failure(identifier, RpcError(-32602, "params must be a list"))
        try:
            result = self.server.rpc.answer(request["method"], params)
        except RpcError as error:
            return _failure(identifier, error)
        return {"jsonrpc": "2.0", "id": identifier, "result": result}

    def _reply(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()


def _failure(identifier: Any, error: RpcError) -> dict[str, Any]:
    content: dict[str, Any] = {"code": error.code, "message": str(error)}
    if error.data is not None:
        content["data"] = error.data
    return {"jsonrpc": "2.0", "id": identifier, "error": content}
