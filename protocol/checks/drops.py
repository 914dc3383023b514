"""What leases that end without work cost a worker's standing, and how work wins it back.

Pure: a one-sided cumulative sum (E. S. Page, Biometrika 41, 1954). Every dropped lease adds to
a debt what it exceeds the free share by; a finished one takes the free share off, never below zero. A
worker that drops less than the free share forever owes nothing forever. One that dies holding all its
leases owes at most what the allowance forgives. One that goes on dropping is replayed like a newcomer
and holds fewer leases, down to one, until finished work has paid the debt.

A lease is dropped when it is returned, expires, or ends in a group that admission rejects. The
orchestrator counts them: there is no public proof that a worker ever saw a lease.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from protocol.constants import MICRO
from protocol.wire import Wire


class DropPolicy(Wire):
    """How many leases a worker may drop. All shares are of the leases that ended, in millionths."""

    free_millionths: Annotated[int, Field(ge=1, le=MICRO)] = 200_000
    """The share a worker may drop forever; 1,000,000 makes all drops free. A machine that is restarted
    once an hour while 64 of 512 leases are open drops an eighth."""
    num_forgiven_crashes: Annotated[int, Field(ge=1, le=1 << 10)] = 2
    """How often a worker may die holding `max_worker_leases`, with no work between, and owe nothing."""
    withheld_alarms_per_million: Annotated[int, Field(ge=0, le=1_000)] = 1
    """Most workers that the test of `withholding.py` may exclude over the whole run, of a million whose
    drops have nothing to do with rewards; 0 turns it off."""


@dataclass(frozen=True, slots=True)
class DropRule:
    """A policy applied to one run's lease limit. Debts are in millionths of a lease.

    Example: `DropRule(DropPolicy(), max_leases=64).per_drop` is 800,000
    """

    policy: DropPolicy
    max_leases: int

    @property
    def per_drop(self) -> int:
        return MICRO - self.policy.free_millionths

    @property
    def per_group(self) -> int:
        return self.policy.free_millionths

    @property
    def allowance(self) -> int:
        """The largest debt without consequence."""
        return self.policy.num_forgiven_crashes * self.max_leases * self.per_drop

    @property
    def most(self) -> int:
        """The debt's ceiling, so that work can always win a standing back."""
        return 2 * self.allowance

    def is_on_probation(self, debt: int) -> bool:
        """Return whether all of the worker's groups are replayed."""
        return debt > self.allowance

    def most_leases(self, debt: int) -> int:
        """Return how many leases may be held: all within the allowance, then fewer, at least one."""
        if not self.is_on_probation(debt):
            return self.max_leases
        return max(1, self.max_leases * (self.most - debt) // self.allowance)

    def groups_to_recover(self, debt: int) -> int:
        """Return how many finished groups bring the debt back within the allowance."""
        return max(0, -(-(debt - self.allowance) // self.per_group))
