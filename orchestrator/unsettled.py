"""Read accepted work that no posted epoch has, as much of it as one epoch takes."""

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.rules import settle
from orchestrator.rules.settle import Standing
from orchestrator.run import Run
from orchestrator.services import Services
from orchestrator.store.groups import Earned
from protocol.canonical import keccak256
from protocol.messages import Contribution

PAGE = 1024
"""Groups read at once: a few milliseconds, in which nobody is answered."""


async def payable(services: Services, run: Run, epoch: int) -> dict[bytes, Contribution]:
    """Return work that can be paid now by an epoch, by digest.

    Where there is more than it takes, workers share it: who has little waiting gets all of it in. Work
    that a later epoch's secret drew waits, with all that follows it: nobody who signs could hold its draw
    to a secret that is not revealed.
    """
    most = settle.MOST_GROUPS
    waiting = await _waiting(services, run)
    found: dict[bytes, Contribution] = {}
    while waiting and len(found) < most:
        share = min(PAGE, max(1, (most - len(found)) // len(waiting)))
        for worker, earned in list(waiting.items()):
            page = earned.digests[: min(share, most - len(found))]
            paid, goes_on = await _paid(services, run, epoch, page, earned.first_undecided)
            found |= paid
            waiting[worker] = replace(earned, digests=earned.digests[len(page) :])
            if not goes_on or not waiting[worker].digests:
                del waiting[worker]
    return found


async def has_undecided(services: Services, run: Run) -> bool:
    """Return whether any lease or replay of the run may still end in accepted work."""
    for worker in await services.store.workers.all(run.run_id):
        if await services.store.groups.has_undecided(run.run_id, worker):
            return True
    return False


async def _waiting(services: Services, run: Run) -> dict[str, Earned]:
    """Return each worker's unsettled work, in an order that is another one for each epoch."""
    seed = services.secret(run.run_id, run.chain.num_posted)
    workers = await services.store.workers.all(run.run_id)
    found = {}
    for worker in sorted(workers, key=lambda w: keccak256(seed + w.encode())):
        earned = await services.store.groups.earned(run.run_id, worker)
        if earned.digests:
            found[worker] = earned
    return found


async def _paid(
    services: Services, run: Run, epoch: int, page: Sequence[bytes], first_undecided: int | None
) -> tuple[dict[bytes, Contribution], bool]:
    """Return what can be paid of a worker's next groups, by the chain's last look; whether it goes on."""
    found = await services.store.groups.contributions(run.run_id, page)
    accepted = tuple(work for work, _ in found)
    waits = [work.nonce for work, drawn_by in found if drawn_by > epoch]
    waits += [] if first_undecided is None else [first_undecided]
    dates = {work.submitted_at for work in accepted}
    owed = await services.chain.owed(run.run_id, dates, state=run.chain, now=run.chain_time)
    standing = Standing(accepted, min(waits, default=None))
    paid, goes_on = settle.payable(standing, now=run.chain_time, is_owed=owed.__contains__)
    digests = {work.nonce: digest for work, digest in zip(accepted, page, strict=True)}
    return {digests[work.nonce]: work for work in paid}, goes_on
