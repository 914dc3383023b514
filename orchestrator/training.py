"""Hand out and close batches: carry `batches.choose` to the queue, so that a step has one batch."""

from orchestrator import batches, keys
from orchestrator.events import event_body
from orchestrator.market import Market, Run
from protocol.environments.base import FULL_SCORE
from protocol.errors import NotFound, StepOutOfOrder
from protocol.messages import Batch, BatchGroup

TRIES = 5


async def take(market: Market, run: Run, step: int) -> bytes | None:
    """Return the step's batch as JSON, or None while too few groups are ready."""
    known = await market.queue.call("HGET", run.prefix + "batches", step)
    if known is not None:
        return bytes(known)
    await _require_next(market, run, step)
    for _ in range(TRIES):
        ready = await market.queue.call("ZRANGE", run.prefix + "ready", 0, -1)
        groups = {group.work_digest: raw for raw in ready for group in [BatchGroup.from_json(raw)]}
        chosen = batches.choose(
            [BatchGroup.from_json(raw) for raw in ready],
            step=step,
            num_groups=run.spec.groups_per_batch,
            max_staleness=run.spec.max_staleness,
            max_share_millionths=run.spec.max_worker_share_millionths,
        )
        if chosen is None:
            return None
        batch = Batch(run_id=run.run_id, step=step, groups=chosen).to_json()
        event = event_body(run.run_id, "batch", market.clock(), _summary(step, chosen))
        outcome, answer = await market.queue.script(
            "take_batch",
            run.run_id,
            *(step, batch, keys.NUM_EVENTS_KEPT, event),
            *(groups[group.work_digest] for group in chosen),
        )
        if outcome != b"gone":
            market.metrics.batches.labels(run.run_id).inc()
            return bytes(answer)
    return None


async def ack(market: Market, run: Run, step: int) -> None:
    """Spend the groups of a step that is durable at the trainer."""
    raw = await market.queue.call("HGET", run.prefix + "batches", step)
    if raw is None:
        raise NotFound(f"no batch of step {step} was taken")
    groups = Batch.from_json(raw).groups
    await market.queue.script(
        "ack", run.run_id, step, *(group.work_digest.hex() for group in groups)
    )


async def _require_next(market: Market, run: Run, step: int) -> None:
    """Steps come in order, and at most one batch beyond the acknowledged ones is out."""
    acked = int(await market.queue.call("HGET", run.prefix + "state", "acked") or -1)
    if not acked < step <= acked + 2:
        raise StepOutOfOrder(
            f"step {step} was asked for; step {acked} is acknowledged, so {acked + 1} is current"
        )
    if step and not await market.queue.call("HEXISTS", run.prefix + "batches", step - 1):
        raise StepOutOfOrder(f"step {step} was asked for before step {step - 1} was taken")


def _summary(step: int, groups: tuple[BatchGroup, ...]) -> dict[str, int | float]:
    staleness = [step - group.policy_version for group in groups]
    rewards = [reward for group in groups for reward in group.rewards]
    return {
        "step": step,
        "num_groups": len(groups),
        "staleness_mean": round(sum(staleness) / len(staleness), 3),
        "staleness_max": max(staleness),
        "reward_mean": round(sum(rewards) / len(rewards) / FULL_SCORE, 4),
        "num_workers": len({group.worker for group in groups}),
    }
