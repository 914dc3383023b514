"""Connections that never end: bodies that drip, readers that do not read, streams held for ever.

A real server on a real socket: what is tested here is how long it holds what it was given.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn

import orchestrator.routes.blobs
from orchestrator.app import create_app
from orchestrator.connections import settings
from orchestrator.events import Streams
from orchestrator.store.keys import unused, uploads
from orchestrator.store.runs import LEAST_COUNTED_BYTES
from protocol.canonical import content_digest
from protocol.errors import TooManyRequests
from protocol.policies.manifest import MAX_CHUNK_BYTES
from tests.stage.ground import Ground
from tests.stage.place import Place, open_market

FOUR_MEBIBYTES = os.urandom(MAX_CHUNK_BYTES)


@contextmanager
def serving(ground: Ground, redis_url: str, folder: Path, **limits: Any) -> Iterator[int]:
    """Yield the port of a second copy of the orchestrator."""
    services = open_market(ground, redis_url, folder, {"limits": limits})
    plain = {"access_log": False}
    config = uvicorn.Config(
        create_app(services),
        port=0,
        log_config=None,
        timeout_graceful_shutdown=1,
        **settings(services.config.limits) if limits else plain,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def ask(port: int, method: str, path: str, *headers: str) -> socket.socket:
    """Send a request's head and return the connection."""
    connection = socket.create_connection(("127.0.0.1", port))
    lines = (f"{method} {path} HTTP/1.1", "host: market.test", *headers, "", "")
    connection.sendall("\r\n".join(lines).encode())
    return connection


def rest(connection: socket.socket) -> bytes:
    """Return what comes over a connection until its end."""
    found = b""
    with suppress(OSError):
        while part := connection.recv(1 << 20):
            found += part
    return found


def status(connection: socket.socket) -> int:
    return int(connection.recv(4096).split(b" ")[1])


def drip(place: Place, port: int, seconds: float = float("inf")) -> socket.socket:
    """Announce a submission and send a byte of it every 50 ms until it is answered, or for a while."""
    alice = place.party("alice")
    alice.leases()
    head = (f"authorization: Bearer {alice.token}", "content-length: 100000")
    connection = ask(port, "POST", place.path("submissions"), *head)
    ends = time.monotonic() + seconds
    connection.setblocking(False)
    while time.monotonic() < ends:
        connection.sendall(b"x")
        try:
            connection.recv(1, socket.MSG_PEEK)
            break
        except BlockingIOError:
            time.sleep(0.05)
    connection.setblocking(True)
    return connection


def test_a_body_that_drips_is_cut_off(place: Place, redis_url: str, tmp_path: Path) -> None:
    with serving(place.ground, redis_url, tmp_path, body_seconds=0.5) as port:
        with drip(place, port) as connection:  # until it is answered
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 400"), answer
        assert b"within 0.5 s" in answer


def test_without_the_limit_a_body_may_drip(place: Place, redis_url: str, tmp_path: Path) -> None:
    with (
        serving(place.ground, redis_url, tmp_path, body_seconds=60) as port,
        drip(place, port, seconds=1.5) as connection,
    ):
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.recv(1)


def test_a_body_that_breaks_off_is_no_defect_of_the_server(
    place: Place, redis_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.ERROR),
        serving(place.ground, redis_url, tmp_path) as port,
    ):
        drip(place, port, seconds=0.2).close()
        time.sleep(0.5)
    assert not [r.message for r in caplog.records], "a stranger could fill the log"


def test_one_address_cannot_hold_every_event_stream(
    place: Place, redis_url: str, tmp_path: Path
) -> None:
    limits = {"max_event_streams_per_address": 3}
    with serving(place.ground, redis_url, tmp_path, **limits) as port:
        held = [ask(port, "GET", place.path("events")) for _ in range(3)]
        assert [status(connection) for connection in held] == [200, 200, 200]
        with ask(port, "GET", place.path("events")) as fourth:
            assert status(fourth) == 429
        held[0].close()
        code = 429
        while code == 429:
            time.sleep(0.2)
            with ask(port, "GET", place.path("events")) as again:
                code = status(again)
        assert code == 200, "a place that is left is free again"
        for connection in held:
            connection.close()


def test_a_few_addresses_cannot_keep_all_others_from_watching() -> None:
    streams = Streams(64, 16)
    held = [streams.open(f"10.0.0.{n % 4}") for n in range(64)]
    newcomers = [streams.open(f"192.0.2.{n}") for n in range(40)]
    assert not any(place.is_over for place in newcomers)
    assert sum(place.is_over for place in held) == 40
    with pytest.raises(TooManyRequests):
        for _ in range(64):
            streams.open("192.0.2.1")
    streams.close(held[0])
    for place in newcomers:
        streams.close(place)
    assert not streams.open("192.0.2.9").is_over


def is_held(connection: socket.socket, seconds: float) -> bool:
    """Return whether the server still holds a connection over which nothing whole was asked."""
    connection.settimeout(seconds)
    try:
        while connection.recv(4096):
            pass  # what is left of an answer
        return False
    except TimeoutError:
        return True
    except ConnectionResetError:
        return False


def test_a_head_that_does_not_come_is_not_waited_for(
    place: Place, redis_url: str, tmp_path: Path
) -> None:
    with serving(place.ground, redis_url, tmp_path, head_seconds=2) as port:
        for words in (b"", b"GET /healthz HTTP/1.1\r\nhost: mark"):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(words)
                assert not is_held(connection, 30)
        with ask(port, "GET", "/healthz") as connection:
            assert status(connection) == 200
            assert not is_held(connection, 30), "nor for a second one"
    with (
        serving(place.ground, redis_url, tmp_path) as port,
        socket.create_connection(("127.0.0.1", port)) as connection,
    ):
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: mark")
        assert is_held(connection, 1.5), "the server's own protocol waits for ever"


def test_one_address_holds_a_bounded_number_of_connections(
    place: Place, redis_url: str, tmp_path: Path
) -> None:
    with serving(place.ground, redis_url, tmp_path, max_connections_per_address=3) as port:
        held = [ask(port, "GET", place.path("events")) for _ in range(3)]
        assert [status(connection) for connection in held] == [200] * 3
        with socket.create_connection(("127.0.0.1", port)) as fourth:
            assert not is_held(fourth, 30), "while all are in use"
        held.pop().close()
        code = 0
        while code != 200:
            with ask(port, "GET", "/healthz") as again, suppress(OSError, IndexError):
                code = status(again)
        for connection in held:
            connection.close()


def limit(place: Place, **most: int) -> None:
    """Give the orchestrator other limits, with nothing counted."""
    call = place.services.store.queue.call
    for key in (uploads("all"), uploads(f"run {place.run_id}"), unused(place.spec.trainer)):
        place.call(call, "DEL", key)
    limits = place.services.config.limits.model_copy(update=most)
    place.services.config = place.services.config.model_copy(update={"limits": limits})


def stored(place: Place, data: bytes, name: str = "trainer") -> str:
    """Upload as somebody; return why not, or ""."""
    path = f"/v1/blobs/0x{content_digest(data).hex()}"
    answer = place.party(name).put(path, data)
    return str(answer.json()["message"]) if answer.content else ""


def test_blobs_that_nothing_names_take_room_until_they_are_published(place: Place) -> None:
    """Whoever opens a run names its trainer, and could fill the disk with what nobody ever reads."""
    trainer = place.spec.trainer
    limit(place)
    assert not any(stored(place, os.urandom(60)) for _ in range(8)), "the default is far away"
    limit(place, max_unused_bytes=4 * LEAST_COUNTED_BYTES)
    wasted = os.urandom(60)
    assert not stored(place, wasted)
    assert not any(stored(place, wasted) for _ in range(8)), "what is there takes no room"
    signed = place.manifest(1)
    assert place.take_policy(signed).status_code == 204
    left = [stored(place, os.urandom(60)) for _ in range(4)]
    assert left[:3] == [""] * 3, "what a policy names takes none either"
    assert left[3].startswith(f"{trainer} stored blobs of {4 * LEAST_COUNTED_BYTES} bytes")
    assert place.take_policy(signed).status_code == 204, "a policy is published beside a full room"


def test_nobody_but_a_runs_trainer_stores_blobs(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(60)
    names = ("v0", "operator", "alice")
    assert all("is no trainer" in stored(place, data, name) for name in names)
    run = place.services.runs[place.run_id]

    async def anybody(*_: object) -> object:
        return run

    monkeypatch.setattr(orchestrator.routes.blobs, "_require_trained", anybody)
    assert not any(stored(place, os.urandom(60), name) for name in names)


def test_neither_a_run_nor_all_of_them_fill_the_disk(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one run, and by several: whoever opens one names its trainer."""
    served = place.services.runs
    monkeypatch.setattr(place.services, "runs", {place.run_id: served[place.run_id]})
    run = f"run {place.run_id} stored"
    limit(place)
    assert not any(stored(place, os.urandom(60)) for _ in range(8)), "by default a terabyte"
    limit(place, max_trainer_bytes_per_day=100)
    assert [stored(place, os.urandom(60)).startswith(run) for _ in range(2)] == [False, True]
    limit(place, max_trainer_bytes_per_day=1000, max_stored_bytes_per_day=200)
    assert not stored(place, os.urandom(180))
    place.call(place.services.store.queue.call, "SET", uploads("all"), 500)
    assert not stored(place, os.urandom(10)), "others used it up: an equal part is left"
    assert stored(place, os.urandom(60)).startswith(run)


@pytest.mark.parametrize("event_id", ["-", "1-2-3", "²", "1-", "9" * 30, "*", ">", "1 COUNT 9"])
def test_a_word_that_is_no_event_id_is_malformed(place: Place, event_id: str) -> None:
    response = place.client.get(place.path("events"), params={"after": event_id})
    assert (response.status_code, response.json()["code"]) == (400, "malformed")


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_readers_that_do_not_read_cost_no_memory(place: Place, redis_url: str) -> None:
    digest = content_digest(FOUR_MEBIBYTES)
    folder = Path(place.services.config.blob_url.removeprefix("file://"))
    place.upload(FOUR_MEBIBYTES)
    with serving(place.ground, redis_url, folder) as port:
        with ask(port, "GET", f"/v1/blobs/0x{digest.hex()}", "connection: close") as reader:
            whole = b"".join(iter(lambda: reader.recv(1 << 20), b""))
        assert whole.endswith(FOUR_MEBIBYTES)
        before = resident_bytes()
        idle = [ask(port, "GET", f"/v1/blobs/0x{digest.hex()}") for _ in range(50)]
        time.sleep(2)
        grown = resident_bytes() - before
        for connection in idle:
            connection.close()
    assert grown < 80 << 20, "whole blobs would be 200 MiB"
