"""For which dates a run owes work. Settling and signing an epoch ask this of every contribution."""

from collections.abc import Callable
from functools import cache

from ledger.ledger import Ledger
from ledger.state import LedgerStatus, RunState


def owed_until(ledger: Ledger, run_id: int, state: RunState, *, now: int) -> Callable[[int], bool]:
    """Return the ledger's `isOwed` for dates up to `now`, the time of a block before `state` was read.

    A halt never changes what was owed before it. So a run that was never halted and still goes on
    owes all of it, and the ledger is not asked for every second of an epoch.
    """
    has_crossed_cap = 0 < state.compute_cap <= state.gflops
    is_fresh = state.status is LedgerStatus.ACTIVE and now <= state.permit_until
    if is_fresh and not state.halted_at and not has_crossed_cap:
        return lambda _: True
    return cache(lambda at: ledger.is_owed(run_id, at))
