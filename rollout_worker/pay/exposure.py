"""Lease no more while a run owes too much that it has put into no epoch.

What is in no epoch is safe only as far as receipts are: the less of it, the less an operator gains by going.
"""

from rollout_worker.pay.bookkeeping import Bookkeeper
from rollout_worker.wallet import Hindrance, Permit


class Exposure:
    """A run's permit, and this worker's own bound on what the run may owe it.

    Example: `Exposure(wallet.permit(1), bookkeeper, most_groups=4096).hindrance()`
    """

    def __init__(self, permit: Permit, books: Bookkeeper, most_groups: int) -> None:
        self._permit = permit
        self._books = books
        self._most_groups = most_groups
        self._told: Hindrance | None = None

    def hindrance(self) -> Hindrance | None:
        """Return what forbids work now: the chain first, then what is owed."""
        found = self._permit.hindrance()
        return found if found is not None else self._owed()

    def _owed(self) -> Hindrance | None:
        num_groups, tokens = self._books.unposted()
        if num_groups <= self._most_groups:
            self._told = None
        elif self._told is None:
            # Once: the numbers move on while work in hand is delivered.
            self._told = Hindrance(
                f"{num_groups} groups of {tokens} tokens are in no posted epoch, and "
                f"most_unposted_groups is {self._most_groups}: it waits for an epoch that has them; "
                "`rollcall owed` claims what is overdue"
            )
        return self._told
