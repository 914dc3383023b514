"""What the test of withholding compares: rewards by policy version and worker, and who is due for a look."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.store import keys
from orchestrator.store.queue import Queue
from protocol.checks.withholding import Tally


@dataclass(frozen=True, slots=True)
class VersionTally:
    """One policy version's tallies by worker, and its leases that are undecided."""

    num_open: int
    workers: dict[str, Tally]


@dataclass(frozen=True, slots=True)
class TallyStore:
    queue: Queue

    async def due(self, run_id: int) -> dict[str, int]:
        """Return the workers that are due for a look, with their number of accepted groups at which they were."""
        found = await self.queue.call(
            "ZRANGE", keys.run_prefix(run_id) + "looks", 0, -1, "WITHSCORES"
        )
        return {worker.decode(): int(count) for worker, count in found}

    async def looked_at(self, run_id: int, worker: str, count: int) -> None:
        """Note that a worker was looked at which was due at `count`, unless it is due again by now."""
        await self.queue.script("looked_at", run_id, worker, count)

    async def num_rewarded(self, run_id: int, worker: str) -> int:
        """Return the worker's accepted groups with a reward."""
        key = f"{keys.run_prefix(run_id)}worker:{worker}"
        return int(await self.queue.call("HGET", key, "rewarded") or 0)

    async def of_versions(self, run_id: int, versions: Iterable[int]) -> dict[int, VersionTally]:
        ordered, prefix = list(versions), keys.run_prefix(run_id)
        found = await self.queue.pipeline(
            [("HGETALL", f"{prefix}rewards:{version}") for version in ordered]
        )
        return {
            version: VersionTally(int(fields.get(b"open", 0)), _by_worker(fields))
            for version, fields in zip(ordered, found, strict=True)
        }

    async def withhold(self, run_id: int, worker: str, reason: str, event: str) -> bool:
        """Exclude a worker that keeps groups back, who stays owed; return whether that is news."""
        arguments = (worker, reason, keys.NUM_EVENTS_KEPT, event)
        return bool(await self.queue.script("withhold", run_id, *arguments))


def _by_worker(fields: dict[bytes, bytes]) -> dict[str, Tally]:
    raw: dict[str, dict[str, int]] = defaultdict(dict)
    for name, value in fields.items():
        worker, _, what = name.decode().partition(":")
        if what:
            raw[worker][what] = int(value)
    return {
        worker: Tally(
            num_leased=counts.get("leased", 0),
            num_finished=counts.get("finished", 0),
            reward_sum=counts.get("sum", 0),
            reward_squares=counts.get("squares", 0),
        )
        for worker, counts in raw.items()
    }
