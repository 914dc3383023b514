"""Loopback goes through no proxy, whatever the environment says; what a child gets holds no secret."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from client.look import look
from client.retry import Unreachable
from client.surroundings import for_child, reach_loopback_directly
from ledger.errors import ChainUnreachable, LedgerError
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


UNFIT = {
    "ALL_PROXY": ("socks5://127.0.0.1:9", "ftp://127.0.0.1", "http://["),
    "NO_PROXY": ("[::1]", "[::1],elsewhere.example"),
    "SSL_CERT_FILE": ("/nowhere/authority.pem", __file__),
    "REQUESTS_CA_BUNDLE": ("/nowhere/authority.pem",),
}
"""Variables that other programs need, or that somebody mistyped."""


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in UNFIT.items() for value in values]
)
def test_what_is_amiss_around_does_not_keep_from_loopback(
    monkeypatch: pytest.MonkeyPatch, port: int, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    reach_loopback_directly()
    assert look(f"http://127.0.0.1:{port}") == ()
    assert Node.at(f"http://127.0.0.1:{port}", patience=ONCE).chain_id() == 1


@pytest.mark.parametrize(
    ("name", "value", "market", "node"),
    [
        ("ALL_PROXY", "socks5://10.0.0.1:9", "the proxy socks5://10.0.0.1:9 cannot", "its proxy's"),
        ("ALL_PROXY", "ftp://10.0.0.1", "the proxy ftp://10.0.0.1 cannot be used", "its proxy's"),
        ("ALL_PROXY", "http://127.0.0.1:9", "through the proxy http://127", "the proxy in HTTPS_P"),
        ("SSL_CERT_FILE", "/nowhere/a.pem", "that SSL_CERT_FILE or SSL_CERT_DIR names cannot", ""),
        ("SSL_CERT_FILE", __file__, "that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read", ""),
        ("REQUESTS_CA_BUNDLE", "/nowhere/a.pem", "", "look at REQUESTS_CA_BUNDLE"),
    ],
)
def test_what_is_amiss_around_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, market: str, node: str
) -> None:
    monkeypatch.setenv(name, value)
    reach_loopback_directly()
    with pytest.raises(Unreachable) as told:
        look("https://market.invalid")
    assert market in str(told.value)
    with pytest.raises(LedgerError) as refused:
        Node.at("https://node.invalid", patience=ONCE).chain_id()
    assert node in str(refused.value)
