"""Turn decided work into what an epoch says on chain.

Pure. A worker's work is settled in order of nonce and only up to the first that waits, because
the ledger wants nonces to ascend across epochs: leaving a gap would forfeit it. Work dated when the
run owed nothing (halted, stopped, its permit lapsed, its cap crossed) is provable fraud on chain and
is left out; work dated after the newest block waits, for it would be if the run were halted now.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from protocol.messages import Account, Contribution, EpochFile

MOST_GROUPS: Final = 1 << 17
"""Groups of one epoch; the rest waits for the next. The ledger takes 2^20, but a file of so many has more
elements than anyone reads (`protocol/wire.py`): this leaves room for 700,000 accounts. Whatever is over can
be settled in the eight epochs that may be pending."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One worker's unsettled work: what is accepted, and the first nonce that must wait.

    Example: Standing(accepted=(contribution,), first_waiting=8)
    """

    accepted: tuple[Contribution, ...]
    first_waiting: int | None


@dataclass(frozen=True, slots=True)
class OpenEpoch:
    """What the chain says about the epoch to be settled."""

    run_id: int
    epoch: int
    generation: int
    prev_account_root: bytes
    secret: bytes


def payable(
    standing: Standing, *, now: int, is_owed: Callable[[int], bool]
) -> tuple[list[Contribution], bool]:
    """Return what of a worker's work can be paid now, and whether what follows it may be, too.

    `now` is the newest block's time; `is_owed` says whether work dated then is owed by the run.
    """
    found: list[Contribution] = []
    for work in sorted(standing.accepted, key=_order):
        if standing.first_waiting is not None and work.nonce >= standing.first_waiting:
            return found, False
        if not is_owed(work.submitted_at):
            continue
        if work.submitted_at > now:
            return found, False
        found.append(work)
    return found, True


def epoch_file(
    opened: OpenEpoch, work: Iterable[Contribution], accounts: Iterable[Account]
) -> EpochFile:
    """Return the epoch's public data from its work and every account before it."""
    ordered = tuple(sorted(work, key=_order))
    return EpochFile(
        run_id=opened.run_id,
        epoch=opened.epoch,
        generation=opened.generation,
        prev_account_root=opened.prev_account_root,
        secret=opened.secret,
        contributions=ordered,
        accounts=_credited(accounts, ordered),
    )


def _credited(accounts: Iterable[Account], work: tuple[Contribution, ...]) -> tuple[Account, ...]:
    earned = {account.worker: account.earned for account in accounts}
    last = {account.worker: account.last_nonce for account in accounts}
    for item in work:
        earned[item.worker] = earned.get(item.worker, 0) + item.units
        last[item.worker] = item.nonce
    return tuple(
        Account(worker=worker, earned=earned[worker], last_nonce=last[worker])
        for worker in sorted(earned, key=lambda address: int(address, 16))
    )


def _order(work: Contribution) -> tuple[int, int]:
    return int(work.worker, 16), work.nonce
