"""Groups that are ready to be trained on, and the batch of each step."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.store import keys
from orchestrator.store.queue import Queue
from protocol.messages import Batch


@dataclass(frozen=True, slots=True)
class BatchStore:
    queue: Queue

    async def ready(self, run_id: int) -> list[bytes]:
        """Return the groups that no batch has, as JSON in order of arrival."""
        found: list[bytes] = await self.queue.call(
            "ZRANGE", keys.run_prefix(run_id) + "ready", 0, -1
        )
        return found

    async def note_surplus(self, run_id: int, surplus: int) -> None:
        """Note how many ready groups the caps keep out of the next batch."""
        await self.queue.call("HSET", keys.run_prefix(run_id) + "state", "surplus", surplus)

    async def batch(self, run_id: int, step: int) -> bytes | None:
        """Return a step's batch as JSON."""
        found: bytes | None = await self.queue.call(
            "HGET", keys.run_prefix(run_id) + "batches", step
        )
        return found

    async def take(
        self, run_id: int, batch: Batch, chosen: Sequence[bytes], event: str
    ) -> bytes | None:
        """Fix a step's batch; return the one it has, or None where a chosen group is ready no more."""
        outcome, answer = await self.queue.script(
            "take_batch",
            run_id,
            *(batch.step, batch.to_json(), keys.NUM_EVENTS_KEPT, event),
            *chosen,
        )
        return None if outcome == b"gone" else bytes(answer)

    async def restore(self, run_id: int, batch: Batch) -> bool:
        """Fix a batch that was handed out; return whether it was forgotten."""
        groups = ((group.work_digest.hex(), group.to_json()) for group in batch.groups)
        flat = [value for pair in groups for value in pair]
        return bool(
            await self.queue.script("restore_batch", run_id, batch.step, batch.to_json(), *flat)
        )

    async def acknowledge(self, run_id: int, batch: Batch) -> None:
        """Spend a batch: its step is durable at the trainer."""
        digests = (group.work_digest.hex() for group in batch.groups)
        await self.queue.script("ack", run_id, batch.step, *digests)

    async def acknowledged(self, run_id: int) -> int:
        """Return the last step that is durable at the trainer, or −1."""
        acked = await self.queue.call("HGET", keys.run_prefix(run_id) + "state", "acked")
        return -1 if acked is None else int(acked)
