"""What receipts are worth without an epoch, in Python: claims, answers and pay of `Disputes`' part `Owed`."""

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from eth_utils import to_checksum_address

from ledger.calls import Door, only
from ledger.node import MinedTransaction
from ledger.state import CONDEMNED, Condemnation, OwedDates, WorkOpening
from protocol.epoch import EpochHeader
from protocol.rollout import Receipt, Work
from protocol.signing import hash_struct


class Owing(Door):
    """Claims by receipts. Amounts are in wei of the run's token."""

    def claim_owed(self, promises: Sequence[tuple[Work, Receipt]]) -> MinedTransaction:
        """Claim what no epoch pays, as the worker or its hot key: one worker's work in one run."""
        receipts = [(work_struct(work), receipt.received_at) for work, receipt in promises]
        signatures = [receipt.signature for _, receipt in promises]
        return self._send(self._disputes.functions.claimOwed(receipts, signatures))

    def answer_paid(self, work: Work, header: EpochHeader, paid: WorkOpening) -> MinedTransaction:
        """Strike a claim out by a posted leaf of the same worker and nonce."""
        words = (work_struct(work), astuple(header), paid.as_struct())
        return self._send(self._disputes.functions.answerPaid(*words))

    def answer_condemned(self, work: Work, verdicts: Sequence[Condemnation]) -> MinedTransaction:
        """Strike a claim out for good by a quorum's verdicts, in order of their places."""
        shown = [astuple(verdict) for verdict in verdicts]
        return self._send(self._disputes.functions.answerCondemned(work_struct(work), shown))

    def stop_overdue(self, work: Work) -> MinedTransaction:
        """End a run that has let a response window pass over a claim."""
        return self._send(self._disputes.functions.stopOverdue(work_struct(work)))

    def pay_owed(self, run_id: int, worker: str) -> int:
        """Credit a worker what it claims of a closed run, nothing where it was reported; return the amount."""
        call = self._disputes.functions.payOwed(run_id, to_checksum_address(worker))
        return int(only(self._send(call), "OwedPaid", self._disputes).values["amount"])

    def refund_run(self, run_id: int) -> int:
        """Credit the operator what a closed run neither committed nor owes; return the amount."""
        mined = self._send(self._disputes.functions.refundRun(run_id))
        return int(only(mined, "UncommittedCredited", self._ledger).values["amount"])

    def claimed_at(self, work: Work) -> int:
        """Return when work was claimed, 0 where no claim to it stands."""
        found = int(self._call(self._disputes.functions.claimedAt(hash_struct(work))))
        return 0 if found == CONDEMNED else found

    def is_condemned(self, work: Work) -> bool:
        """Return whether a claim to this work was answered with a quorum's verdicts."""
        found = self._call(self._disputes.functions.claimedAt(hash_struct(work)))
        return int(found) == CONDEMNED

    def owed(self, run_id: int, worker: str) -> int:
        """Return the units that a worker claims of a run."""
        call = self._disputes.functions.owedOf(run_id, to_checksum_address(worker))
        return int(self._call(call))

    def owed_in_all(self, run_id: int) -> tuple[int, int]:
        """Return the units that all workers claim of a run, and how many workers do."""
        units, claimants = self._call(self._disputes.functions.booksOf(run_id))
        return int(units), int(claimants)

    def owed_dates(self, run_id: int) -> OwedDates | None:
        """Return a closed run's dates for receipts, None while it is not closed."""
        claims_until, paid_from = self._call(self._disputes.functions.decidedAt(run_id))
        return OwedDates(int(claims_until), int(paid_from)) if paid_from else None

    def response_window(self) -> int:
        """Return the seconds in which a dispute or a claim is answered."""
        return int(self._call(self._disputes.functions.responseWindow()))


def work_struct(work: Work) -> tuple[Any, ...]:
    """Return the fields in Solidity's order, the address as contracts take it."""
    words = list(vars(work).values())
    words[1] = to_checksum_address(work.worker)
    return tuple(words)
