"""Hand out and close batches: carry `batches.choose` to the queue, so that a step has one batch."""

from orchestrator import stakes
from orchestrator.rules import batch
from orchestrator.run import Run
from orchestrator.services import Services
from orchestrator.store.events import event_body
from orchestrator.store.journal import Kind, numbered
from protocol.canonical import keccak256
from protocol.environments.base import FULL_SCORE
from protocol.errors import NotFound, StepOutOfOrder
from protocol.messages import Batch, BatchGroup

TRIES = 5


async def take(services: Services, run: Run, step: int) -> bytes | None:
    """Return the step's batch as JSON, or None while too few groups are ready."""
    known = await services.store.batches.batch(run.run_id, step)
    if known is not None:
        return known
    await _require_next(services, run, step)
    for _ in range(TRIES):
        ready = await services.store.batches.ready(run.run_id)
        groups = [BatchGroup.from_json(raw) for raw in ready]
        chosen = await _choose(services, run, step, groups)
        if len(chosen) < run.spec.groups_per_batch:
            await services.store.batches.note_surplus(run.run_id, len(groups) - len(chosen))
            return None
        taken = {group.work_digest for group in chosen}
        event = event_body(run.run_id, "batch", services.clock(), _summary(step, chosen))
        offered = Batch(run_id=run.run_id, step=step, groups=chosen)
        name = (run.run_id, Kind.BATCH, numbered(step))
        await services.journal.keep(*name, offered.to_json())
        fixed = await services.store.batches.take(
            run.run_id,
            offered,
            [raw for raw, group in zip(ready, groups, strict=True) if group.work_digest in taken],
            event,
        )
        if fixed is not None:
            await services.journal.keep(*name, fixed)
            services.metrics.batches.labels(run.run_id).inc()
            return fixed
    return None


async def _choose(
    services: Services, run: Run, step: int, ready: list[BatchGroup]
) -> tuple[BatchGroup, ...]:
    """Return the groups that the step may have so far, under the caps of this moment."""
    spec, now = run.spec, services.clock()
    places = batch.places(
        await stakes.at_work(services, run, {group.worker for group in ready}),
        num_groups=spec.groups_per_batch,
        max_share_millionths=spec.max_worker_share_millionths,
        stake_multiple_millionths=spec.max_stake_multiple_millionths,
        seed=_seed(services, run, step, int(now) // spec.lease_seconds),
    )
    chosen = batch.choose(
        ready,
        step=step,
        num_groups=spec.groups_per_batch,
        max_staleness=spec.max_staleness,
        most=places,
    )
    return tuple(chosen)


def _seed(services: Services, run: Run, step: int, turn: int) -> bytes:
    """Return what draws a batch's places: unknown to workers, and another one every lease time, so that
    a draw whose workers deliver nothing does not stand.
    """
    words = b"".join(number.to_bytes(32, "big") for number in (run.run_id, step, turn))
    return keccak256(services.batch_secret + words)


async def ack(services: Services, run: Run, step: int) -> None:
    """Spend the groups of a step that is durable at the trainer."""
    raw = await services.store.batches.batch(run.run_id, step)
    if raw is None:
        await services.store.runs.require_restored(run.run_id)
        raise NotFound(f"no batch of step {step} was taken")
    await services.store.batches.acknowledge(run.run_id, Batch.from_json(raw))


async def _require_next(services: Services, run: Run, step: int) -> None:
    """Steps come in order, and at most one batch beyond the acknowledged ones is out."""
    acked = await services.store.batches.acknowledged(run.run_id)
    before = await services.store.batches.batch(run.run_id, step - 1) if step else b""
    await services.store.runs.require_restored(
        run.run_id
    )  # last: what is missed may only be forgotten
    if not acked < step <= acked + 2:
        raise StepOutOfOrder(
            f"step {step} was asked for; step {acked} is acknowledged, so {acked + 1} is current"
        )
    if before is None:
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
