"""Canary workers: committed to, leased to by their share, opened; what old ones wait for."""

from dataclasses import dataclass

from orchestrator.store import keys
from orchestrator.store.queue import Queue
from protocol.checks.canary import CanaryOpening
from protocol.wire import U64, Signature, Wire


class Canary(Wire):
    """A canary worker: what was committed to when, and whether the public knows it by now."""

    opening: CanaryOpening
    committed_at: U64
    signature: Signature
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class CanaryStore:
    queue: Queue

    async def all(self, run_id: int) -> dict[str, Canary]:
        """Return canary workers by address."""
        known = await self.queue.hash(keys.run_prefix(run_id) + "canaries")
        return {worker.decode(): Canary.from_json(raw) for worker, raw in known.items()}

    async def commit(self, run_id: int, canary: Canary) -> tuple[Canary, bool]:
        """Keep the first commitment to a worker; return the one that stands, and whether it is this."""
        key, worker = keys.run_prefix(run_id) + "canaries", canary.opening.worker
        is_news = bool(await self.queue.call("HSETNX", key, worker, canary.to_json()))
        return Canary.from_json(await self.queue.call("HGET", key, worker)), is_news

    async def keep(self, run_id: int, canary: Canary) -> None:
        key = keys.run_prefix(run_id) + "canaries"
        await self.queue.call("HSET", key, canary.opening.worker, canary.to_json())

    async def spent(self, run_id: int) -> frozenset[str]:
        """Return the workers of which a verifier failed a group: they are to be opened."""
        found = await self.queue.call("SMEMBERS", keys.run_prefix(run_id) + "spent_canaries")
        return frozenset(worker.decode() for worker in found)

    async def counts(self, run_id: int) -> tuple[int, int]:
        """Return how many replays were handed out, and how many canary groups came in."""
        state = keys.run_prefix(run_id) + "state"
        handed, sent = await self.queue.call("HMGET", state, "handed", "canaries")
        return int(handed or 0), int(sent or 0)

    async def overdue(self, run_id: int, *, before: float) -> tuple[bytes, ...]:
        """Return canaries that came in before a time and that not all have judged."""
        key = keys.run_prefix(run_id) + "canary_groups"
        found = await self.queue.call("ZRANGEBYSCORE", key, "-inf", before, "LIMIT", 0, 100)
        return tuple(bytes.fromhex(digest.decode()) for digest in found)

    async def forget(self, run_id: int, digest: bytes) -> None:
        """Wait for nobody's answer to a canary any more."""
        await self.queue.call("ZREM", keys.run_prefix(run_id) + "canary_groups", digest.hex())
