"""Policy versions: their manifests, and the records of the steps that made them."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.store import keys
from orchestrator.store.queue import Queue
from protocol.policies.manifest import SignedManifest


@dataclass(frozen=True, slots=True)
class PolicyStore:
    queue: Queue

    async def newest(self, run_id: int) -> int | None:
        """Return the newest version, or None before version 0."""
        found = await self.queue.call("HGET", keys.run_prefix(run_id) + "state", "newest")
        return None if found is None else int(found)

    async def manifest(self, run_id: int, version: int | str) -> bytes | None:
        """Return a version's signed manifest as JSON."""
        found: bytes | None = await self.queue.call(
            "HGET", keys.run_prefix(run_id) + "policies", version
        )
        return found

    async def publish(
        self, run_id: int, signed: SignedManifest, *, max_staleness: int, event: str
    ) -> int:
        """Publish the next version and forget work that is too old for it; return the newest version."""
        manifest = signed.manifest
        newest = await self.queue.script(
            "publish",
            run_id,
            *(manifest.version, signed.to_json(), max_staleness, keys.NUM_EVENTS_KEPT, event),
            manifest.lineage,
        )
        return int(newest)

    async def step_record(self, run_id: int, version: int) -> bytes | None:
        """Return the digest of a version's step record."""
        return (await self.step_records(run_id, (version,)))[0]

    async def step_records(self, run_id: int, versions: Sequence[int]) -> list[bytes | None]:
        found: list[bytes | None] = await self.queue.call(
            "HMGET", keys.run_prefix(run_id) + "lineage", *versions
        )
        return found
