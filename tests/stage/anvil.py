"""A real anvil process for the tests of what an in-process chain cannot do: re-organisations, a pool
of waiting transactions, dying and coming back. And a proxy between a client and its node that drops answers.
"""

import http.client
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import Web3

from ledger.node import Node
from tests.stage.waiting import started

LOCAL = Path(__file__).parents[2] / "contracts" / "node_modules" / ".bin" / "anvil"
KEYS = (
    "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
)
"""Of the accounts that every anvil funds."""


def executable() -> str | None:
    """Return where anvil is, or None."""
    return str(LOCAL) if LOCAL.exists() else shutil.which("anvil")


needs_anvil = pytest.mark.skipif(
    executable() is None,
    reason="needs anvil: `make contracts/node_modules/.ready`, or Foundry on PATH",
)


class Anvil:
    """One anvil process. `restart` kills it and starts it again on the same port and state."""

    def __init__(self, *options: str, state: Path | None = None) -> None:
        self._options = [*options, *(["--state", str(state)] if state else [])]
        self.port = 0
        self.start()

    def start(self) -> None:
        program = executable()
        assert program is not None
        # npm's anvil is a script around the real one: end both.
        self._running = started(
            [program, "--port", str(self.port), *self._options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._process = self._running.__enter__()
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("Listening on"):
                self.port = int(line.rsplit(":", 1)[1])
                break
        else:
            raise AssertionError("anvil ended before it listened")
        threading.Thread(target=self._process.stdout.read, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def w3(self) -> Web3:
        return self.rpc.w3

    @property
    def rpc(self) -> Node:
        """The node as the ledger asks it."""
        return Node.at(self.url, timeout_seconds=20.0)

    def ask(self, method: str, *params: Any) -> Any:
        """Call one of anvil's own methods."""
        answer = self.w3.provider.make_request(method, list(params))
        assert "error" not in answer, answer
        return answer["result"]

    def end(self, by: signal.Signals = signal.SIGINT) -> None:
        """End it; SIGINT lets it write its state first."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, by)
        self._process.wait()
        self._running.__exit__(None, None, None)


@contextmanager
def anvil(*options: str, state: Path | None = None) -> Iterator[Anvil]:
    """Run anvil for the length of a `with`."""
    node = Anvil(*options, state=state)
    try:
        yield node
    finally:
        node.end(signal.SIGKILL)


def rich(number: int = 0) -> LocalAccount:
    """Return one of the accounts that anvil funds."""
    return Account.from_key(KEYS[number])


class Lossy(ThreadingHTTPServer):
    """A proxy that passes every request on, and drops the connection instead of some answers.

    `lost[method]` answers of that method are still to be dropped: the node has acted on the request.
    """

    daemon_threads = True

    def __init__(self, node_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Dropping)
        self.node_port = node_port
        self.lost: dict[str, int] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Dropping(BaseHTTPRequestHandler):
    server: Lossy
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        node = http.client.HTTPConnection("127.0.0.1", self.server.node_port, timeout=60)
        node.request("POST", "/", body, {"content-type": "application/json"})
        answer = node.getresponse().read()
        node.close()
        method = next((name for name in list(self.server.lost) if name.encode() in body), "")
        self.server.asked.append(method)
        if self.server.lost.get(method, 0) > 0:
            self.server.lost[method] -= 1
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def lossy(node: Anvil) -> Iterator[Lossy]:
    """Serve a proxy in front of `node`."""
    proxy = Lossy(node.port)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
