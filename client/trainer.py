"""The trainer's side of the orchestrator's routes. The one door for httpx, and the one place of retries.

A lost connection, a restart or a full orchestrator is waited out with jittered back-off for as long as
the trainer runs; a refusal is raised as the error that its code names. Sessions are renewed when the
orchestrator no longer knows them.
"""

import random
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import httpx
import structlog

from protocol import signing
from protocol.canonical import content_digest
from protocol.constants import MAX_SUBMISSION_BYTES
from protocol.errors import (
    Busy,
    Malformed,
    MarketError,
    NotFound,
    TokenExpired,
    TooLarge,
    by_code,
)
from protocol.messages import (
    Batch,
    BatchRequest,
    ErrorBody,
    PolicyPublication,
    RunInfo,
    Session,
    SessionRequest,
)
from protocol.policies import patch
from protocol.policies.manifest import MAX_CHUNK_BYTES, Blob, SignedManifest
from protocol.signin import SignIn

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0
MAX_SIGN_INS = 3
"""In a row, for one request: more means that the orchestrator will not have this key."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response read to its end."""

    status: int
    content: bytes
    retry_after_seconds: float | None


class Stopped(Exception):
    """The process was asked to end while it waited."""


class Client:
    """One trainer's connection to one run. Close it, or use it as a context manager."""

    def __init__(
        self, url: str, run_id: int, key: bytes, *, stop: threading.Event, poll_seconds: float
    ) -> None:
        self._http = httpx.Client(base_url=url.rstrip("/") + "/v1", timeout=30.0)
        self._run_id = run_id
        self._key = key
        self._stop = stop
        self._poll_seconds = poll_seconds
        self._random = random.Random()
        self._token: str | None = None
        self._chain_id: int | None = None
        self._log = structlog.get_logger()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def run(self) -> RunInfo:
        """Return the run's terms and state."""
        info = RunInfo.from_json(self._send("GET", self._path("")).content)
        self._chain_id = info.chain_id
        return info

    def batch(self, step: int) -> Batch:
        """Wait for the batch of `step`; raise `Stopped` where the process is to end first."""
        body = BatchRequest(step=step).to_json()
        self.pause(0)  # a trainer that never waits is stopped here
        while True:
            answer = self._send("POST", self._path("/batches"), json=body)
            if answer.status != httpx.codes.NO_CONTENT:
                break
            self.pause(answer.retry_after_seconds or self._poll_seconds)
        batch = Batch.from_json(answer.content)
        if (batch.run_id, batch.step) != (self._run_id, step):
            raise Malformed(f"asked for step {step}, got step {batch.step} of run {batch.run_id}")
        return batch

    def ack(self, step: int) -> None:
        """Say that the checkpoint made of `step` is durable."""
        self._send("POST", self._path(f"/batches/{step}/ack"))

    def policy(self, version: int) -> SignedManifest | None:
        """Return the published manifest of `version`, or None where there is none."""
        try:
            answer = self._send("GET", self._path(f"/policies/{version}"))
        except NotFound:
            return None
        return SignedManifest.from_json(answer.content)

    def publish(self, signed: SignedManifest) -> None:
        """Publish a policy whose blobs have been put."""
        body = PolicyPublication(signed=signed).to_json()
        self._send("POST", self._path("/policies"), json=body)

    def put_blob(self, data: bytes) -> Blob:
        """Store immutable bytes under their digest; doing it again changes nothing."""
        digest = content_digest(data)
        self._send("PUT", f"/blobs/0x{digest.hex()}", data=data)
        return Blob(digest=digest, size=len(data))

    def blob(self, digest: bytes, *, max_bytes: int) -> bytes:
        """Return the bytes of that digest; whoever served them need not be trusted."""
        data = self._send("GET", f"/blobs/0x{digest.hex()}", max_bytes=max_bytes).content
        if content_digest(data) != digest:
            raise Malformed(f"the bytes served for blob 0x{digest.hex()} are others")
        return data

    def body(self, digest: bytes) -> bytes:
        """Return a submission's compressed body."""
        return self.blob(digest, max_bytes=MAX_SUBMISSION_BYTES)

    def joined(self, chunks: tuple[Blob, ...]) -> bytes:
        """Return an anchor or a patch from its chunks."""
        parts = [self.blob(chunk.digest, max_bytes=MAX_CHUNK_BYTES) for chunk in chunks]
        return patch.join(parts, chunks)

    def _path(self, rest: str) -> str:
        return f"/runs/{self._run_id}{rest}"

    def _send(
        self,
        method: str,
        path: str,
        *,
        json: bytes | None = None,
        data: bytes | None = None,
        max_bytes: int | None = None,
    ) -> Answer:
        """Send until an answer comes; raise what a refusal's code names."""
        is_signed = method != "GET"
        sign_ins = 0
        for delay in self._delays():
            try:
                if is_signed and self._token is None:
                    self._sign_in()
                return self._once(method, path, json, data, max_bytes)
            except TokenExpired:
                self._token = None
                sign_ins += 1
                if sign_ins == MAX_SIGN_INS:
                    raise
            except Busy as busy:
                self.pause(busy.retry_after_seconds or delay)
            except httpx.TransportError as error:
                self._log.warning("orchestrator not reached", path=path, error=repr(error))
                self.pause(delay)
        raise AssertionError("unreachable: delays do not end")

    def _once(
        self, method: str, path: str, json: bytes | None, data: bytes | None, max_bytes: int | None
    ) -> Answer:
        headers = {}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if json is not None:
            headers["Content-Type"] = "application/json"
        elif data is not None:
            headers["Content-Type"] = "application/octet-stream"
        content = json if json is not None else data
        with self._http.stream(method, path, headers=headers, content=content) as response:
            answer = Answer(
                status=response.status_code,
                content=_read(response, max_bytes),
                retry_after_seconds=_retry_after(response),
            )
        _raise_for_refusal(answer)
        return answer

    def _sign_in(self) -> None:
        """Sign the EIP-4361 text with a nonce of our own, and keep the token."""
        if self._chain_id is None:
            self.run()
        assert self._chain_id is not None
        host = self._http.base_url.netloc.decode()
        text = SignIn(
            domain=host,
            address=signing.address_of(self._key),
            uri=f"{self._http.base_url.scheme}://{host}",
            chain_id=self._chain_id,
            nonce=secrets.token_hex(8),
            issued_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        ).text()
        signature = signing.sign(self._key, signing.personal_digest(text))
        body = SessionRequest(message=text, signature=signature).to_json()
        answer = self._once("POST", "/session", body, None, None)
        self._token = Session.from_json(answer.content).token

    def _delays(self) -> Iterator[float]:
        """Yield growing delays, each drawn from [half, whole] so that clients do not march in step."""
        delay = FIRST_DELAY_SECONDS
        while True:
            yield delay * self._random.uniform(0.5, 1.0)
            delay = min(2 * delay, LONGEST_DELAY_SECONDS)

    def pause(self, seconds: float) -> None:
        """Wait; raise `Stopped` where the process is to end first."""
        if self._stop.wait(seconds):
            raise Stopped


def _read(response: httpx.Response, max_bytes: int | None) -> bytes:
    """Read a body to its end, refusing one that turns out larger than it may be."""
    parts, size = [], 0
    for part in response.iter_bytes():
        size += len(part)
        if max_bytes is not None and size > max_bytes:
            raise TooLarge(f"more than {max_bytes} bytes in answer to {response.url.path}")
        parts.append(part)
    return b"".join(parts)


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return max(0.05, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):
        return None


def _raise_for_refusal(answer: Answer) -> None:
    if answer.status < 400:
        return
    try:
        body = ErrorBody.from_json(answer.content)
    except Malformed:
        # A proxy's page, or a process that died halfway: not an answer of the orchestrator.
        body = ErrorBody(code="", message=f"status {answer.status} without an error body")
    known: Mapping[str, type[MarketError]] = by_code()
    unknown = Busy if answer.status >= 500 else MarketError
    delay = body.retry_after_seconds or answer.retry_after_seconds
    raise known.get(body.code, unknown)(body.message, retry_after_seconds=delay)
