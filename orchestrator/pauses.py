"""End a worker's pause: its sequential test alarmed, and its machine has been looked at.

The pause itself begins in `rules/votes.py`, with the vote that carries the alarm. A self-check is the
worker's word, so it earns no trust: its record has begun again, so that all its groups are replayed as a
newcomer's are, and so has the test of each verifier that alarmed.
"""

import structlog

from orchestrator.run import Run
from orchestrator.services import Services
from protocol.checks.sequential import check
from protocol.errors import Refused
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
