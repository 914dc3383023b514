"""Turn decided work into what an epoch says on chain.

Pure. A worker's work is settled in order of nonce and only up to the first that waits, because
the ledger wants nonces to ascend across epochs: leaving a gap would forfeit it. Work dated when the
run owed nothing (halted, stopped, its permit lapsed, its cap crossed) is provable fraud on chain and
is left out; work dated after the newest block waits, for it would be if the run were halted now.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from protocol.messages import Account, Contribution, EpochFile


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


def settled_work(
    standings: Iterable[Standing], *, now: int, is_owed: Callable[[int], bool]
) -> tuple[Contribution, ...]:
    """Return the work that can be paid now, in the order of the work tree.

    `now` is the newest block's time; `is_owed` says whether work dated then is owed by the run.
    """
    found = [work for standing in standings for work in _decided(standing, now, is_owed)]
    return tuple(sorted(found, key=_order))


def _decided(
    standing: Standing, now: int, is_owed: Callable[[int], bool]
) -> Iterable[Contribution]:
    for work in sorted(standing.accepted, key=_order):
        if standing.first_waiting is not None and work.nonce >= standing.first_waiting:
            return
        if not is_owed(work.submitted_at):
            continue
        if work.submitted_at > now:
            return
        yield work


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
