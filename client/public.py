"""What anyone may read of a market over HTTP. No key, no state."""

import time
from typing import TypeVar

import httpx

from protocol.errors import Busy, MarketError, by_code
from protocol.messages import (
    EpochInfo,
    ErrorBody,
    RunInfo,
    RunList,
    SubmissionStatus,
    VerifierInfo,
    VerifierInfos,
    WorkerInfos,
)
from protocol.policies.lineage import Records
from protocol.policies.manifest import SignedManifest
from protocol.user_error import UserError
from protocol.wire import Wire

Message = TypeVar("Message", bound=Wire)

PATIENCE_SECONDS = 15.0
"""How long a reader asks again where the orchestrator's queue is away: Redis is back from a restart in
a second or two, and a report of thousands of reads must not fail on the one that met it. So too
for who asks faster than the limits."""
PAUSE_SECONDS = 0.25


class Reader:
    """A public view of one orchestrator.

    Raises the `MarketError` that the orchestrator answered, `Busy` only after `PATIENCE_SECONDS`, and
    `UserError` where none answers.
    """

    def __init__(self, orchestrator: str) -> None:
        self.url = orchestrator.rstrip("/")
        self._http = httpx.Client(base_url=f"{self.url}/v1", timeout=20.0)

    def runs(self) -> tuple[RunInfo, ...]:
        return self._read("/runs", RunList).runs

    def run(self, run_id: int) -> RunInfo:
        return self._read(f"/runs/{run_id}", RunInfo)

    def policy(self, run_id: int, version: int) -> SignedManifest:
        return self._read(f"/runs/{run_id}/policies/{version}", SignedManifest)

    def lineage(self, run_id: int, first: int, last: int) -> Records:
        """Return step records from version `first` on, as many as one answer holds."""
        path = f"/runs/{run_id}/lineage?first={first}&last={last}"
        return Records.from_canonical(self._get(path).content)

    def submission(self, run_id: int, work_digest: bytes) -> SubmissionStatus:
        return self._read(f"/runs/{run_id}/submissions/0x{work_digest.hex()}", SubmissionStatus)

    def epoch(self, run_id: int, number: int) -> EpochInfo:
        return self._read(f"/runs/{run_id}/epochs/{number}", EpochInfo)

    def verifiers(self, run_id: int) -> tuple[VerifierInfo, ...]:
        return self._read(f"/runs/{run_id}/verifiers", VerifierInfos).verifiers

    def worker(self, address: str) -> WorkerInfos:
        return self._read(f"/workers/{address}", WorkerInfos)

    def blob(self, digest: bytes) -> bytes:
        """Return a blob's bytes; whoever uses them checks the digest."""
        return self._get(f"/blobs/0x{digest.hex()}").content

    def _read(self, path: str, kind: type[Message]) -> Message:
        return kind.from_json(self._get(path).content)

    def _get(self, path: str) -> httpx.Response:
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self._get_once(path)
            except Busy:
                if time.monotonic() >= give_up_at:
                    raise
            time.sleep(PAUSE_SECONDS)

    def _get_once(self, path: str) -> httpx.Response:
        try:
            response = self._http.get(path)
        except httpx.HTTPError as error:
            raise UserError(
                f"no orchestrator answers at {self.url} ({error or type(error).__name__}): check "
                "the address, or start one with `rollcall serve`"
            ) from error
        if response.is_success:
            return response
        try:
            body = ErrorBody.from_json(response.content)
        except MarketError as error:
            raise UserError(f"{self.url}{path} answers {response.status_code}") from error
        raise by_code().get(body.code, MarketError)(body.message)
