"""How many leases a worker may have now: by its own limit, the escrow, and the pace of training.

Nonces are reserved in the step that counts what is out, in one round trip, so the counting is Lua:
`store/lua/grant.lua`, by what a `Pace` allows. Tests have the same law in Python, and hold the two against one another.

    leased → running → waiting for its verdict → ready → consumed by a batch
             (open)     (trainable)               └─ surplus: what the caps keep out of the next batch

Groups in all of these may not be more than the newest version can still train on, whence

    paced = room − (ready − surplus) − waiting − running,  room = most groups ever − consumed

Groups without signal (rewards that are all equal) are paid and no step consumes them, so they have a bound of
their own until the next batch is taken: so many in the first epoch, as many more in the next, in the two after
that, in the next four. A policy of which they are most still fills its batches, one that can fill none spends
the bound a few times and not the escrow, and what once was stuck is never stuck for ever.
"""

from dataclasses import dataclass

from protocol.checks.drops import DropRule


@dataclass(frozen=True, slots=True)
class Pace:
    """What bounds new leases at one moment. Units are what the escrow has beyond posted and final epochs."""

    drops: DropRule
    most_groups: int
    """That may ever have been consumed, be ready, waiting or running by now."""
    units_unposted: int
    units_unfinal: int
    units_per_group: int
    share_millionths: int
    """One worker's part of the pace."""
    most_flat: int
    """Groups without signal that may be accepted, or wait for that, before a batch is taken."""
    epoch: int = 0
    """The one that leases are drawn from."""


def units_left(*, unposted: int, unfinal: int, posted: int) -> int:
    """Return the units that the escrow has beyond posted epochs; negative where it is short.

    Posted work is counted beside both: a voided epoch's money is in the budget again before its work is
    among the unsettled.
    """
    return min(unposted, unfinal - posted)
