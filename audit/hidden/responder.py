"""Answer others' demands about an epoch, and decide those that nobody answered.

For parties that hold the files: an honest orchestrator, a verifier that wants to keep its stake,
any watcher. The party that completes an answer gets the finder's part of the bond.
"""

from audit.files import Shelf
from audit.history import Dispute, Fate, Posted
from audit.owed import Condemned
from audit.published import Opened
from audit.watch_actions import Actor
from ledger.ledger import Ledger
from ledger.state import DisputeKind

ANSWERS_PER_TRANSACTION = 25
"""An answered leaf of a tree of 100,000 costs about 40,000 gas: one transaction stays near a million."""

DEMANDS = (DisputeKind.WORK, DisputeKind.ACCOUNTS)


class Responder:
    """Example: `Responder(ledger, actor, shelf, condemned, answers=True).attend(dispute, posted, now=now, is_sound=True)`"""

    def __init__(
        self, ledger: Ledger, actor: Actor, shelf: Shelf, condemned: Condemned, *, answers: bool
    ) -> None:
        self._ledger = ledger
        self._actor = actor
        self._shelf = shelf
        self._condemned = condemned
        self._answers = answers

    def attend(self, dispute: Dispute, posted: Posted, *, now: int, is_sound: bool) -> None:
        """Take an open dispute a step further, if one is due.

        `is_sound` says that the epoch was examined whole and holds, so nobody need void it.
        """
        is_mine = dispute.by == self._actor.address
        if posted.fate is not Fate.PENDING:
            if is_mine:
                self._actor.send(posted, "moot dispute", "expire", dispute.dispute_id)
        elif now >= dispute.deadline:
            if is_mine or not is_sound or dispute.kind is DisputeKind.ESCALATION:
                self._actor.send(posted, "end of dispute", "expire", dispute.dispute_id)
        elif self._answers and not is_mine:
            self._answer(dispute, posted)

    def _answer(self, dispute: Dispute, posted: Posted) -> None:
        if dispute.kind in DEMANDS:
            self._open_leaves(dispute, posted)
        elif dispute.kind is DisputeKind.OMISSION:
            worker = self._ledger.dispute(dispute.dispute_id).worker
            is_reported = self._ledger.is_reported(dispute.run_id, worker)
            verdicts = () if is_reported else self._condemned.of(dispute.run_id, dispute.subject)
            if is_reported or verdicts:
                about = (dispute.dispute_id, dispute.run_id, dispute.subject)
                call = ("answer_omission", *about, verdicts)
                self._actor.send(posted, "answer", *call)

    def _open_leaves(self, dispute: Dispute, posted: Posted) -> None:
        opened = self._shelf.opened(posted)
        if opened is None:
            return
        # Use the chain's own bits: events tell places, and a place demanded twice has two bits.
        unanswered = self._ledger.dispute(dispute.dispute_id).unanswered
        wanted = open_slots(unanswered, len(dispute.indices))
        for at in range(0, len(wanted), ANSWERS_PER_TRANSACTION):
            self._open(dispute, posted, opened, wanted[at : at + ANSWERS_PER_TRANSACTION])

    def _open(self, dispute: Dispute, posted: Posted, opened: Opened, slots: list[int]) -> None:
        places = [dispute.indices[slot] for slot in slots]
        question = (dispute.dispute_id, opened.header, dispute.indices, slots)
        if dispute.kind is DisputeKind.WORK:
            leaves = [opened.work_at(place) for place in places]
            signatures = [opened.signatures[place] for place in places]
            call = ("answer_work", *question, leaves, signatures)
            self._actor.send(posted, "answer", *call, num_leaves=len(slots))
        else:
            accounts = [opened.account_at(place) for place in places]
            answer = ("answer_accounts", *question, accounts)
            self._actor.send(posted, "answer", *answer, num_leaves=len(slots))


def open_slots(unanswered: int, count: int) -> list[int]:
    """Return which of a demand's `count` indices still want an answer, by the ledger's bitmap."""
    return [slot for slot in range(count) if unanswered >> slot & 1]
