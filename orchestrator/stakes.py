"""Who is at work for a run, and with how much at stake: what the caps of `rules/batch.py` are measured on.

A worker is at work from when it asks for a lease until it has not asked for `PRESENT_LEASES` lease
times, except while it is idle (`rules/pacing.py`): stake that asks and never delivers narrows the others'
part for one lease time, and then no more.
"""

from collections.abc import Iterable

from orchestrator.rules import batch
from orchestrator.run import Run
from orchestrator.services import Services

KNOWN_SECONDS = 1.0
"""How long pacing goes by the same look at who is at work: with a thousand workers a look costs five
milliseconds, and paced workers ask several times a second."""
PRESENT_LEASES = 2
"""A worker that holds as many leases as it may asks again within one lease time; a second one is slack."""


async def pace_share(services: Services, run: Run, worker: str) -> int:
    """Note that a worker asks for work; return its part of the pace, in millionths."""
    member, now = await services.chain.membership(run.run_id, worker), services.clock()
    await services.store.workers.note_present(run.run_id, worker, member.stake, now)
    if now >= run.stakes_until:
        run.stakes, run.stakes_until = await at_work(services, run), now + KNOWN_SECONDS
    run.stakes[worker] = member.stake
    return batch.pace_share_millionths(
        run.stakes,
        worker,
        max_share_millionths=run.spec.max_worker_share_millionths,
        stake_multiple_millionths=run.spec.max_stake_multiple_millionths,
    )


async def at_work(services: Services, run: Run, also: Iterable[str] = ()) -> dict[str, int]:
    """Return the stake of every worker at work, and of those in `also`."""
    earliest = services.clock() - PRESENT_LEASES * run.spec.lease_seconds
    return await services.store.workers.stakes(run.run_id, since=earliest, also=also)
