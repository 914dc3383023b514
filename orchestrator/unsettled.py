"""Read accepted work that no posted epoch has from the queue, and what of it can be paid now."""

from dataclasses import dataclass

from orchestrator.rules import settle
from orchestrator.rules.settle import Standing
from orchestrator.run import Run
from orchestrator.services import Services
from protocol.messages import Contribution


@dataclass(frozen=True, slots=True)
class Found:
    """Unsettled work with the digests it is stored under."""

    standings: tuple[Standing, ...]
    digests: dict[tuple[str, int], bytes]


async def unsettled(services: Services, run: Run, epoch: int) -> Found:
    """Return every worker's accepted work and its first nonce that cannot be in `epoch`.

    That is the first undecided one, or one drawn by a later epoch's secret: nobody who signs could hold
    its draw to a secret that is not revealed, so it waits.
    """
    standings: list[Standing] = []
    digests: dict[tuple[str, int], bytes] = {}
    for worker in await services.store.workers.all(run.run_id):
        earned = await services.store.groups.earned(run.run_id, worker)
        if not earned.digests:
            continue
        found = await services.store.groups.contributions(run.run_id, earned.digests)
        waits = [work.nonce for work, drawn_by in found if drawn_by > epoch]
        waits += [] if earned.first_undecided is None else [earned.first_undecided]
        accepted = tuple(work for work, _ in found)
        standings.append(Standing(accepted, min(waits, default=None)))
        for work, digest in zip(accepted, earned.digests, strict=True):
            digests[(work.worker, work.nonce)] = digest
    return Found(tuple(standings), digests)


async def payable(services: Services, run: Run, found: Found) -> tuple[Contribution, ...]:
    """Return the work that can be paid now, by the chain's last look."""
    dates = {work.submitted_at for standing in found.standings for work in standing.accepted}
    owed = await services.chain.owed(run.run_id, dates, state=run.chain, now=run.chain_time)
    return settle.settled_work(found.standings, now=run.chain_time, is_owed=owed.__contains__)
