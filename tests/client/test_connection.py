"""What a network or a liar may do to a client, by a transport that does it; and no httpx error leaves it."""

import gzip
import itertools
import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import httpx
import pytest

from client.connection import (
    FOREIGN,
    MAX_ANSWER_BYTES,
    MAX_REFUSAL_BYTES,
    PASSING,
    Connection,
    Later,
)
from client.public import (
    MAX_EPOCH_BYTES,
    MAX_EVENT_BYTES,
    READING,
    BlobMismatch,
    PublicRoutes,
    Reader,
)
from client.retry import MOST_LATER_SECONDS, Patience, RetryConfig, Unreachable
from client.trainer import TrainerRoutes
from protocol.canonical import content_digest
from protocol.errors import Busy, Malformed, MarketError, TooLarge
from protocol.messages import ErrorBody, RunList, Session
from protocol.user_error import UserError

URL = "http://market.test"
KEY = bytes([7]) * 32
FAST = RetryConfig(first_seconds=0.01, most_seconds=0.02)
AT_ONCE = Patience(silent_seconds=0.0, faltering_seconds=0.0)
EMPTY = RunList(runs=()).to_json()
SESSION = Session(token="token", address="0x" + "00" * 20, expires_at=1 << 40).to_json()

Reply = Callable[[httpx.Request], httpx.Response]


def reader_of(reply: Reply, **settings: Any) -> PublicRoutes:
    chosen: dict[str, Any] = {"patience": AT_ONCE, "retry": FAST, **settings}
    return PublicRoutes(Connection(URL, transport=httpx.MockTransport(reply), **chosen))


def answer(status: int, content: bytes, **headers: str) -> httpx.Response:
    """Return an answer that is still to be read, as one from a network is."""
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(content))


def good(content: bytes = EMPTY) -> httpx.Response:
    return answer(200, content)


def refused(status: int, code: str) -> httpx.Response:
    return answer(status, ErrorBody(code=code, message="later").to_json())


class Body(httpx.SyncByteStream):
    """A body in parts; `count` says how many were asked for."""

    def __init__(self, parts: Iterator[bytes], error: Exception | None = None) -> None:
        self.parts, self.error, self.count = parts, error, 0

    def __iter__(self) -> Iterator[bytes]:
        for part in self.parts:
            self.count += 1
            yield part
        if self.error is not None:
            raise self.error


def below(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    yield kind
    for child in kind.__subclasses__():
        yield from below(child)


TREE = sorted({kind for root in FOREIGN for kind in below(root)}, key=lambda kind: kind.__name__)


def raised(kind: type[Exception]) -> Exception:
    request = httpx.Request("GET", URL)
    if issubclass(kind, httpx.HTTPStatusError):
        return kind("made up", request=request, response=httpx.Response(500, request=request))
    if kind in (httpx.StreamConsumed, httpx.StreamClosed, httpx.ResponseNotRead):
        return kind()
    return kind() if kind is httpx.RequestNotRead else kind("made up")


def test_the_tree_is_all_of_httpx() -> None:
    public = {found for found in vars(httpx).values() if isinstance(found, type)}
    assert {found for found in public if issubclass(found, Exception)} <= set(TREE)


@pytest.mark.parametrize("kind", TREE)
def test_no_exception_of_httpx_leaves_the_client(kind: type[Exception]) -> None:
    def at_the_request(_: httpx.Request) -> httpx.Response:
        raise raised(kind)

    def in_the_body(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Body(iter([b"{"]), raised(kind)))

    for reply in (at_the_request, in_the_body):
        bare = httpx.Client(transport=httpx.MockTransport(reply))
        with pytest.raises(kind):
            bare.get(URL)
        for ask in (PublicRoutes.runs, lambda routes: routes.blob(bytes(32)), events):
            with (
                reader_of(reply) as routes,
                pytest.raises(Unreachable, match=r"made up|[Ss]tream|`"),
            ):
                ask(routes)
        routes = TrainerRoutes(
            Connection(URL, KEY, chain_id=1, patience=AT_ONCE, transport=httpx.MockTransport(reply))
        )
        with routes, pytest.raises(Unreachable):
            routes.put_blob(b"data")


def events(routes: PublicRoutes) -> list[tuple[str, str]]:
    return list(routes.events(1))


@pytest.mark.parametrize(
    "url", ["ftp://market.test", "http://[market", "http://\x00", "http://", "market", ""]
)
def test_an_address_that_is_none_is_said_at_once_even_to_who_waits_for_ever(url: str) -> None:
    with pytest.raises(Unreachable, match="check the address"), Connection(url) as connection:
        connection.get("runs")


@pytest.mark.parametrize("status", [408, 425, 429, 502])
def test_a_proxy_that_says_later_is_asked_again(status: int) -> None:
    asked = []

    def once(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return good() if asked[1:] else answer(status, b"<html>slow down</html>")

    with reader_of(once, patience=Patience()) as routes:
        assert routes.runs() == ()
    assert len(asked) == 2


def test_a_redirect_says_where_it_sends() -> None:
    def moved(_: httpx.Request) -> httpx.Response:
        return answer(308, b"", Location="https://market.test/v1/runs")

    with (
        reader_of(moved) as routes,
        pytest.raises(MarketError, match=r"308 to https://market\.test"),
    ):
        routes.runs()


@pytest.mark.parametrize("kind", TREE)
def test_what_may_pass_is_tried_again_and_nothing_else(kind: type[Exception]) -> None:
    asked = []

    def once_bad(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if len(asked) == 1:
            raise raised(kind)
        return good()

    with reader_of(once_bad, patience=Patience()) as routes:
        if issubclass(kind, PASSING):
            assert routes.runs() == ()
        else:
            with pytest.raises(Unreachable):
                routes.runs()
    assert len(asked) == 1 + issubclass(kind, PASSING)


def test_a_redirect_is_a_refusal_and_is_not_followed() -> None:
    """A store that redirects has stored nothing; httpx calls it no error."""
    asked = []

    def elsewhere(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        if request.url.path.endswith("/session"):
            return good(SESSION)
        return answer(307, b"gone", Location="http://thief.test/")

    assert not elsewhere(httpx.Request("PUT", URL)).is_error
    connection = Connection(URL, KEY, chain_id=1, transport=httpx.MockTransport(elsewhere))
    with TrainerRoutes(connection) as routes, pytest.raises(MarketError, match="HTTP 307"):
        routes.put_blob(b"weights")
    assert not any("thief" in url for url in asked)


@pytest.mark.parametrize("status", [200, 404])
def test_an_answer_without_an_end_is_cut_off(status: int) -> None:
    part = bytes(1 << 20)
    body = Body(itertools.repeat(part))

    def endless(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, stream=body, headers={"Content-Length": "2"})

    with reader_of(endless) as routes:
        most, kind = (
            (MAX_ANSWER_BYTES, TooLarge) if status == 200 else (MAX_REFUSAL_BYTES, MarketError)
        )
        with pytest.raises(kind):
            routes.runs()
        assert body.count == most // len(part) + 1
        body.count = 0
        with pytest.raises(kind):
            routes.blob(bytes(32), max_bytes=3 * len(part))
        assert body.count <= MAX_ANSWER_BYTES // len(part) + 1


@pytest.mark.parametrize("status", [200, 503])
def test_a_server_that_drips_does_not_hold_a_reader_that_gives_up(status: int) -> None:
    """A byte within every timeout is never silence: without looking between them, a reader stays for ever."""
    most = 1_000
    body = Body(itertools.repeat(b" ", 50 * most))

    def dripping(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, stream=body)

    for ask in (PublicRoutes.runs, lambda r, give_up: r.blob(bytes(32), give_up=give_up)):
        body.parts, body.count = itertools.repeat(b" ", 50 * most), 0
        with reader_of(dripping) as routes, pytest.raises(Unreachable, match="gave up after"):
            ask(routes, give_up=lambda: body.count >= most)
        assert body.count == most
    with pytest.MonkeyPatch.context() as without:
        without.setattr(Connection, "parts", lambda _, response, give_up=None: response.iter_raw())  # noqa: ARG005
        body.parts, body.count = itertools.repeat(b" ", 50 * most), 0
        with reader_of(dripping) as routes, pytest.raises(MarketError):
            routes.runs(give_up=lambda: body.count >= most)
        assert body.count == 50 * most, "read to an end that a server need not send"


def test_a_proxy_that_takes_no_large_body_is_named() -> None:
    page = b"<html><head><title>413 Request Entity Too Large</title></head>"
    told = pytest.raises(TooLarge, match=r"HTTP 413 from .*client_max_body_size")
    with reader_of(lambda _: answer(413, page)) as routes, told:
        routes.runs()
    own = ErrorBody(code="too_large", message="raise limits.max_json_bytes").to_json()
    told = pytest.raises(TooLarge, match=r"^raise limits.max_json_bytes$")
    with reader_of(lambda _: answer(413, own)) as routes, told:
        routes.runs()


@pytest.mark.parametrize("text", ["1e300", "-5", "NaN"])
def test_no_server_puts_off_who_asks_for_longer_than_can_be_waited(text: str) -> None:
    """Whoever waits for what a refusal says must be able to: 1e300 seconds end a thread by an error."""
    words = b'{"code":"run_not_open","message":"later","retry_after_seconds":%s}'
    for body, headers in ((words % text.encode(), {}), (b"{}", {"Retry-After": text})):

        def refusing(_: httpx.Request, body: bytes = body, asked: Any = headers) -> httpx.Response:
            return answer(409, body, **asked)

        with reader_of(refusing) as routes, pytest.raises(MarketError) as caught:
            routes.runs()
        assert 0 <= (caught.value.retry_after_seconds or 0.0) <= MOST_LATER_SECONDS


def test_a_reader_takes_the_file_of_an_epoch_as_large_as_a_verifier_signs() -> None:
    data = bytes(MAX_ANSWER_BYTES + 1)
    assert len(data) < MAX_EPOCH_BYTES
    with reader_of(lambda _: good(data)) as routes:
        assert routes.blob(content_digest(data)) == data


def test_nothing_is_inflated_on_the_way() -> None:
    """A kilobyte may stand for a gigabyte: what a server calls compressed is taken as it is."""
    asked = []

    def squeezed(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["Accept-Encoding"])
        return httpx.Response(
            200, stream=httpx.ByteStream(b"data"), headers={"Content-Encoding": "gzip"}
        )

    with reader_of(squeezed) as routes:
        assert routes.blob(content_digest(b"data")) == b"data"
    assert asked == ["identity"]


def test_events_come_line_by_line_and_nothing_of_them_is_inflated() -> None:
    """An event that does not end is refused at a bound; httpx's own lines would inflate a bomb first."""
    whole = [b"id: 1\r\ndata: {", b"}\n\n", b"id: 2\ndata: x\n\n"]
    bomb = gzip.compress(b"data: " + bytes(8 * MAX_EVENT_BYTES) + b"\n\n")
    squeezed = {"Content-Encoding": "gzip"}
    with reader_of(lambda _: good(b"".join(whole))) as routes:
        assert list(routes.events(1)) == [("1", "{}"), ("2", "x")]

    def bombing(_: object = None) -> httpx.Response:
        return httpx.Response(200, stream=httpx.ByteStream(bomb), headers=squeezed)

    assert max(map(len, bombing().iter_lines())) > MAX_EVENT_BYTES
    with reader_of(bombing) as routes:
        assert list(routes.events(1)) == []
    endless = itertools.repeat(b"x" * 65_536)
    with (
        reader_of(lambda _: httpx.Response(200, stream=Body(endless))) as routes,
        pytest.raises(TooLarge, match="longer than"),
    ):
        list(routes.events(1))


def test_a_reader_says_at_once_that_nobody_answers_and_waits_for_who_falters() -> None:
    troubles = iter(
        [
            refused(503, "busy"),
            answer(502, b"<html>bad gateway</html>"),
            httpx.Response(200, stream=Body(iter([b"{"]), httpx.ReadError("broke off"))),
        ]
    )

    def faltering(_: httpx.Request) -> httpx.Response:
        return next(troubles, None) or good()

    def silent(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with reader_of(faltering, patience=READING) as routes:
        assert routes.runs() == ()
    said = pytest.raises(UserError, match=r"no orchestrator answers at http://market\.test")
    with Reader(URL, transport=httpx.MockTransport(silent)) as reader, said:
        reader.runs()


def test_patience_with_a_busy_orchestrator_ends_in_its_own_words() -> None:
    def busy(_: httpx.Request) -> httpx.Response:
        return refused(503, "busy")

    patience = Patience(silent_seconds=0.0, faltering_seconds=0.05)
    with reader_of(busy, patience=patience) as routes, pytest.raises(Busy, match="later"):
        routes.runs()


def test_a_refusal_is_of_the_class_that_its_code_names_and_of_no_narrower_one() -> None:
    told = reader_of(lambda _: refused(400, "malformed"))
    with told as routes, pytest.raises(Malformed) as found:
        routes.runs()
    assert type(found.value) is Malformed


def reached(told: Iterator[int], most: int) -> bool:
    return next(told) >= most


@pytest.mark.parametrize("gives_up_after", [1, 3])
def test_who_waits_for_ever_ends_when_told_to(gives_up_after: int) -> None:
    """A worker's patience has no end; its process's stop has to be one, in sign-in and download alike."""

    def silent(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    def busy(_: httpx.Request) -> httpx.Response:
        return refused(503, "busy")

    for reply in (silent, busy):
        for ask in (lambda r: r.runs(), lambda r: r.blob(bytes(32)), lambda r: r.put_blob(b"data")):
            told = itertools.count(1)
            connection = Connection(
                URL,
                KEY,
                chain_id=1,
                retry=FAST,
                give_up=partial(reached, told, gives_up_after),
                transport=httpx.MockTransport(reply),
            )
            with TrainerRoutes(connection) as routes, pytest.raises(Unreachable, match="gave up"):
                ask(routes)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("inf", MOST_LATER_SECONDS),
        ("1e300", MOST_LATER_SECONDS),
        ("nan", 0.5),
        ("-1", 0.5),
        ("2", 2.0),
    ],
)
def test_a_server_cannot_put_off_for_ever(text: str, seconds: float) -> None:
    def later(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/session"):
            return good(SESSION)
        return answer(204, b"", **{"Retry-After": text})

    with pytest.raises(OverflowError):
        threading.Event().wait(float("inf"))
    connection = Connection(URL, KEY, chain_id=1, transport=httpx.MockTransport(later))
    with TrainerRoutes(connection) as routes:
        assert routes.batch(1, 0) == Later(seconds)


def test_a_broken_download_goes_on_and_other_bytes_at_its_end_are_found() -> None:
    data = random.Random(0).randbytes(1_000)
    for rest in (data[400:], bytes(600)):
        ranges: list[str] = []

        def breaking(
            request: httpx.Request, rest: bytes = rest, ranges: list[str] = ranges
        ) -> httpx.Response:
            asked = request.headers.get("Range", "")
            ranges.append(asked)
            if asked:
                return httpx.Response(206, stream=httpx.ByteStream(rest))
            return httpx.Response(200, stream=Body(iter([data[:400]]), httpx.ReadError("cut")))

        with reader_of(breaking, patience=READING) as routes:
            if rest == data[400:]:
                assert routes.blob(content_digest(data)) == data
                assert ranges == ["", "bytes=400-"]
            else:
                with pytest.raises(BlobMismatch, match="whose digest is"):
                    routes.blob(content_digest(data))


def test_who_has_no_key_sends_nothing_that_takes_one() -> None:
    asked = []

    def listening(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return good()

    keyless = TrainerRoutes(Connection(URL, transport=httpx.MockTransport(listening)))
    with keyless as routes, pytest.raises(UserError, match="takes a key"):
        routes.put_blob(b"data")
    assert not asked


def test_events_come_in_order_and_a_broken_stream_is_gone_on_with_after_the_last() -> None:
    asked = []

    def stream(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("Last-Event-ID"))
        lines = [b"id: 1\ndata: {}\n", b"\nid: 2\ndata: [1]", b"\n\nid: 3\ndata: cut"]
        return httpx.Response(200, stream=Body(iter(lines), httpx.ReadError("restart")))

    with reader_of(stream) as routes:
        found = []
        with pytest.raises(Unreachable):
            for event in routes.events(1, after="7"):
                found.append(event)
    assert found == [("1", "{}"), ("2", "[1]")]
    assert asked == ["7"]
