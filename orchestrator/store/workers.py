"""Workers: their standing, who is at work with how much at stake, pauses."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestrator.store import keys
from orchestrator.store.queue import Queue

REJECTED = b"rejected:"


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A worker's standing in a run. A canary worker's groups count as anyone sees them."""

    accepted_groups: int
    accepted_tokens: int
    rejected_by_reason: dict[str, int]
    is_excluded: bool
    excluded_for: str
    """Empty for false work."""
    paused: str
    """What its sequential test found; empty where it may lease."""
    num_dropped: int
    drop_debt: int
    earned: int
    last_settled: int

    @classmethod
    def of(cls, fields: Mapping[bytes, bytes]) -> "WorkerRecord":
        """Read the hash."""

        def number(*names: bytes) -> int:
            return sum(int(fields.get(name, 0)) for name in names)

        return cls(
            accepted_groups=number(b"accepted_groups", b"canaries"),
            accepted_tokens=number(b"accepted_tokens", b"canary_tokens"),
            rejected_by_reason={
                name.removeprefix(REJECTED).decode(): int(count)
                for name, count in fields.items()
                if name.startswith(REJECTED)
            },
            is_excluded=fields.get(b"excluded") == b"1",
            excluded_for=fields.get(b"excluded_for", b"").decode(),
            paused=fields.get(b"paused", b"").decode(),
            num_dropped=number(b"dropped"),
            drop_debt=number(b"drop_debt"),
            earned=number(b"earned"),
            last_settled=number(b"settled"),
        )


@dataclass(frozen=True, slots=True)
class WorkerStore:
    queue: Queue

    async def all(self, run_id: int) -> tuple[str, ...]:
        """Return all that ever had a lease."""
        found = await self.queue.call("SMEMBERS", keys.run_prefix(run_id) + "workers")
        return tuple(worker.decode() for worker in found)

    async def record(self, run_id: int, worker: str) -> WorkerRecord | None:
        """Return what is kept of a worker, or None of one that never had a lease."""
        fields = await self.queue.hash(f"{keys.run_prefix(run_id)}worker:{worker}")
        return WorkerRecord.of(fields) if fields else None

    async def num_waiting(self, run_id: int, worker: str) -> int:
        """Return how many of a worker's groups wait for verdicts."""
        return int(await self.queue.call("SCARD", f"{keys.run_prefix(run_id)}replay:{worker}"))

    async def waiting(self, run_id: int, worker: str) -> tuple[int, int]:
        """Return how many of a worker's groups wait for verdicts, and their tokens."""
        prefix = keys.run_prefix(run_id)
        digests = await self.queue.call("SMEMBERS", f"{prefix}replay:{worker}")
        tokens = await self.queue.pipeline(
            ("HGET", f"{prefix}group:{digest.decode()}", "tokens") for digest in digests
        )
        return len(digests), sum(int(number or 0) for number in tokens)

    async def exclusion(self, run_id: int, worker: str) -> str | None:
        """Return what a worker is excluded for ('' for false work), or None where it is not."""
        key = f"{keys.run_prefix(run_id)}worker:{worker}"
        excluded, why = await self.queue.call("HMGET", key, "excluded", "excluded_for")
        return (why or b"").decode() if excluded == b"1" else None

    async def excess(self, run_id: int, worker: str) -> tuple[int, int]:
        """Return how many more of a worker's groups were rejected than accepted, and its newest lease's deadline."""
        key = f"{keys.run_prefix(run_id)}worker:{worker}"
        excess, until = await self.queue.call("HMGET", key, "num_excess", "leased_until")
        return int(excess or 0), int(until or 0)

    async def excluded(self, run_id: int, workers: Iterable[str]) -> set[str]:
        """Return those of the workers that are excluded."""
        ordered, prefix = sorted(workers), keys.run_prefix(run_id)
        found = await self.queue.pipeline(
            [("HGET", f"{prefix}worker:{worker}", "excluded") for worker in ordered]
        )
        return {worker for worker, value in zip(ordered, found, strict=True) if value == b"1"}

    async def is_paused(self, run_id: int, worker: str) -> bool:
        key = f"{keys.run_prefix(run_id)}worker:{worker}"
        return bool(await self.queue.call("HGET", key, "paused"))

    async def end_pause(self, run_id: int, worker: str) -> bool:
        """Let a paused worker lease again; return whether it was paused."""
        return bool(
            await self.queue.call("HDEL", f"{keys.run_prefix(run_id)}worker:{worker}", "paused")
        )

    async def note_present(self, run_id: int, worker: str, stake: int, now: float) -> None:
        """Note that a worker asks for a lease, and what it has at stake."""
        prefix = keys.run_prefix(run_id)
        await self.queue.pipeline(
            [
                ("ZADD", prefix + "present", now, worker),
                ("HSET", prefix + "stakes", worker, str(stake)),
            ]
        )

    async def num_at_work(self, run_id: int, *, since: float) -> tuple[int, int]:
        """Return how many workers asked for a lease since a time, and how many leases are out."""
        prefix = keys.run_prefix(run_id)
        present = ("ZCOUNT", prefix + "present", since, "+inf")
        workers, leases = await self.queue.pipeline([present, ("ZCARD", prefix + "open")])
        return int(workers), int(leases)

    async def stakes(
        self, run_id: int, *, since: float, also: Iterable[str] = ()
    ) -> dict[str, int]:
        """Return the stakes of those that asked for a lease since a time, and of those in `also`."""
        prefix = keys.run_prefix(run_id)
        present = await self.queue.call("ZRANGEBYSCORE", prefix + "present", since, "+inf")
        workers = sorted({worker.decode() for worker in present} | set(also))
        if not workers:
            return {}
        stakes = await self.queue.call("HMGET", prefix + "stakes", *workers)
        return {worker: int(stake or 0) for worker, stake in zip(workers, stakes, strict=True)}
