"""One connection to one orchestrator: the one place of sign-in, retries and refusals.

With a key it signs in by itself; without one it reads what is public. `Connection.retrying` does all
waiting for a lost or busy orchestrator, with jittered exponential back-off (AWS Architecture Blog,
"Exponential Backoff And Jitter"). A refusal comes back as the `MarketError` raised there and is not
retried: repeating it unchanged cannot help. No exception of httpx leaves this file.
"""

import random
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import httpx

from client.address import checked, proxy_to, unanswered
from client.clock import MarketClock
from client.counters import Counters
from client.pace import paced
from client.retry import (
    ENDLESS,
    Backoff,
    GiveUp,
    Lost,
    Patience,
    RetryConfig,
    Unreachable,
    bounded,
    never,
    pause,
    seconds_of,
)
from local.voice import Voice
from protocol import errors
from protocol.errors import Busy, Malformed, MarketError, TokenExpired, TooLarge
from protocol.messages import ErrorBody, Session, SessionRequest
from protocol.signin import SignIn
from protocol.signing import address_of, personal_digest, sign
from protocol.user_error import UserError, one_line

Result = TypeVar("Result")
Transport = httpx.BaseTransport

JSON = "application/json"
BYTES = "application/octet-stream"
NO_CONTENT = 204
PARTIAL_CONTENT = 206
SERVER_ERROR = 500
SERVER_CANNOT = 501
PASSES = (408, 425, 429)
"""Statuses below 500 with which a proxy, too, says to come again."""
BUSY: Mapping[str, Any] = {"how": "is busy", "patience": 10.0}
"""How it is told, once it lasts."""
LATER_SECONDS = 0.5
"""When to ask again if an answer of "nothing now" does not say."""
MAX_ANSWER_BYTES = 64 << 20
"""Most bytes read of an answer; the largest, a page of step records, is a fraction of it."""
MAX_REFUSAL_BYTES = 1 << 16
"""Of a refusal, or of a proxy's page in its place."""
PROXY_413 = ": a proxy before it takes no body of this size (nginx: client_max_body_size)"
REFRESH_SECONDS = 5
"""A token this close to its end is renewed before use instead of being refused."""
PASSING = (
    httpx.NetworkError,
    httpx.TimeoutException,
    httpx.ProxyError,
    httpx.RemoteProtocolError,
)
"""What a restart or a bad line looks like. Other errors of httpx do not pass by waiting."""
FOREIGN = (httpx.HTTPError, httpx.InvalidURL, httpx.CookieConflict, httpx.StreamError)
"""The roots of httpx's exceptions."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A good response, read to its end."""

    status: int
    content: bytes
    headers: Mapping[str, str]

    @property
    def is_empty(self) -> bool:
        return self.status == NO_CONTENT

    def later(self) -> "Later":
        return Later(seconds_of(self.headers.get("Retry-After")) or LATER_SECONDS)


@dataclass(frozen=True, slots=True)
class Later:
    """The orchestrator has nothing now; ask again after `seconds`."""

    seconds: float


class Connection:
    """A connection to one orchestrator; threads may share it. Close it, or use it as a context.

    `chain_id` is the chain that a key signs in for. `transport` stands in for the network, as in httpx.
    Without `tells` it logs nothing: a process that another one speaks for.

    Example:
        with Connection("http://127.0.0.1:8000", key, chain_id=31337) as connection:
            leases = WorkerRoutes(connection).lease(run_id, LeaseRequest(count=16))
    """

    def __init__(
        self,
        url: str,
        key: bytes | None = None,
        *,
        chain_id: int | None = None,
        give_up: GiveUp = never,
        patience: Patience = ENDLESS,
        retry: RetryConfig | None = None,
        counters: Counters | None = None,
        transport: Transport | None = None,
        tells: bool = True,
    ) -> None:
        retry = retry or RetryConfig()
        self.url = checked(url)
        self.address = address_of(key) if key else ""
        self._key = key
        self._chain_id = chain_id
        self._give_up = give_up
        self._patience = patience
        self._tally = counters
        self._backoff = Backoff(retry, random.Random())
        self._endless = httpx.Timeout(retry.timeout_seconds, read=None)
        self._tells = tells and key is not None  # a reader's output is its answer
        self._voice = Voice("orchestrator", at=self.url)
        self.clock = MarketClock(warns=self._tells)
        self._session: Session | None = None
        self._signing_in = threading.Lock()
        with self._mapped():
            self._http = paced(_client(self.url, retry.timeout_seconds, transport))

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, *, give_up: GiveUp | None = None) -> Answer:
        """Read what is public. A path that begins with / is the server's, any other is below v1/."""
        return self.retrying(lambda: self._once("GET", path, give_up=give_up), give_up)

    def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        content_type: str = JSON,
        is_signed: bool = True,
        give_up: GiveUp | None = None,
    ) -> Answer:
        """Send a request, signed in unless it needs no key."""
        once = self._signed_in if is_signed else self._once
        return self.retrying(lambda: once(method, path, body, content_type, give_up), give_up)

    def retrying(self, attempt: Callable[[], Result], give_up: GiveUp | None = None) -> Result:
        """Attempt until there is an answer. Nothing else waits for the orchestrator."""
        since: float | None = None
        for delay in self._backoff.delays():
            try:
                result = attempt()
                self._voice.well()
                return result
            except (Lost, Busy) as error:
                since = time.monotonic() if since is None else since
                if time.monotonic() - since >= self._seconds_for(error):
                    raise
                if self._tally is not None:
                    self._tally.add("retries")
                if self._tells:
                    busy = {} if isinstance(error, Lost) else BUSY
                    self._voice.failed(error, **busy)
                asked = error.retry_after_seconds if isinstance(error, Busy) else None
                pause(max(delay, bounded(asked or 0.0)), give_up or self._give_up, error)
        raise AssertionError("delays have no end")

    @contextmanager
    def exchange(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        is_endless: bool = False,
        give_up: GiveUp | None = None,
    ) -> Iterator[httpx.Response]:
        """Lend one good response, unread; raise the refusal that a bad one carries, or `Unreachable`.

        Nothing is decompressed: limits count the bytes that arrive. `is_endless` is for a stream of
        events, in which silence is no loss.
        """
        plain = {"Accept-Encoding": "identity", **(headers or {})}
        below = path[1:] if path.startswith("/") else f"v1/{path}"
        timeout = self._endless if is_endless else httpx.USE_CLIENT_DEFAULT
        has_begun, asked_at = False, self.clock.local()
        with (
            self._mapped(lambda: has_begun),
            self._http.stream(
                method, below, content=body, headers=plain, timeout=timeout
            ) as response,
        ):
            if "Age" not in response.headers:  # a cache's answer has the date of another
                self.clock.learn(response.headers.get("Date"), asked_at=asked_at)
            if not response.is_success:
                parts = self.parts(response, give_up)
                raise refusal(response, parts)
            has_begun = True
            yield response

    def parts(self, response: httpx.Response, give_up: GiveUp | None = None) -> Iterator[bytes]:
        """Yield a body as it comes; raise `Unreachable` where its reader gives up."""
        received = 0
        for part in response.iter_raw():
            received += len(part)
            if (give_up or self._give_up)():
                raise Unreachable(f"gave up after {received} bytes of {response.url}")
            yield part

    def _once(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        content_type: str = JSON,
        give_up: GiveUp | None = None,
    ) -> Answer:
        return self._answer(method, path, body, {"Content-Type": content_type}, give_up)

    def _signed_in(
        self, method: str, path: str, body: bytes, content_type: str, give_up: GiveUp | None
    ) -> Answer:
        for is_last in (False, True):
            token = self._token()
            headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type}
            try:
                return self._answer(method, path, body, headers, give_up)
            except TokenExpired:
                self._forget(token)
                if is_last:
                    raise
        raise AssertionError("the last refusal is raised")

    def _answer(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        give_up: GiveUp | None,
    ) -> Answer:
        with self.exchange(method, path, body=body, headers=headers, give_up=give_up) as response:
            content = read(response, self.parts(response, give_up), MAX_ANSWER_BYTES)
            return Answer(response.status_code, content, response.headers)

    def _seconds_for(self, error: Lost | Busy) -> float:
        if isinstance(error, Lost) and not error.has_begun:
            return self._patience.silent_seconds
        return self._patience.faltering_seconds

    @contextmanager
    def _mapped(self, has_begun: Callable[[], bool] = never) -> Iterator[None]:
        """Raise httpx's exceptions as this file's."""
        try:
            yield
        except FOREIGN as error:
            text = unanswered(self.url, str(error) or type(error).__name__)
            if isinstance(error, PASSING):
                raise Lost(text, has_begun=has_begun()) from error
            raise Unreachable(text) from error

    def _token(self) -> str:
        with self._signing_in:
            session = self._session
            if session is None or session.expires_at - self.clock.now() < REFRESH_SECONDS:
                session = self._session = self._sign_in()
            return session.token

    def _forget(self, token: str) -> None:
        with self._signing_in:
            if self._session is not None and self._session.token == token:
                self._session = None

    def _sign_in(self) -> Session:
        """Open a session with a fresh nonce: a nonce whose answer was lost cannot be used again."""
        if self._key is None or self._chain_id is None:
            raise UserError(f"{self.url} is asked for what takes a key and its chain")
        base = self._http.base_url
        host = base.netloc.decode()
        now = datetime.now(UTC) + timedelta(seconds=self.clock.offset())
        text = SignIn(
            domain=host,
            address=self.address,
            uri=f"{base.scheme}://{host}",
            chain_id=self._chain_id,
            nonce=secrets.token_hex(12),
            issued_at=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        ).text()
        request = SessionRequest(message=text, signature=sign(self._key, personal_digest(text)))
        return Session.from_json(self._once("POST", "session", request.to_json()).content)


def _client(url: str, timeout: float, transport: Transport | None) -> httpx.Client:
    """Open httpx's client. It opens every proxy of the environment, also those that this address is not asked by."""

    def opened(**how: Any) -> httpx.Client:
        return httpx.Client(base_url=f"{url}/", timeout=timeout, transport=transport, **how)

    try:
        return opened()
    except (*FOREIGN, ImportError, ValueError, OSError) as error:
        if proxy := proxy_to(url):
            what = f"the proxy {proxy} cannot be used ({one_line(error)}): name one of http:// in HTTPS_PROXY or HTTP_PROXY, or"
            raise Unreachable(f"{what} this host in NO_PROXY") from error
        if url.startswith("https:") and isinstance(error, OSError):
            what = f"the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read ({one_line(error)})"
            raise Unreachable(f"{what}: name an authority's file, or unset it") from error
        return opened(trust_env=False)  # what is amiss there is not for this address


def read(response: httpx.Response, parts: Iterable[bytes], most: int) -> bytes:
    """Read a body to its end, whatever length it claims; raise `TooLarge` past `most`."""
    received = bytearray()
    for part in parts:
        received += part
        if len(received) > most:
            raise TooLarge(f"{response.url} answers with more than {most} bytes")
    return bytes(received)


def refusal(response: httpx.Response, parts: Iterable[bytes]) -> MarketError:
    """Return the refusal in a bad answer. A redirect is bad too: it did nothing."""
    try:
        body = ErrorBody.from_json(read(response, parts, MAX_REFUSAL_BYTES))
    except (Malformed, TooLarge):  # a proxy's page, or a process that died halfway
        sent = f" to {response.headers['Location']}" if response.has_redirect_location else ""
        message = (
            f"HTTP {response.status_code}{sent} from {response.url}, not an orchestrator's answer"
        )
        body = ErrorBody(code="", message=f"{message}: check host and port")
        if response.status_code == TooLarge.status:
            body = ErrorBody(code=TooLarge.code, message=message + PROXY_413)
    after = seconds_of(response.headers.get("Retry-After"))
    if body.retry_after_seconds is not None:
        after = bounded(body.retry_after_seconds)
    kind = errors.by_code().get(body.code)
    if kind is None:  # a proxy's answer, or a newer release's code
        status = response.status_code
        passes = status in PASSES or (status >= SERVER_ERROR and status != SERVER_CANNOT)
        kind = Busy if passes else MarketError
    return kind(body.message, retry_after_seconds=after)
