"""Workers that get no leases for a while: after an alarm, until their machine was looked at; after rejections, for a time.

The pause begins in `rules/votes.py`, with the vote that carries the alarm. A self-check is the
worker's word, so it earns no trust: its record has begun again, so that all its groups are replayed as a
newcomer's are, and so has the test of each verifier that alarmed.
"""

import structlog

from orchestrator.rules.rejections import rest_seconds
from orchestrator.run import Run
from orchestrator.services import Services
from protocol.checks.sequential import check
from protocol.errors import Refused, TooManyRejected
from protocol.messages import SelfCheck


async def resume(services: Services, run: Run, worker: str, found: SelfCheck) -> None:
    """Let a paused worker lease again; raise `Refused` with what its own figures break."""
    broken = check(found.stats, run.spec.thresholds)
    if broken is not None:
        raise Refused(
            f"the self-check of {worker} does not pass: {broken}; mend the machine, or leave the run"
        )
    if not await services.store.workers.end_pause(run.run_id, worker):
        return
    structlog.get_logger().info("worker resumes", run_id=run.run_id, worker=worker)
    await services.announce(run.run_id, "resumed", worker=worker)


async def require_rested(services: Services, run: Run, worker: str) -> None:
    """Raise `TooManyRejected` where too many more of the worker's groups were rejected than accepted.

    Not to who is excluded, and must hear that: its groups were all rejected then, and no rest helps.
    """
    num_excess, leased_until = await services.store.workers.excess(run.run_id, worker)
    seconds = rest_seconds(num_excess, lease_seconds=run.spec.lease_seconds)
    left = leased_until - run.spec.lease_seconds + seconds - services.clock()
    if seconds and left > 0 and await services.store.workers.exclusion(run.run_id, worker) is None:
        raise TooManyRejected(
            f"{num_excess} more groups of {worker} were rejected than accepted: no leases for {left:.0f} s; mend "
            "what its receipts name (see `rollcall doctor`), for each good group takes one off",
            retry_after_seconds=left,
        )
