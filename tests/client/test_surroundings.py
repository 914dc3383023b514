"""Loopback goes through no proxy, whatever the environment says; what a child gets holds no secret."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from client.look import look
from client.retry import Unreachable
from client.surroundings import for_child, reach_loopback_directly
from ledger.errors import ChainUnreachable
from ledger.node import ONCE, Node
from rollcall.demo.services import free_port

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Answers(BaseHTTPRequestHandler):
    """Answers an orchestrator's and a chain's question alike."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"runs":[]}' if self.command == "GET" else b'{"result":"0x1"}')

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def behind_a_proxy(monkeypatch: pytest.MonkeyPatch) -> str:
    """Name a proxy that nobody runs, in every spelling."""
    proxy = f"http://127.0.0.1:{free_port()}"
    for name in PROXIES:
        monkeypatch.setenv(name, proxy)
        monkeypatch.setenv(name.lower(), proxy)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "elsewhere.example")
    return proxy


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_is_reached_directly(behind_a_proxy: str, port: int, host: str) -> None:
    url = f"http://{host}:{port}"
    with pytest.raises(Unreachable, match=f"through the proxy {behind_a_proxy}"):
        look(url)
    with pytest.raises(ChainUnreachable):
        Node.at(url, patience=ONCE).chain_id()
    reach_loopback_directly()
    assert look(url) == ()
    assert Node.at(url, patience=ONCE).chain_id() == 1


def test_other_machines_are_still_asked_through_the_proxy(behind_a_proxy: str) -> None:
    reach_loopback_directly()
    assert os.environ["NO_PROXY"].startswith("elsewhere.example,")
    with pytest.raises(Unreachable, match=f"through the proxy {behind_a_proxy}"):
        look("http://market.example:8100")
    with pytest.raises(Unreachable) as told:  # nobody listens; no proxy is named
        look("http://[::1]:1")
    assert "proxy" not in str(told.value)


def test_a_child_finds_data_and_gets_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    finds = {
        "HF_HOME": "/data/hf",
        "HF_ENDPOINT": "https://mirror.example",
        "HF_TOKEN": "hf_of_the_data",
        "HF_HUB_OFFLINE": "1",
        "HTTPS_PROXY": "http://proxy.example",
        "https_proxy": "http://proxy.example",
        "SSL_CERT_FILE": "/etc/authority.pem",
        "TMPDIR": "/scratch",
        "XDG_CACHE_HOME": "/data/cache",
    }
    secret = {"ROLLCALL_KEY": "0x" + "11" * 32, "ROLLCALL_REDIS_PASSWORD": "p", "AWS_SECRET": "s"}
    for name, value in {**finds, **secret}.items():
        monkeypatch.setenv(name, value)
    found = for_child()
    assert finds.items() <= found.items()
    assert not secret.keys() & found.keys()
