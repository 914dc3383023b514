"""Which runs are served, what their budgets are committed to, and who asks how often."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from orchestrator.store import keys
from orchestrator.store.queue import Queue, require_no_wait
from protocol.errors import Busy, TooManyRequests
from protocol.run import RunSpec

LEAST_COUNTED_BYTES = 1 << 20
"""What the smallest blob counts as, while nothing names it: each takes a record as well as its bytes."""
MOST_ARGUMENTS = 4096
"""Blobs that one script is told of: a policy of 32 billion weights has 16,000."""


@dataclass(frozen=True, slots=True)
class Life:
    """One life of Redis, from a start of its server to the next."""

    server: str
    is_known: bool


@dataclass(frozen=True, slots=True)
class RunStore:
    queue: Queue

    async def answers(self) -> None:
        """Raise `Busy` unless Redis takes a write."""
        await self.queue.require_writable()

    async def spend_nonce(self, nonce: str, *, seconds: int) -> bool:
        """Remember a sign-in nonce; return False where it was used before."""
        key = keys.used_nonce(nonce)
        return bool(await self.queue.call("SET", key, 1, "NX", "EX", seconds))

    async def admit_request(
        self, who: str, cost: int, *, rate: float, burst: int, now: float
    ) -> None:
        """Spend what a request of `who` costs; raise `TooManyRequests` saying when to come back."""
        bucket, asked = (keys.bucket(who),), (rate, burst, now, cost, "")
        require_no_wait(await self.queue.script("admit_request", 0, *asked, also=bucket), who)

    async def charge(self, who: str, cost: int, *, rate: float, burst: int, now: float) -> None:
        """Spend what a request that was admitted cost beyond that: what is not there is owed, a burst at most."""
        bucket, asked = (keys.bucket(who),), (rate, burst, now, cost, "1")
        await self.queue.script("admit_request", 0, *asked, also=bucket)

    async def count_upload(
        self, run_id: int, num_bytes: int, *, most_of_run: int, most_in_all: int, num_runs: int
    ) -> None:
        """Count new bytes of a day by run and in all; raise `TooManyRequests` over a bound.

        What is refused counts for the run alone. When all is used up, a run still has its equal part.
        """
        run = f"run {run_id}"
        of_run = await self._count(run, num_bytes)
        _require_room(run, of_run, most_of_run)
        in_all = await self._count("all", num_bytes)
        if in_all > most_in_all:
            _require_room(run, of_run, most_in_all // num_runs)

    async def count_unused(self, trainer: str, digest: bytes, num_bytes: int, *, most: int) -> None:
        """Count a new blob until a policy names it; raise `TooManyRequests` where too many wait for that."""
        counted = max(num_bytes, LEAST_COUNTED_BYTES)
        asked = (digest.hex(), counted, most, keys.UNUSED_BLOBS_SECONDS)
        if not await self.queue.script("count_unused", 0, *asked, also=(keys.unused(trainer),)):
            raise TooManyRequests(
                f"{trainer} stored blobs of {most} bytes that no policy names: publish what names them, wait "
                f"{keys.UNUSED_BLOBS_SECONDS // 86_400} days, or have the orchestrator's limits raised",
                retry_after_seconds=60.0,
            )

    async def use_blobs(self, trainer: str, digests: Sequence[bytes]) -> None:
        """Give a trainer the room of blobs back that a published policy names."""
        for start in range(0, len(digests), MOST_ARGUMENTS):
            named = (digest.hex() for digest in digests[start : start + MOST_ARGUMENTS])
            await self.queue.script("use_blobs", 0, *named, also=(keys.unused(trainer),))

    async def _count(self, who: str, num_bytes: int) -> int:
        key = keys.uploads(who)
        begun = ("SET", key, 0, "NX", "EX", keys.UPLOADS_SECONDS)
        _, total = await self.queue.pipeline([begun, ("INCRBY", key, num_bytes)])
        return int(total)

    def alone(self, owner: str) -> AbstractAsyncContextManager[bool]:
        """Be the one that sends to chain while inside; yields whether nobody was, or we were."""
        return self.queue.lock(keys.SENDER, owner, keys.SENDER_SECONDS)

    async def add(self, run_id: int, spec: RunSpec) -> None:
        await self.add_json(run_id, spec.to_json())

    async def add_json(self, run_id: int, spec: bytes) -> None:
        await self.queue.call("HSET", keys.RUNS, run_id, spec)

    async def life(self, run_id: int) -> Life:
        """Return which life Redis is in, and whether the run was restored in it."""
        server, known = await self.queue.script("life", run_id)
        return Life(server.decode(), known == server)

    async def begin_life(self, run_id: int, server: str, *, floor: int, revealed: int) -> None:
        """Lease again, with nonces above `floor` and from epochs after the first `revealed`."""
        await self.queue.script("begin_life", run_id, server, floor, revealed)

    async def require_restored(self, run_id: int) -> None:
        """Raise `Busy` where what is missing may only be forgotten."""
        if not (await self.life(run_id)).is_known:
            raise Busy(
                "the queue was set back or emptied and is being restored; send the same again",
                retry_after_seconds=1.0,
            )

    async def specs(self) -> Mapping[int, bytes]:
        """Return the spec of every run served, as JSON: one that cannot be read keeps no other from it."""
        return {int(run): spec for run, spec in (await self.queue.hash(keys.RUNS)).items()}

    async def settling(self, run_id: int) -> tuple[int, str]:
        """Return how many epochs' secrets are in files, and why nothing can be settled, or ""."""
        state = keys.run_prefix(run_id) + "state"
        revealed, trouble = await self.queue.call("HMGET", state, "revealed", "trouble")
        return int(revealed or 0), (trouble or b"").decode()

    async def tell_trouble(self, run_id: int, trouble: str) -> None:
        """Have every copy know why nothing can be settled; "" where it can be again."""
        await self.queue.call("HSET", keys.run_prefix(run_id) + "state", "trouble", trouble)

    async def posted_units(self, run_id: int) -> int:
        """Return the units of posted work that is not final."""
        state = keys.run_prefix(run_id) + "state"
        return int(await self.queue.call("HGET", state, "posted") or 0)


def _require_room(who: str, total: int, most: int) -> None:
    if total > most:
        raise TooManyRequests(
            f"{who} stored {total} bytes of new blobs in a day, at most {most} are taken: come back "
            "later, or have the orchestrator's limits raised",
            retry_after_seconds=60.0,
        )
