"""A submission's rewards, and its lease while they are computed: what came in time stays in time.

A lease is freed soon after its deadline. One whose group is being scored is held open by this process, however long
that takes, and for a while after the process died, so that the worker's repetition is taken.
"""

import asyncio

from orchestrator.rewards.line import Job
from orchestrator.services import Services
from protocol.rollout import Lease, Submission

HOLD_SECONDS = 30.0
"""How often a lease is held again; with less than twice that left, from the first."""
HELD_SECONDS = 600.0
"""A lease whose group came in time is freed this long after its process died, unless the group is sent again."""


async def rewards_of(
    services: Services, lease: Lease, digest: bytes, submission: Submission
) -> tuple[int, ...]:
    """Return the group's rewards, empty where they cannot be computed."""
    rollouts = [rollout.tokens for rollout in submission.rollouts]
    job = Job(lease.run_id, lease.index, rollouts, lease.worker)
    scoring = asyncio.ensure_future(services.rewards.score(job))
    try:
        while not (await asyncio.wait({scoring}, timeout=HOLD_SECONDS))[0]:
            await _hold(services, lease, digest)
        return scoring.result() or ()
    finally:
        scoring.cancel()


async def hold_if_near(services: Services, lease: Lease, digest: bytes, now: float) -> None:
    """Hold the lease of a group that came in time, where little time is left."""
    if lease.deadline - now < 2 * HOLD_SECONDS:
        await _hold(services, lease, digest)


async def _hold(services: Services, lease: Lease, digest: bytes) -> None:
    until = services.clock() + HELD_SECONDS
    await services.store.leases.hold(lease, digest, until=until)
