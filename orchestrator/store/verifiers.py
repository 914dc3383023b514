"""Verifiers: what they are handed, how they judged, and who has lost its vote."""

from dataclasses import dataclass

from orchestrator.store import keys
from orchestrator.store.queue import Queue
from orchestrator.store.records import VerifierRecord

HANDED_SECONDS = keys.HANDED_SECONDS


@dataclass(frozen=True, slots=True)
class VerifierStore:
    queue: Queue

    async def take_audits(
        self,
        run_id: int,
        verifier: str,
        count: int,
        *,
        verifiers: tuple[str, ...],
        seconds: float,
        now: float,
    ) -> tuple[bytes, ...]:
        """Hand up to `count` replays to a verifier, for so many seconds; return their groups' digests."""
        digests = await self.queue.script(
            "take_audits",
            run_id,
            *(verifier, count, now, seconds, " ".join(verifiers)),
            *(keys.ASKED_SECONDS, keys.HANDED_SECONDS),
        )
        return tuple(bytes.fromhex(digest.decode()) for digest in digests)

    async def record(self, run_id: int, verifier: str) -> VerifierRecord:
        """Return how a verifier has judged."""
        return VerifierRecord.of(
            await self.queue.hash(f"{keys.run_prefix(run_id)}verifier:{verifier}")
        )

    async def voteless(self, run_id: int) -> frozenset[str]:
        """Return the verifiers that lost their vote to a canary."""
        found = await self.queue.call("SMEMBERS", keys.run_prefix(run_id) + "voteless")
        return frozenset(verifier.decode() for verifier in found)
