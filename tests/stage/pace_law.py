"""The law of pacing and of debts in Python, which the store's Lua is held against (`orchestrator/rules/pacing.py`)."""

from dataclasses import dataclass
from enum import StrEnum

from orchestrator.rules.pacing import Pace, units_left
from protocol.checks.drops import DropRule
from protocol.constants import MICRO


@dataclass(frozen=True, slots=True)
class Counts:
    """What is out, and what is committed: groups but for units `unsettled` and `posted`."""

    running: int = 0
    waiting: int = 0
    ready: int = 0
    surplus: int = 0
    consumed: int = 0
    replaying: int = 0
    unsettled: int = 0
    posted: int = 0
    held: int = 0
    """Leases that the worker has open."""
    own: int = 0
    """Of its groups, those that wait or are ready."""
    flat: int = 0
    """Accepted without signal since a batch was taken."""
    own_flat: int = 0
    own_drawn: int = 0
    """Of its groups without signal, those that wait for a verdict."""
    flat_since: int = 0
    """The epoch of the first lease after that."""
    debt: int = 0
    """Of its dropped leases."""
    accepted: int = 0
    """Groups of it that were ever accepted."""
    idle: int = 0
    """Of the leases that run, those granted to idle workers."""

    def is_idle(self, drops: DropRule) -> bool:
        """Return whether the worker only drops leases, or too many: what it holds keeps no other out.

        Else identities that deliver nothing would hold all places for the price of their stakes alone.
        """
        return self.debt > drops.allowance or (self.debt > 0 and not self.accepted)


class Grant(StrEnum):
    """What an honest worker's request for leases comes to."""

    GRANTED = "granted"
    TOO_MANY = "too_many"
    NO_BUDGET = "no_budget"
    PACED = "paced"


def grant(counts: Counts, pace: Pace, wanted: int) -> tuple[Grant, int]:
    """Return how many of the wanted leases are granted, or why none is."""
    free = pace.drops.most_leases(counts.debt) - counts.held
    if free < 1:
        return Grant.TOO_MANY, 0
    units = units_left(
        unposted=pace.units_unposted,
        unfinal=pace.units_unfinal,
        posted=counts.posted,
    )
    affordable = (
        (units - counts.unsettled) // pace.units_per_group - counts.running - counts.replaying
    )
    if affordable < 1:
        return Grant.NO_BUDGET, 0
    count = min(wanted, free, affordable, paced(counts, pace))
    return (Grant.GRANTED, count) if count >= 1 else (Grant.PACED, 0)


def paced(counts: Counts, pace: Pace) -> int:
    """Return how many more groups can still be trained on, and how many of them by this worker.

    Surplus must not keep out the groups that a batch lacks. A batch takes only a share from one worker: who
    filled the pace alone would end the run, for nothing could be trained on.
    """
    room = pace.most_groups - counts.consumed
    surplus = min(counts.ready, counts.surplus)
    most_flat = pace.most_flat * (max(0, pace.epoch - counts.flat_since) + 1).bit_length()
    running = counts.running - (0 if counts.is_idle(pace.drops) else counts.idle)
    everyones = min(
        room - (counts.ready - surplus) - counts.waiting - running,
        most_flat - counts.flat - max(0, counts.replaying - counts.waiting),
    )
    if pace.share_millionths >= MICRO:
        return everyones
    most = max(1, room * pace.share_millionths // MICRO)
    most_own = max(1, most_flat * pace.share_millionths // MICRO)
    return min(
        everyones, most - counts.held - counts.own, most_own - counts.own_flat - counts.own_drawn
    )


def after_drop(rule: DropRule, debt: int) -> int:
    return min(rule.most, debt + rule.per_drop)


def after_group(rule: DropRule, debt: int) -> int:
    return max(0, debt - rule.per_group)
