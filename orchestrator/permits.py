"""Keep a run's permit fresh on chain, in its operator's name.

A permit is a lease on running at all: it must be renewed, and past its last second work is owed to
nobody. One that has lapsed is not renewed here: resuming waits, and is its operator's to ask for.
"""

import structlog

from ledger.state import LedgerStatus
from orchestrator.run import Run
from orchestrator.services import Services


def is_due(*, until: int, period: int, now: int) -> bool:
    """Return whether less than half of a permit is left, and some of it."""
    return now <= until and 2 * (until - now) < period


async def tick(services: Services, run: Run) -> None:
    """Renew the permit where it is due and this orchestrator is configured to."""
    state = run.chain
    if not services.config.renew_permits or state.status is not LedgerStatus.ACTIVE:
        return
    if not is_due(until=state.permit_until, period=state.permit_period, now=run.chain_time):
        return
    await services.chain.renew_permit(run.run_id)
    await services.look(run)
    log = structlog.get_logger()
    log.info("permit renewed", run_id=run.run_id, until=run.chain.permit_until)
