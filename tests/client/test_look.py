"""An address is looked at before anything depends on it: each way to be wrong is one line with its remedy."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from client.address import checked
from client.look import look
from client.retry import Unreachable
from devchain.chain import DevChain
from devchain.rpc import Rpc
from devchain.server import DevChainServer
from rollcall.demo.services import free_port


class WebPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>a shop</html>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def page() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), WebPage) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("127.0.0.1:8100", "names no scheme; perhaps http://127.0.0.1:8100"),
        ("localhost:8100", "names no scheme"),
        ("http:/market", "names no scheme"),
        ("", "is empty"),
        ("ftp://market", "http or https, not ftp"),
        ("http://:8100", "names no host"),
        ("http://the market:8100", "a blank"),
        ("http://market:port", "Port could not be cast"),
        ("http://market:99999", "out of range"),
        ("http://market:0", "port is 0"),
        ("http://a..b", "host is no name"),
        (f"http://{'a' * 64}.example", "host is no name"),
        ("http://market\x7f", "a blank"),
        ("http://[::1", "Invalid IPv6"),
        ("http://market/v1/", "leave out /v1"),
        ("http://market/?run=1", "ends in"),
    ],
)
def test_what_cannot_be_an_address_is_refused(text: str, why: str) -> None:
    with pytest.raises(Unreachable, match=r"is no address of an orchestrator") as told:
        look(text)
    assert why in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "text", ["http://market:8100/", " https://m.example/roll ", "http://[::1]:80"]
)
def test_what_can_be_one_is_asked_as_it_is(text: str) -> None:
    assert checked(text) == text.strip().rstrip("/")


def test_nobody_and_an_unknown_name_are_told_at_once() -> None:
    with pytest.raises(Unreachable, match=r"refused\): check the address, or start one with"):
        look(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unreachable, match=r"no orchestrator answers at http://market.invalid"):
        look("http://market.invalid")


def test_tls_at_a_plain_port_is_told_with_the_address_to_write(page: int) -> None:
    with pytest.raises(Unreachable, match="write http:// in place of https://"):
        look(f"https://127.0.0.1:{page}")


def test_a_web_page_and_a_chain_are_no_orchestrator(page: int) -> None:
    with pytest.raises(Unreachable, match=r"is no orchestrator .*: check host and port"):
        look(f"http://127.0.0.1:{page}")
    with DevChainServer(Rpc(DevChain([], genesis_time=1)), 0) as chain:
        threading.Thread(target=chain.serve_forever).start()
        try:
            with pytest.raises(Unreachable, match=r"is no orchestrator .*HTTP 501"):
                look(chain.url)
        finally:
            chain.shutdown()
