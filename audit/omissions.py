"""Find accepted work that a posted epoch skipped, provably.

Pure. Nonces ascend across a run's epochs, so unpaid work below a nonce that was paid is lost for good:
the leaves on both sides of its place, and the account before, show it. Work received a settle window
before the epoch opened is overdue. `IDisputes.proveOmission` says what the ledger asks for; the proof
needs the receipt, which only the worker has.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from audit.published import Openable, Opened, account_witness
from ledger.state import AccountOpening, WorkOpening
from protocol.epoch import AccountLeaf, EpochHeader
from protocol.rollout import Receipt, SignedLease, Work
from protocol.wire import Wire


class KeptReceipt(Wire):
    """A signed receipt, the work it answers, and the work's signed lease.

    The ledger takes receipt and work as proof; the lease says what was promised for the work.
    """

    receipt: Receipt
    work: Work
    lease: SignedLease


@dataclass(frozen=True, slots=True)
class Due:
    """Since when an epoch owes work, by the chain.

    Work received by `overdue_at` had to be in the epoch in any case; work received after `posted_at`
    belongs to the next one. `is_owed` is the ledger's.
    """

    posted_at: int
    overdue_at: int
    is_owed: Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class Omission:
    """Skipped work with what `Ledger.prove_omission` asks for.

    Example: Omission(header, work, receipt, around=(left, right), before=(account,))
    """

    header: EpochHeader
    work: Work
    receipt: Receipt
    around: tuple[WorkOpening, ...]
    before: tuple[AccountOpening, ...]


def omissions(
    receipts: Iterable[KeptReceipt], opened: Opened, before: Openable[AccountLeaf], due: Due
) -> Iterator[Omission]:
    """Yield the work that an epoch skipped, in the order of its receipts.

    `opened` is the epoch with all its leaves known, `before` the account tree of the epoch before
    (empty for the first).
    """
    for kept in receipts:
        work, receipt = kept.work, kept.receipt
        if receipt.rejection or receipt.received_at > due.posted_at:
            continue
        if work.submitted_at > due.posted_at or not due.is_owed(work.submitted_at):
            continue  # it could not be paid, so it was not skipped
        around = opened.work_around(work.worker, work.nonce)
        account = account_witness(before, work.worker)
        if around is None or account is None or _is_paid(work, opened, account):
            continue
        if receipt.received_at <= due.overdue_at or _is_overtaken(work, around):
            yield Omission(opened.header, work, receipt, around, account)


def _is_paid(work: Work, opened: Opened, before: tuple[AccountOpening, ...]) -> bool:
    accounts = (opening.leaf for opening in before)
    if any(a.worker == work.worker and a.last_nonce >= work.nonce for a in accounts):
        return True
    return opened.work.place_of((int(work.worker, 16), work.nonce)) is not None


def _is_overtaken(work: Work, around: tuple[WorkOpening, ...]) -> bool:
    leaves = (opening.leaf for opening in around)
    return any(leaf.worker == work.worker and leaf.nonce > work.nonce for leaf in leaves)
