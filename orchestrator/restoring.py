"""Bring back what Redis forgot, from the journal and the chain, before it is asked for anything new.

Redis may lose its last seconds with its machine, be emptied, or go on from a cut log. Each start of it is
a new life, and until a run was restored in it no lease is granted. What workers hold receipts for is taken
again, batches and versions are what they were, what final epochs paid is the chain's (`epochs.py`). Lost
for good are leases nobody had delivered on, drops, sign-ins and events; verifiers send their verdicts again.

Two things must not be taken up where they stood: a nonce has one lease, so nonces go on far above all
that may have been given; and a secret may have been in a file that nobody remembers, so a new epoch is opened.
"""

import structlog

from orchestrator.run import Run
from orchestrator.services import Services
from orchestrator.store.events import event_body
from orchestrator.store.journal import Kind, TakenGroup
from protocol.messages import Batch
from protocol.policies.manifest import SignedManifest

NONCES_PER_LIFE = 1 << 30
"""More than a worker is leased between two starts of Redis; of 90,000 lives all nonces have 14 digits,
the most that Lua writes without an exponent."""
PAGE = 1024


async def restore(services: Services, run: Run) -> None:
    """Restore a run where Redis began a new life; may be repeated after a crash anywhere."""
    life = await services.store.runs.life(run.run_id)
    if life.is_known:
        return
    journal, run_id = services.journal, run.run_id
    lives = await journal.names(run_id, Kind.LIFE)
    floor = revealed = 0
    if lives or run.chain.num_opened:
        floor, revealed = NONCES_PER_LIFE * max(1, len(lives)), run.chain.num_opened
        found = (
            await _policies(services, run),
            await _groups(services, run),
            await _batches(services, run),
        )
        counts = dict(zip(("versions", "groups", "batches"), found, strict=True))
        structlog.get_logger().warning("Redis began a new life", run_id=run_id, restored=counts)
    await services.store.runs.add(run_id, run.spec)
    await journal.keep(run_id, Kind.LIFE, f"{len(lives):06d}-{life.server}", b"")
    await services.store.runs.begin_life(run_id, life.server, floor=floor, revealed=revealed)
    run.num_revealed = max(run.num_revealed, revealed)


async def restore_runs(services: Services) -> None:
    """Serve again every run that was ever registered here, also where Redis knows of none."""
    known = await services.store.runs.specs()
    for run_id, spec in (await services.journal.specs()).items():
        if run_id not in known:
            await services.store.runs.add_json(run_id, spec)


async def _policies(services: Services, run: Run) -> int:
    """Publish again the versions after the newest; return how many."""
    newest = await services.store.policies.newest(run.run_id)
    count = 0
    for name in await services.journal.names(run.run_id, Kind.POLICY):
        if newest is not None and int(name) <= newest:
            continue
        data = await services.journal.read(run.run_id, Kind.POLICY, name)
        event = event_body(run.run_id, "policy", services.clock(), {"version": int(name)})
        await services.store.policies.publish(
            run.run_id,
            SignedManifest.from_json(data),
            max_staleness=run.spec.max_staleness,
            event=event,
        )
        count += 1
    return count


async def _groups(services: Services, run: Run) -> int:
    """Take again the groups that have a receipt and no record; return how many."""
    names = await services.journal.names(run.run_id, Kind.GROUP)
    count = 0
    for start in range(0, len(names), PAGE):
        page = [bytes.fromhex(name) for name in names[start : start + PAGE]]
        known = await services.store.groups.known(run.run_id, page)
        for digest in page:
            if digest not in known:
                count += await _take_again(services, run, digest)
    return count


async def _take_again(services: Services, run: Run, digest: bytes) -> bool:
    """Take a group as it was taken first; return False where an epoch already settled its nonce."""
    journal, run_id = services.journal, run.run_id
    taken = TakenGroup.of(await journal.read(run_id, Kind.GROUP, digest.hex()))
    worker = await services.store.workers.record(run_id, taken.group.worker)
    if worker is not None and taken.group.nonce <= worker.last_settled:
        await journal.drop(run_id, Kind.GROUP, digest.hex())
        return False
    await services.store.leases.reopen(run_id, taken.lease)
    outcome, _ = await services.store.groups.submit(
        *(run_id, digest, taken.group),
        copy_key=taken.copy_key,
        num_votes=taken.num_votes,
        drops=run.spec.drop_rule,
        secret_epoch=None,
        now=services.clock(),
        event=taken.event,
    )
    return outcome == "taken"


async def _batches(services: Services, run: Run) -> int:
    """Fix batches as they were handed out; those before the last but one version are durable steps."""
    newest = await services.store.policies.newest(run.run_id)
    acked = await services.store.batches.acknowledged(run.run_id)
    count = 0
    for name in await services.journal.names(run.run_id, Kind.BATCH):
        data = await services.journal.read(run.run_id, Kind.BATCH, name)
        batch = Batch.from_json(data)
        count += await services.store.batches.restore(run.run_id, batch)
        if acked < batch.step <= (newest or 0) - 2:
            await services.store.batches.acknowledge(run.run_id, batch)
    return count
