"""One wallet's HTTP connection: sign-in, retries, and refusals as the errors they left as.

Every wait for a lost or busy orchestrator happens in `Connection.retrying`, with jittered exponential
back-off (AWS Architecture Blog, "Exponential Backoff And Jitter"). A refusal comes back as its
`MarketError` and is never retried here: repeating it unchanged cannot help.
"""

import random
import secrets
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import urlsplit

import httpx

from client.retry import Backoff, RetryConfig
from client.tally import Tally
from protocol import errors
from protocol.errors import Busy, Malformed, MarketError, TokenExpired
from protocol.messages import ErrorBody, Session, SessionRequest
from protocol.signin import SignIn
from protocol.signing import address_of, personal_digest, sign
from protocol.wire import Wire

Result = TypeVar("Result")
GiveUp = Callable[[], bool]
"""Asked while the orchestrator is out of reach: True ends the retries with `Unreachable`."""

SERVER_ERROR = 500
REFRESH_SECONDS = 5
"""A token this close to its end is renewed before use instead of being refused."""


class Unreachable(Exception):
    """The orchestrator did not answer before the caller gave up."""


def never() -> bool:
    """Keep trying for as long as it takes."""
    return False


class Connection:
    """One wallet's connection to one orchestrator; threads may share it."""

    def __init__(
        self,
        url: str,
        key: bytes,
        *,
        chain_id: int,
        tally: Tally,
        retry: RetryConfig | None = None,
        draw: random.Random | None = None,
    ) -> None:
        retry = retry or RetryConfig()
        self.address = address_of(key)
        self.http = httpx.Client(base_url=f"{url.rstrip('/')}/v1/", timeout=retry.timeout_seconds)
        self._key = key
        self._chain_id = chain_id
        self._tally = tally
        self._backoff = Backoff(retry, draw or random.Random())
        self._session: Session | None = None
        self._signing_in = threading.Lock()

    def close(self) -> None:
        self.http.close()

    def read(self, path: str, give_up: GiveUp) -> bytes:
        return self.retrying(lambda: checked(self.http.get(path)), give_up).content

    def post(self, path: str, message: Wire, give_up: GiveUp) -> httpx.Response:
        body = message.to_json()
        return self.retrying(lambda: self.signed_in("POST", path, body), give_up)

    def retrying(self, attempt: Callable[[], Result], give_up: GiveUp) -> Result:
        """Attempt until there is an answer; the only place that waits for the orchestrator."""
        for delay in self._backoff.delays():
            try:
                return attempt()
            except (httpx.TransportError, Busy) as error:
                asked = error.retry_after_seconds if isinstance(error, Busy) else None
                self._tally.add("retries")
                _pause(max(delay, asked or 0.0), give_up, error)
        raise AssertionError("delays have no end")

    def signed_in(
        self, method: str, path: str, body: bytes = b"", content_type: str = "application/json"
    ) -> httpx.Response:
        for is_last in (False, True):
            token = self._token()
            headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type}
            try:
                return checked(self.http.request(method, path, content=body, headers=headers))
            except TokenExpired:
                self._forget(token)
                if is_last:
                    raise
        raise AssertionError("the last refusal is raised")

    def _token(self) -> str:
        with self._signing_in:
            session = self._session
            if session is None or session.expires_at - time.time() < REFRESH_SECONDS:
                session = self._session = self._sign_in()
            return session.token

    def _forget(self, token: str) -> None:
        with self._signing_in:
            if self._session is not None and self._session.token == token:
                self._session = None

    def _sign_in(self) -> Session:
        """Open a session with a fresh nonce: one whose answer was lost cannot be used again."""
        base = urlsplit(str(self.http.base_url))
        text = SignIn(
            domain=base.netloc,
            address=self.address,
            uri=f"{base.scheme}://{base.netloc}",
            chain_id=self._chain_id,
            nonce=secrets.token_hex(12),
            issued_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        ).text()
        request = SessionRequest(message=text, signature=sign(self._key, personal_digest(text)))
        headers = {"Content-Type": "application/json"}
        answer = checked(self.http.post("session", content=request.to_json(), headers=headers))
        return Session.from_json(answer.content)


def checked(answer: httpx.Response) -> httpx.Response:
    """Return a good answer; raise the refusal that a bad one carries."""
    if not answer.is_error:
        return answer
    try:
        body = ErrorBody.from_json(answer.content)
    except Malformed:
        body = ErrorBody(code="", message=f"HTTP {answer.status_code} from {answer.request.url}")
    after = body.retry_after_seconds
    if after is None:
        after = seconds_of(answer.headers.get("Retry-After"))
    kind = errors.by_code().get(body.code)
    if kind is None:  # a proxy's answer, or a newer release's code
        kind = Busy if answer.status_code >= SERVER_ERROR else MarketError
    raise kind(body.message, retry_after_seconds=after)


def seconds_of(text: str | None) -> float | None:
    try:
        return None if text is None else max(0.0, float(text))
    except ValueError:
        return None  # an HTTP date: the back-off's own delay serves


def _pause(seconds: float, give_up: GiveUp, error: Exception) -> None:
    """Sleep in short slices, so that giving up is noticed."""
    until = time.monotonic() + seconds
    while True:
        if give_up():
            raise Unreachable(f"gave up waiting for the orchestrator: {error}") from error
        left = until - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, 0.2))
