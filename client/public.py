"""Read what is public of an orchestrator: each route as a typed call, blobs checked on arrival.

Blobs are compared with their digest, so their server need not be trusted. A download that breaks off
goes on from where it stopped. Retries are `connection.py`'s.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Self, TypeVar

from client.cache import ContentCache
from client.connection import PARTIAL_CONTENT, Connection, Transport
from client.counters import Counters
from client.retry import GiveUp, Patience, RetryConfig
from protocol.canonical import content_digest
from protocol.errors import Malformed, TooLarge
from protocol.messages import (
    CanaryInfos,
    EpochInfo,
    RunInfo,
    RunList,
    SubmissionStatus,
    VerifierInfo,
    VerifierInfos,
    WorkerInfos,
)
from protocol.policies.lineage import Records
from protocol.policies.manifest import Blob, SignedManifest
from protocol.wire import Wire

Message = TypeVar("Message", bound=Wire)
Fetched = Callable[[str, int, int], None]
"""Progress callback: what is fetched, bytes so far, bytes in all."""

MAX_EPOCH_BYTES = 256 << 20
"""The largest epoch file that signers and auditors read."""
MAX_EVENT_BYTES = 1 << 20
"""One line of the event stream; the longest has a thousandth of it."""
READING = Patience(silent_seconds=0.0, faltering_seconds=15.0)
"""A mistyped address is reported at once; a read outlasts a queue's restart of a second or two."""
BRISK = RetryConfig(first_seconds=0.25, most_seconds=0.5)


class BlobMismatch(Malformed):
    """The bytes served under a digest were not those it names, twice."""


class PublicRoutes:
    """One orchestrator's public side; threads may share it. `connection.py` explains `give_up`.

    Messages come back as served: the caller checks who signed them.
    """

    def __init__(
        self,
        connection: Connection,
        cache: ContentCache | None = None,
        counters: Counters | None = None,
        *,
        fetched: Fetched | None = None,
    ) -> None:
        self.url = connection.url
        self.clock = connection.clock
        self._connection = connection
        self._cache = cache
        self._tally = counters
        self._fetched = fetched

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def telling(self, fetched: Fetched) -> "PublicRoutes":
        """Return the same view, but reporting the progress of a policy's download."""
        return PublicRoutes(self._connection, self._cache, self._tally, fetched=fetched)

    def runs(self, *, give_up: GiveUp | None = None) -> tuple[RunInfo, ...]:
        return self._read("runs", RunList, give_up).runs

    def run(self, run_id: int, *, give_up: GiveUp | None = None) -> RunInfo:
        return self._read(f"runs/{run_id}", RunInfo, give_up)

    def manifest(
        self, run_id: int, version: int, *, give_up: GiveUp | None = None
    ) -> SignedManifest:
        data = self._get(f"runs/{run_id}/policies/{version}", give_up)
        self._count("manifest", len(data))
        return SignedManifest.from_json(data)

    def lineage(self, run_id: int, first: int, last: int) -> Records:
        """Return step records from version `first` on, as many as one answer holds."""
        path = f"runs/{run_id}/lineage?first={first}&last={last}"
        return Records.from_canonical(self._get(path))

    def submission(
        self, run_id: int, work_digest: bytes, *, give_up: GiveUp | None = None
    ) -> SubmissionStatus:
        path = f"runs/{run_id}/submissions/0x{work_digest.hex()}"
        return self._read(path, SubmissionStatus, give_up)

    def epoch(self, run_id: int, epoch: int, *, give_up: GiveUp | None = None) -> EpochInfo:
        return self._read(f"runs/{run_id}/epochs/{epoch}", EpochInfo, give_up)

    def worker(self, address: str, *, give_up: GiveUp | None = None) -> WorkerInfos:
        return self._read(f"workers/{address}", WorkerInfos, give_up)

    def verifiers(self, run_id: int) -> tuple[VerifierInfo, ...]:
        return self._read(f"runs/{run_id}/verifiers", VerifierInfos).verifiers

    def canaries(self, run_id: int, *, give_up: GiveUp | None = None) -> CanaryInfos:
        return self._read(f"runs/{run_id}/canaries", CanaryInfos, give_up)

    def events(self, run_id: int, *, after: str = "") -> Iterator[tuple[str, str]]:
        """Yield a run's events as (id, JSON) while they come (WHATWG HTML, section 9.2).

        Raises `Unreachable` if the stream ends in an error; go on `after` the last id.
        """
        headers = {"Last-Event-ID": after} if after else {}
        path, event_id, data = f"runs/{run_id}/events", "", ""
        with self._connection.exchange("GET", path, headers=headers, is_endless=True) as stream:
            for line in _lines(stream.iter_raw()):
                name, _, value = line.partition(":")
                if name == "id":
                    event_id = value.strip()
                elif name == "data":
                    data = value.strip()
                elif not line and data:
                    yield event_id, data
                    data = ""

    def blob(
        self,
        digest: bytes,
        *,
        max_bytes: int = MAX_EPOCH_BYTES,
        kind: str = "blob",
        give_up: GiveUp | None = None,
    ) -> bytes:
        """Return the bytes that a digest names, from cache or network; count downloads by `kind`.

        Raises `BlobMismatch` if other bytes are served, `TooLarge` past `max_bytes` and
        `NotFound`.
        """
        cached = self._cache.get(digest) if self._cache else None
        if cached is not None and len(cached) <= max_bytes:
            return cached
        for _ in range(2):  # once more from the start: the first half may be another server's
            data = self._download(digest, max_bytes, kind, give_up)
            if content_digest(data) == digest:
                if self._cache:
                    self._cache.put(digest, data)
                return data
        raise BlobMismatch(
            f"{len(data)} bytes were served as 0x{digest.hex()}, whose digest is "
            f"0x{content_digest(data).hex()}: fetch them elsewhere"
        )

    def join(self, chunks: tuple[Blob, ...], *, kind: str, give_up: GiveUp | None = None) -> bytes:
        """Return chunked bytes in one piece."""
        joined, size = bytearray(), sum(chunk.size for chunk in chunks)
        for chunk in chunks:
            data = self.blob(chunk.digest, max_bytes=chunk.size, kind=kind, give_up=give_up)
            if len(data) != chunk.size:
                raise BlobMismatch(f"a chunk has {len(data)} bytes, its manifest says {chunk.size}")
            joined += data
            if self._fetched:
                self._fetched(kind, len(joined), size)
        return bytes(joined)

    def _read(self, path: str, kind: type[Message], give_up: GiveUp | None = None) -> Message:
        data = self._get(path, give_up)
        try:
            return kind.from_json(data)
        except Malformed as error:
            at = f"{self.url}/v1/{path}, not an orchestrator's answer: check host and port"
            raise Malformed(f"{error.message} from {at}") from error

    def _get(self, path: str, give_up: GiveUp | None = None) -> bytes:
        return self._connection.get(path, give_up=give_up).content

    def _count(self, kind: str, num_bytes: int) -> None:
        if self._tally:
            self._tally.add_to("bytes", kind, num_bytes)

    def _download(self, digest: bytes, max_bytes: int, kind: str, give_up: GiveUp | None) -> bytes:
        received = bytearray()
        self._connection.retrying(
            lambda: self._receive(digest, received, max_bytes, kind, give_up), give_up
        )
        return bytes(received)

    def _receive(
        self, digest: bytes, received: bytearray, max_bytes: int, kind: str, give_up: GiveUp | None
    ) -> None:
        """Append to what an earlier attempt received, by asking only for the rest."""
        headers = {"Range": f"bytes={len(received)}-"} if received else {}
        path = f"blobs/0x{digest.hex()}"
        with self._connection.exchange("GET", path, headers=headers, give_up=give_up) as answer:
            if answer.status_code != PARTIAL_CONTENT:
                received.clear()
            for part in self._connection.parts(answer, give_up):
                received += part
                self._count(kind, len(part))
                if len(received) > max_bytes:
                    raise TooLarge(f"0x{digest.hex()} is longer than {max_bytes} bytes")


def require_asked(count: int, most: int, what: str) -> None:
    """Raise `Malformed` where an answer holds more than was asked for: each costs who takes it work and memory."""
    if count > most:
        raise Malformed(f"{count} {what} were handed out where {most} were asked for: take none")


def _lines(parts: Iterable[bytes]) -> Iterator[str]:
    """Cut a stream into lines without inflating it; raise `TooLarge` for a line that does not end."""
    left = b""
    for part in parts:
        *lines, left = (left + part).split(b"\n")
        yield from (line.decode(errors="replace").rstrip("\r") for line in lines)
        if len(left) > MAX_EVENT_BYTES:
            raise TooLarge(f"an event is longer than {MAX_EVENT_BYTES} bytes")


class Reader(PublicRoutes):
    """Anybody's view of an orchestrator, without a key; commands and audits use it.

    Raises the `MarketError` that was answered, or `UserError` if nobody answers.

    Example:
        with Reader("http://127.0.0.1:8000") as reader:
            print(reader.runs())
    """

    def __init__(self, url: str, *, transport: Transport | None = None) -> None:
        super().__init__(Connection(url, patience=READING, retry=BRISK, transport=transport))
