"""HTTP as everybody speaks it: HEAD, ranges, refusals, and requests written in unusual ways."""

import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.config import Limits
from protocol.canonical import content_digest
from protocol.messages import PolicyPublication
from tests.adversarial.http.test_exhaustion import rest, serving
from tests.stage.place import Place

DATA = random.Random(1).randbytes(1024)
SIZE = len(DATA)


@pytest.fixture
def blob(shared_place: Place) -> str:
    return f"/v1/blobs/0x{shared_place.upload(DATA).digest.hex()}"


RANGES: dict[str, tuple[int, bytes]] = {
    "bytes=0-0": (206, DATA[:1]),
    "bytes=0-": (206, DATA),
    "bytes=1000-": (206, DATA[1000:]),
    "bytes=1020-9999": (206, DATA[1020:]),
    "bytes=0-" + "9" * 99: (206, DATA),
    "bytes=-5": (206, DATA[-5:]),
    "bytes=-9999": (206, DATA),
    "Bytes=1-2": (206, DATA[1:3]),
    "bytes=1024-": (416, b""),
    "bytes=" + "9" * 99 + "-": (416, b""),
    "bytes=-0": (416, b""),
    "bytes=5-4": (200, DATA),
    "bytes=0-1,3-4": (200, DATA),
    "bytes=-": (200, DATA),
    "bytes=a-b": (200, DATA),
    "bytes=-1-2": (200, DATA),
    "bytes = 0-1": (200, DATA),
    "bytes": (200, DATA),
    "lines=0-1": (200, DATA),
    "bytes=0-" + "9" * 999: (200, DATA),
}


@pytest.mark.parametrize("asked", RANGES)
def test_a_range_is_served_or_ignored_and_never_malformed(
    shared_place: Place, blob: str, asked: str
) -> None:
    status, part = RANGES[asked]
    found = shared_place.get(blob, range=asked)
    assert found.status_code == status
    if status == 416:
        assert found.headers["content-range"] == f"bytes */{SIZE}"
        assert str(SIZE) in found.json()["message"]
        return
    assert found.content == part
    assert found.headers["content-length"] == str(len(part))
    if status == 206:
        first = DATA.index(part) if part != DATA else 0
        assert found.headers["content-range"] == f"bytes {first}-{first + len(part) - 1}/{SIZE}"
    else:
        assert "content-range" not in found.headers


def test_a_range_of_another_version_is_ignored(shared_place: Place, blob: str) -> None:
    etag = shared_place.get(blob).headers["etag"]
    upper = blob.replace("0x", "0X").upper().replace("/V1/BLOBS/0X", "/v1/blobs/0x")
    assert shared_place.get(upper).headers["etag"] == etag, "one blob has one tag"
    for condition, status in (
        (etag, 206),
        ('"other"', 200),
        ("Mon, 30 Nov 2026 12:00:00 GMT", 200),
    ):
        found = shared_place.get(blob, **{"range": "bytes=0-1", "if-range": condition})
        assert found.status_code == status


def test_a_reader_that_has_the_bytes_is_not_sent_them(shared_place: Place, blob: str) -> None:
    etag = shared_place.get(blob).headers["etag"]
    for asked in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        found = shared_place.get(blob, **{"if-none-match": asked})
        assert (found.status_code, found.content) == (304, b"")
        assert found.headers["etag"] == etag
    assert shared_place.get(blob, **{"if-none-match": '"other"'}).status_code == 200
    missing = f"/v1/blobs/0x{'00' * 32}"
    assert shared_place.get(missing, **{"if-none-match": "*"}).status_code == 404


def test_an_empty_blob_has_no_parts(shared_place: Place) -> None:
    digest = shared_place.upload(b"").digest.hex()
    for asked in ("bytes=0-", "bytes=-1", "bytes=0-0"):
        found = shared_place.get(f"/v1/blobs/0x{digest}", range=asked)
        assert (found.status_code, found.content) == (200, b"")


def gets(place: Place) -> Iterator[str]:
    """Yield an address for every GET route of the application, with what it names there."""
    names = {
        "run": str(place.run_id),
        "epoch": "0",
        "version": "latest",
        "address": place.ground.address("alice"),
        "digest": "0x" + place.upload(DATA).digest.hex(),
        "work_digest": "0x" + "00" * 32,
    }
    for path, methods in place.client.app.openapi()["paths"].items():  # type: ignore[attr-defined]
        if "get" in methods:
            yield path.format(**names)
    yield from ("/openapi.json", "/docs", "/")


def test_every_get_has_its_head(place: Place) -> None:
    paths = list(gets(place))
    assert len(paths) >= 17
    for path in paths:
        head = place.request("HEAD", path)
        assert head.content == b"", path
        if path.endswith("/events"):  # a GET of it has no end
            assert head.status_code == 200
            continue
        whole = place.get(path)
        assert head.status_code == whole.status_code, path
        if path != "/metrics":  # it counts its own reading
            assert head.headers.get("content-length") == str(len(whole.content)), path
    assert place.request("HEAD", paths[0], headers={"range": "bytes=0-0"}).status_code != 206
    assert not place.client.app.state.event_streams._open, "no place is kept"  # type: ignore[attr-defined]


def test_what_cannot_be_done_there_names_what_can(shared_place: Place) -> None:
    for method in ("OPTIONS", "DELETE", "PATCH", "PUT", "TRACE", "PROPFIND"):
        found = shared_place.request(method, "/v1/runs")
        assert (found.status_code, found.json()["code"]) == (405, "malformed")
        assert found.headers["allow"] in ("GET, HEAD", "POST")
    assert shared_place.request("HEAD", shared_place.path("leases")).status_code == 405
    for path in ("/v1/runs/", "//v1/runs", "/v1//runs", "/v1"):
        found = shared_place.get(path)
        assert (found.status_code, found.json()["code"]) == (404, "not_found"), "and no redirect"


def sent(place: Place, *, num_tensors: int) -> bytes:
    """Return a publication of as many bytes as a model of so many parts has, under another one's signature."""
    manifest = place.manifest(1)
    chunk = manifest.manifest.anchor[0]
    large = manifest.manifest.model_copy(update={"anchor": (chunk,) * num_tensors})
    return PolicyPublication(signed=manifest.model_copy(update={"manifest": large})).to_json()


def test_the_manifest_of_a_large_model_is_taken_or_names_the_setting(place: Place) -> None:
    trainer, path = place.party("trainer"), place.path("policies")
    body = sent(place, num_tensors=70_000)
    assert 5.9 * (1 << 20) < len(body) < Limits().max_json_bytes
    assert trainer.post(path, body).json()["code"] == "bad_signature", "read to its end"
    few = Limits(max_json_bytes=1000)
    place.services.config = place.services.config.model_copy(update={"limits": few})
    for refused in (trainer.post(path, body), trainer.post(path, iter([body]))):  # type: ignore[arg-type]
        assert refused.status_code == 413
        assert "raise limits.max_json_bytes" in refused.json()["message"]
    assert "max_json_bytes" not in trainer.put(f"/v1/blobs/0x{'00' * 32}", bytes(5 << 20)).text


CLOSE = b"connection: close\r\n\r\n"
SPOKEN = {
    "absolute": (b"GET http://market.test/healthz HTTP/1.1\r\nhost: market.test\r\n", b"200 OK"),
    "percent": (b"GET /%68ealthz HTTP/1.1\r\nhost: x\r\n", b"200 OK"),
    "query": (b"GET /healthz?a=%ff&b=%00 HTTP/1.1\r\nhost: x\r\n", b"200 OK"),
    "cookies": (b"GET /healthz HTTP/1.1\r\nhost: x\r\ncookie: a=b; c\r\ncookie: =\r\n", b"200 OK"),
    "old": (b"GET /healthz HTTP/1.0\r\n", b"200 OK"),
    "coding": (b"GET /healthz HTTP/1.1\r\nhost: x\r\naccept-encoding: gzip, br;q=0\r\n", b"200 OK"),
    "h2c": (
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQ\r\n"
        b"connection: upgrade, http2-settings\r\n",
        b"200 OK",
    ),
    "long": (b"GET /healthz?" + b"a" * 60_000 + b" HTTP/1.1\r\nhost: x\r\n", b"200 OK"),
    "not ASCII": (b"GET /v1/\xff HTTP/1.1\r\nhost: x\r\n", b"400 Bad Request"),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", b"400 Bad Request"),
    "two lengths": (
        b"POST /v1/session HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n",
        b"400 Bad Request",
    ),
    "length and chunks": (
        b"POST /v1/session HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n"
        b"transfer-encoding: chunked\r\n",
        b"400 Bad Request",
    ),
    "no host": (b"GET /healthz HTTP/1.1\r\n", b"400 Bad Request"),
    "two hosts": (b"GET /healthz HTTP/1.1\r\nhost: x\r\nHost: y\r\n", b"400 Bad Request"),
    "a coded body": (
        b"POST /v1/session HTTP/1.1\r\nhost: x\r\ncontent-encoding: gzip\r\ncontent-length: 0\r\n",
        b"400 Bad Request",
    ),
    "star": (b"OPTIONS * HTTP/1.1\r\nhost: x\r\n", b"4"),
    "connect": (b"CONNECT market.test:443 HTTP/1.1\r\nhost: x\r\n", b"4"),
}


def test_requests_written_in_unusual_ways_are_answered(
    place: Place, redis_url: str, tmp_path: Path
) -> None:
    with serving(place.ground, redis_url, tmp_path, head_seconds=30) as port:

        def answer(words: bytes) -> bytes:
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(words)
                return rest(connection)

        for what, (words, status) in SPOKEN.items():
            assert answer(words + CLOSE).startswith(b"HTTP/1.1 " + status), what
        one = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
        last = b"GET /v1/runs HTTP/1.1\r\nhost: x\r\n" + CLOSE
        both = answer(one * 3 + last)
        assert both.count(b"HTTP/1.1 200 OK") == 4, "one after the other"
        chunked = b"POST /v1/session HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n" + CLOSE
        found = answer(chunked + b"2\r\n{}\r\n0\r\nx-trailer: a\r\n\r\n")
        assert found.startswith(b"HTTP/1.1 400") and b"malformed" in found
        expecting = b"POST /v1/session HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(expecting + b"content-length: 2\r\n" + CLOSE)
            assert connection.recv(4096).startswith(b"HTTP/1.1 100 Continue")
            connection.sendall(b"{}")
            assert b"malformed" in rest(connection)
        found = answer(expecting + b"content-length: 200000\r\n" + CLOSE)
        assert found.startswith(b"HTTP/1.1 413"), "refused before it is sent"


def test_the_head_of_a_blob_on_a_real_socket(place: Place, redis_url: str) -> None:
    place.upload(DATA)
    folder = Path(place.services.config.blob_url.removeprefix("file://"))
    path = f"/v1/blobs/0x{content_digest(DATA).hex()}".encode()
    with (
        serving(place.ground, redis_url, folder, head_seconds=30) as port,
        socket.create_connection(("127.0.0.1", port)) as connection,
    ):
        head = b"HEAD " + path + b" HTTP/1.1\r\nhost: x\r\n"
        connection.sendall(head + b"\r\n" + head + CLOSE)
        found = rest(connection)
    assert found.count(b"HTTP/1.1 200 OK") == 2
    assert found.count(b"content-length: 1024") == 2
    assert found.endswith(b"\r\n\r\n")
