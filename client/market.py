"""The one door to an orchestrator: every route as a typed call, and blobs checked on arrival.

Blobs are held against their digest, so whoever serves them need not be trusted. A download that
breaks off goes on from where it stopped. Retries and sign-in are `connection.py`'s.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from client.cache import ContentCache
from client.connection import Connection, GiveUp, checked, never, seconds_of
from client.retry import RetryConfig
from client.tally import Tally
from protocol.canonical import content_digest
from protocol.errors import TooLarge
from protocol.messages import (
    AuditRequest,
    AuditTasks,
    CanaryInfos,
    EpochInfo,
    EpochSignature,
    FraudReportSignature,
    FraudReportTasks,
    LeaseRequest,
    Leases,
    ReturnedLeases,
    RunInfo,
    RunList,
    SelfCheck,
    SubmissionStatus,
    VerdictReply,
    WorkerInfos,
)
from protocol.policies.manifest import Blob, SignedManifest
from protocol.rollout import Receipt
from protocol.verdict import Verdict

NO_CONTENT = 204
PARTIAL_CONTENT = 206


class BlobMismatch(Exception):
    """What was served under a digest is not what the digest names, twice."""


@dataclass(frozen=True, slots=True)
class Later:
    """The market has nothing now; ask again after `seconds`."""

    seconds: float


class Market:
    """One wallet's view of one orchestrator; threads may share it.

    Example:
        market = Market(Connection("http://127.0.0.1:8000", key, chain_id=31337, tally=tally), cache,
                        tally)
        leases = market.lease(run_id, LeaseRequest(count=16), give_up=stop.is_set)
    """

    def __init__(self, connection: Connection, cache: ContentCache, tally: Tally) -> None:
        self.address = connection.address
        self._connection = connection
        self._cache = cache
        self._tally = tally

    # what anyone may read

    def runs(self, *, give_up: GiveUp = never) -> tuple[RunInfo, ...]:
        return RunList.from_json(self._connection.read("runs", give_up)).runs

    def run(self, run_id: int, *, give_up: GiveUp = never) -> RunInfo:
        return RunInfo.from_json(self._connection.read(f"runs/{run_id}", give_up))

    def manifest(self, run_id: int, version: int, *, give_up: GiveUp = never) -> SignedManifest:
        """Return the manifest of one version as served: the caller checks who signed it."""
        data = self._connection.read(f"runs/{run_id}/policies/{version}", give_up)
        self._tally.add_to("bytes", "manifest", len(data))
        return SignedManifest.from_json(data)

    def submission(
        self, run_id: int, work_digest: bytes, *, give_up: GiveUp = never
    ) -> SubmissionStatus:
        path = f"runs/{run_id}/submissions/0x{work_digest.hex()}"
        return SubmissionStatus.from_json(self._connection.read(path, give_up))

    def epoch(self, run_id: int, epoch: int, *, give_up: GiveUp = never) -> EpochInfo:
        return EpochInfo.from_json(self._connection.read(f"runs/{run_id}/epochs/{epoch}", give_up))

    def worker(self, address: str, *, give_up: GiveUp = never) -> WorkerInfos:
        return WorkerInfos.from_json(self._connection.read(f"workers/{address}", give_up))

    def blob(self, digest: bytes, *, max_bytes: int, kind: str, give_up: GiveUp = never) -> bytes:
        """Return the bytes a digest names, from the cache or the network; count those by `kind`.

        Raises `BlobMismatch` where other bytes are served, `TooLarge` past `max_bytes` and
        `NotFound`.
        """
        cached = self._cache.get(digest)
        if cached is not None and len(cached) <= max_bytes:
            return cached
        for _ in range(2):  # once more from the start: the first half may be another server's
            data = self._download(digest, max_bytes, kind, give_up)
            if content_digest(data) == digest:
                self._cache.put(digest, data)
                return data
        raise BlobMismatch(
            f"{len(data)} bytes were served as 0x{digest.hex()}, whose digest is "
            f"0x{content_digest(data).hex()}: fetch them elsewhere"
        )

    def join(self, chunks: tuple[Blob, ...], *, kind: str, give_up: GiveUp = never) -> bytes:
        """Return chunked bytes in one piece."""
        parts = []
        for chunk in chunks:
            data = self.blob(chunk.digest, max_bytes=chunk.size, kind=kind, give_up=give_up)
            if len(data) != chunk.size:
                raise BlobMismatch(f"a chunk has {len(data)} bytes, its manifest says {chunk.size}")
            parts.append(data)
        return b"".join(parts)

    def canaries(self, run_id: int, *, give_up: GiveUp = never) -> CanaryInfos:
        return CanaryInfos.from_json(self._connection.read(f"runs/{run_id}/canaries", give_up))

    # a worker's life

    def lease(
        self, run_id: int, request: LeaseRequest, *, give_up: GiveUp = never
    ) -> Leases | Later:
        """Ask for leases. Ones granted in an answer that got lost expire at their deadline."""
        answer = self._connection.post(f"runs/{run_id}/leases", request, give_up)
        return _later(answer) or Leases.from_json(answer.content)

    def self_check(self, run_id: int, found: SelfCheck, *, give_up: GiveUp = never) -> None:
        """Say what this machine measured of itself, so that a pause ends."""
        self._connection.post(f"runs/{run_id}/self-check", found, give_up)

    def return_leases(
        self, run_id: int, lease_ids: tuple[bytes, ...], *, give_up: GiveUp = never
    ) -> None:
        self._connection.post(
            f"runs/{run_id}/leases/return", ReturnedLeases(lease_ids=lease_ids), give_up
        )

    def submit(self, run_id: int, body: bytes, *, give_up: GiveUp = never) -> Receipt:
        """Send a compressed submission. Repeating it is safe: the receipt is the same."""
        answer = self._connection.retrying(
            lambda: self._connection.signed_in(
                "POST", f"runs/{run_id}/submissions", body, "application/octet-stream"
            ),
            give_up,
        )
        return Receipt.from_json(answer.content)

    # a verifier's life

    def audits(self, run_id: int, count: int, *, give_up: GiveUp = never) -> AuditTasks | Later:
        answer = self._connection.post(f"runs/{run_id}/audits", AuditRequest(count=count), give_up)
        return _later(answer) or AuditTasks.from_json(answer.content)

    def verdict(
        self, run_id: int, audit_id: bytes, verdict: Verdict, *, give_up: GiveUp = never
    ) -> VerdictReply:
        path = f"runs/{run_id}/audits/0x{audit_id.hex()}/verdict"
        return VerdictReply.from_json(self._connection.post(path, verdict, give_up).content)

    def fraud_reports(self, run_id: int, *, give_up: GiveUp = never) -> FraudReportTasks:
        answer = self._connection.retrying(
            lambda: self._connection.signed_in("GET", f"runs/{run_id}/fraud-reports"), give_up
        )
        return FraudReportTasks.from_json(answer.content)

    def sign_fraud_report(
        self, run_id: int, signed: FraudReportSignature, *, give_up: GiveUp = never
    ) -> None:
        path = f"runs/{run_id}/fraud-reports/0x{signed.work_digest.hex()}"
        self._connection.post(path, signed, give_up)

    def sign_epoch(
        self, run_id: int, epoch: int, signature: bytes, *, give_up: GiveUp = never
    ) -> None:
        path = f"runs/{run_id}/epochs/{epoch}/signatures"
        self._connection.post(path, EpochSignature(signature=signature), give_up)

    def _download(self, digest: bytes, max_bytes: int, kind: str, give_up: GiveUp) -> bytes:
        received = bytearray()
        self._connection.retrying(lambda: self._receive(digest, received, max_bytes, kind), give_up)
        return bytes(received)

    def _receive(self, digest: bytes, received: bytearray, max_bytes: int, kind: str) -> None:
        """Append to what an earlier attempt received, by asking only for the rest."""
        headers = {"Accept-Encoding": "identity"}
        if received:
            headers["Range"] = f"bytes={len(received)}-"
        with self._connection.http.stream(
            "GET", f"blobs/0x{digest.hex()}", headers=headers
        ) as answer:
            if answer.is_error:
                answer.read()
            checked(answer)
            if answer.status_code != PARTIAL_CONTENT:
                received.clear()
            for part in answer.iter_raw():
                received += part
                self._tally.add_to("bytes", kind, len(part))
                if len(received) > max_bytes:
                    raise TooLarge(f"0x{digest.hex()} is longer than {max_bytes} bytes")


@contextmanager
def open_market(
    url: str, key: bytes, *, chain_id: int, tally: Tally, retry: RetryConfig, cache: ContentCache
) -> Iterator[Market]:
    """Connect a wallet, and close its connection whatever happens."""
    connection = Connection(url, key, chain_id=chain_id, tally=tally, retry=retry)
    try:
        yield Market(connection, cache, tally)
    finally:
        connection.close()


def _later(answer: httpx.Response) -> Later | None:
    if answer.status_code != NO_CONTENT:
        return None
    return Later(seconds_of(answer.headers.get("Retry-After")) or 0.5)
