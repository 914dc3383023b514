"""Attack: connections that use up what a server has of them: descriptors, memory, patience, its log."""

import asyncio
import logging
import os
import select
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from orchestrator.config import Limits
from orchestrator.connections import (
    MOST_HEAD_BYTES,
    MOST_HEAD_LINES,
    RESERVED_FILES,
    Places,
    most_connections,
)
from protocol.canonical import content_digest
from protocol.user_error import UserError
from tests.adversarial.http.test_exhaustion import (
    FOUR_MEBIBYTES,
    ask,
    is_held,
    rest,
    serving,
    status,
)
from tests.stage.front import serving as fronted
from tests.stage.place import Place
from tests.stage.waiting import require_alive, started, wait_until

NUM_DESCRIPTORS = 256
SERVE = "from rollcall.__main__ import main; main()"
UNBOUNDED = "import orchestrator.connections as c; c.Places.open = lambda *_: None; " + SERVE


@contextmanager
def served(place: Place, redis_url: str, folder: Path, program: str) -> Iterator[int]:
    """Yield the port of a `rollcall serve` that may open 256 files."""
    place.ground.deployment.save(folder / "deployment.json")
    with fronted(place) as (_, chain), socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        config = folder / "orchestrator.toml"
        config.write_text(
            f'port = {port}\nredis_url = "{redis_url}"\nblob_url = "file://{folder}/blobs"\n'
            f'rpc_url = "http://127.0.0.1:{chain.server_port}"\n'
            f'deployment = "{folder}/deployment.json"\n[limits]\nhead_seconds = 3600\n'
        )
        command = f"ulimit -n {NUM_DESCRIPTORS}; exec {sys.executable} -c '{program}' serve"
        words = ["bash", "-c", f"{command} --config {config}"]
        key = "0x" + bytes(place.ground.people["orchestrator"].key).hex()
        with (
            (folder / "log").open("w") as log,
            started(words, env=os.environ | {"ROLLCALL_KEY": key}, stderr=log) as process,
        ):
            wait_until(lambda: is_answered(port), check=lambda: require_alive(process))
            yield port


def is_answered(port: int, seconds: float = 5.0) -> bool:
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=seconds, trust_env=False)
        return answer.text == "ok"
    except httpx.HTTPError:
        return False


def slow(port: int) -> socket.socket:
    """Begin a head that does not end."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-a: ")
    return connection


@pytest.mark.parametrize("program", [SERVE, UNBOUNDED], ids=["bounded", "unbounded"])
def test_others_are_served_beside_more_slow_heads_than_there_are_descriptors(
    place: Place, redis_url: str, tmp_path: Path, program: str
) -> None:
    with served(place, redis_url, tmp_path, program) as port, ExitStack() as held:
        for _ in range(400):
            connection = held.enter_context(slow(port))
            with suppress(OSError):
                connection.sendall(b"x")
        if program == UNBOUNDED:
            wait_until(lambda: "Too many open files" in (tmp_path / "log").read_text())
            assert not is_answered(port)
        else:
            assert all(is_answered(port) for _ in range(20))
            assert "Too many open files" not in (tmp_path / "log").read_text()


def test_a_process_without_descriptors_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    given: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: given.append(both))
    for few in (64, RESERVED_FILES):
        monkeypatch.setattr(resource, "getrlimit", lambda _, few=few: (few, few))
        with pytest.raises(UserError, match=f"may open {few} files .*ulimit -n"):
            most_connections(Limits())
    monkeypatch.setattr(resource, "getrlimit", lambda _: (NUM_DESCRIPTORS, 1 << 20))
    assert most_connections(Limits(max_connections=1000)) == 1000
    assert given[-1] == (1000 + RESERVED_FILES, 1 << 20), "it asks for those it may have"
    monkeypatch.setattr(resource, "getrlimit", lambda _: (NUM_DESCRIPTORS, NUM_DESCRIPTORS))
    assert most_connections(Limits()) == NUM_DESCRIPTORS - RESERVED_FILES


@dataclass(eq=False)
class Peer:
    """A connection that does nothing."""

    block: str
    since: float
    is_waiting: bool = True
    transport: asyncio.Transport = field(default_factory=asyncio.Transport)


def test_whoever_has_most_gives_a_place_up_and_what_waits_goes_first() -> None:
    places = Places(10, 8)
    crowd = [Peer("stranger", since, since > 2) for since in range(8)]
    assert [places.open(peer) for peer in crowd] == [None] * 8
    assert places.open(Peer("stranger", 9)) is crowd[3], "the longest waiting of one address"
    guests = [Peer(f"guest {n}", 10) for n in range(9)]
    left = [places.open(guest) for guest in guests]
    assert left[:2] == [None, None]
    assert [peer.block for peer in left[2:] if peer] == ["stranger"] * 7
    assert left[2] is crowd[4]
    assert left[-1] in crowd[:3], "then also what is answered"
    busy = Places(2, 8)
    assert [busy.open(Peer("one", n, is_waiting=False)) for n in range(2)] == [None, None]
    last = Peer("one", 3)
    assert busy.open(last) is last, "no newcomer of the same address ends what is answered"
    for peer in (*crowd, *guests):
        places.close(peer)
        places.close(peer)
    assert [places.open(Peer("stranger", n)) for n in range(8)] == [None] * 8


def sends(connection: socket.socket, words: bytes, most: int) -> int:
    """Send words over and over until the connection ends; return how many bytes went out."""
    num_sent = 0
    with suppress(OSError):
        while num_sent < most:
            connection.sendall(words)
            num_sent += len(words)
    return num_sent


HEADS = {
    "a word": b"GET /healthz HTTP/1.1\r\nhost: x\r\na: ",
    "an address": b"GET /",
    "trailers": b"POST /healthz HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\na: ",
    "an extension": b"POST /healthz HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5;a=",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_head_without_end_is_cut_off(
    place: Place, redis_url: str, tmp_path: Path, head: bytes
) -> None:
    most, line = 64 << 20, b"x" * 4096
    with serving(place.ground, redis_url, tmp_path, head_seconds=3600) as port:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(head)
            assert sends(connection, line, most) < most
        with ask(port, "GET", "/healthz", "a: " + "x" * (MOST_HEAD_BYTES // 2)) as connection:
            assert status(connection) == 200
    with (
        serving(place.ground, redis_url, tmp_path) as port,
        socket.create_connection(("127.0.0.1", port)) as connection,
    ):
        connection.sendall(head)
        assert sends(connection, line, 1 << 20) >= 1 << 20, "the server's own protocol keeps all"


WHOLE_HEADS = {
    "a line": "a: " + "x" * (MOST_HEAD_BYTES + 1),
    "lines": "\r\n".join(["a:"] * (MOST_HEAD_LINES + 1)),
}


@pytest.mark.parametrize("words", WHOLE_HEADS.values(), ids=WHOLE_HEADS)
def test_a_head_that_comes_in_one_piece_is_counted_too(
    place: Place, redis_url: str, tmp_path: Path, words: str
) -> None:
    def answered(**limits: float) -> int:
        with (
            serving(place.ground, redis_url, tmp_path, **limits) as port,
            ask(port, "GET", "/healthz", words) as connection,
        ):
            return status(connection)

    assert answered() == 200, "the server's own protocol reads as much as comes at a time"
    assert answered(head_seconds=3600) == 431


def test_a_second_head_that_is_too_large_ends_its_connection_alone(
    place: Place, redis_url: str, tmp_path: Path
) -> None:
    """Trailers are lines of a head as well, and come while the first is asked."""
    lines = "a:\r\n" * (MOST_HEAD_LINES + 1)
    trailed = "1\r\nx\r\n0\r\n" + lines + "\r\n"
    with serving(place.ground, redis_url, tmp_path, head_seconds=3600) as port:
        with ask(port, "POST", "/healthz", "transfer-encoding: chunked") as connection:
            connection.sendall(trailed.encode())
            assert not is_held(connection, 30)
        with ask(port, "GET", "/healthz", *["a:"] * (MOST_HEAD_LINES - 1)) as connection:
            assert status(connection) == 200


def num_served(port: int) -> int:
    """Return how many connections a server in this process holds at its port."""
    held = psutil.Process().net_connections("tcp")
    return sum(c.laddr.port == port and c.status != psutil.CONN_LISTEN for c in held)


def test_who_does_not_read_its_answer_is_not_waited_for(place: Place, redis_url: str) -> None:
    place.upload(FOUR_MEBIBYTES)
    folder = Path(place.services.config.blob_url.removeprefix("file://"))
    path = f"/v1/blobs/0x{content_digest(FOUR_MEBIBYTES).hex()}"

    def num_open(*, are_cut: bool, **limits: float) -> int:
        """Return how many of eight idle readers can still have all of their answers, once cut or after a while."""
        with serving(place.ground, redis_url, folder, **limits) as port, ExitStack() as stack:
            idle = []
            for _ in range(8):
                reader = stack.enter_context(socket.socket())
                reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
                reader.connect(("127.0.0.1", port))
                lines = (f"GET {path} HTTP/1.1", "host: x", "connection: close", "", "")
                reader.sendall("\r\n".join(lines).encode())
                idle.append(reader)
            wait_until(lambda: len(select.select(idle, [], [], 0)[0]) == len(idle))
            if are_cut:
                wait_until(lambda: not num_served(port))
            else:
                time.sleep(3)
            return sum(len(rest(reader)) > len(FOUR_MEBIBYTES) for reader in idle)

    assert num_open(are_cut=True, read_seconds=1.0) == 0
    assert num_open(are_cut=False) == 8, "the server's own protocol waits for ever"


def test_upgrades_change_no_protocol_and_fill_no_log(
    place: Place, redis_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Over a web socket no limit of a connection would hold, nor would its place be given back."""
    web = ("connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13")
    h2c = (
        "connection: upgrade, http2-settings",
        "upgrade: h2c",
        "http2-settings: AAMAAABkAAQAAP__",
    )
    key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="
    limits = {"max_connections_per_address": 4}
    with (
        caplog.at_level(logging.WARNING),
        serving(place.ground, redis_url, tmp_path, **limits) as port,
    ):
        for words in ((*web, key), h2c) * 4:
            with ask(port, "GET", "/healthz", *words) as connection:
                assert status(connection) == 200
        with ask(port, "GET", "/healthz") as connection:
            assert status(connection) == 200
            connection.sendall(b"nonsense\r\n\r\n")
            assert not is_held(connection, 30)
    assert not caplog.records
    with (
        serving(place.ground, redis_url, tmp_path) as port,
        ask(port, "GET", "/healthz", *web, key) as c,
    ):
        assert status(c) == 403, "the server's own protocol hands it over"
