"""Fraud reports, their signatures, and the verifiers that are to be reported."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from orchestrator.store import keys
from orchestrator.store.queue import Queue
from protocol.messages import FraudReportTask


class Report(FraudReportTask):
    """A fraud report: what verifiers sign, and how far it has gone on chain."""

    stage: Annotated[str, Field(pattern="^(signing|proposed|executed|dismissed)$")] = "signing"


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """A verifier failed a second canary with its verdict on this group."""

    work_digest: bytes
    verifier: str

    @property
    def key(self) -> str:
        """The name of its report, and of its entry among those that wait."""
        return f"{self.work_digest.hex()}:{self.verifier}"


@dataclass(frozen=True, slots=True)
class ReportStore:
    queue: Queue

    async def all(self, run_id: int) -> dict[str, Report]:
        """Return reports by key: the work's digest, and the verifier's address where one is accused."""
        found = await self.queue.hash(keys.run_prefix(run_id) + "reports")
        return {key.decode(): Report.from_json(found[key]) for key in sorted(found)}

    async def start(self, run_id: int, key: str, report: Report) -> None:
        """Keep a report, where there is none under its key."""
        await self.queue.call("HSETNX", keys.run_prefix(run_id) + "reports", key, report.to_json())

    async def keep(self, run_id: int, key: str, report: Report) -> None:
        await self.queue.call("HSET", keys.run_prefix(run_id) + "reports", key, report.to_json())

    async def sign(self, run_id: int, key: str, verifier: str, signature: bytes) -> None:
        await self.queue.call("HSET", _accused(run_id, key), verifier, signature)

    async def signatures(self, run_id: int, key: str) -> dict[bytes, bytes]:
        return await self.queue.hash(_accused(run_id, key))

    async def accusations(self, run_id: int) -> tuple[CanaryReport, ...]:
        """Return the verifiers that are to be reported."""
        found = []
        for entry in await self.queue.call("SMEMBERS", keys.run_prefix(run_id) + "accusations"):
            digest, _, verifier = entry.decode().partition(":")
            found.append(CanaryReport(bytes.fromhex(digest), verifier))
        return tuple(found)

    async def settle_accusation(self, run_id: int, accusation: CanaryReport) -> None:
        await self.queue.call("SREM", keys.run_prefix(run_id) + "accusations", accusation.key)


def _accused(run_id: int, key: str) -> str:
    return f"{keys.run_prefix(run_id)}accused:{key}"
