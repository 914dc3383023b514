"""Answer claims by receipts: with the epoch that paid, or with a quorum's verdicts.

For an honest operator, which pays twice what it leaves unanswered; anybody else may answer too, and has a
quarter of what a claim for paid work costs. What is true is not answered: it is owed.
"""

from collections.abc import Callable, Sequence

from audit.chain_facts import Keys, domain_of
from audit.files import Shelf
from audit.history import History, OwedClaim
from audit.paid import PaidIndex
from audit.watch_actions import Actor
from ledger.ledger import Ledger
from ledger.state import Condemnation, WorkOpening
from protocol.canonical import keccak256
from protocol.commitment import is_signed
from protocol.epoch import EpochHeader
from protocol.signing import separator
from protocol.verdict import Outcome, Verdict

Verdicts = Callable[[int, bytes], Sequence[Verdict]]
"""Where the verdicts on a group come from, by run and work digest. They are checked here."""

CLAIMS_PER_ROUND = 32
"""Each is four questions to a node."""


def no_verdicts(_run_id: int, _work_digest: bytes) -> Sequence[Verdict]:
    """Know none."""
    return ()


class Condemned:
    """Quorums of verdicts that work is false. Example: `Condemned(ledger, verdicts).of(1, work_hash)`"""

    def __init__(self, ledger: Ledger, verdicts: Verdicts) -> None:
        self._ledger = ledger
        self._verdicts = verdicts
        self._domain = domain_of(ledger)
        self._keys = Keys(ledger)

    def of(self, run_id: int, work_hash: bytes) -> tuple[Condemnation, ...]:
        """Return as many verdicts on work, by its struct hash, as the ledger asks for, or none."""
        state, digest = self._ledger.run(run_id), self._digest(work_hash)
        seats = self._ledger.seats(run_id)
        places = {who: place for place, who in enumerate(state.roster)}
        found = {
            seats[verdict.verifier]: Condemnation.of(verdict, places[verdict.verifier])
            for verdict in self._verdicts(run_id, digest)
            if verdict.verifier in places
            and (verdict.run_id, verdict.work_digest) == (run_id, digest)
            and self._condemns(verdict)
        }
        if len(found) < state.threshold:
            return ()
        return tuple(found.values())[: state.threshold]

    def _digest(self, work_hash: bytes) -> bytes:
        """Return what the worker signed, of which only the struct's hash is known."""
        return keccak256(b"\x19\x01" + separator(self._domain) + work_hash)

    def _condemns(self, verdict: Verdict) -> bool:
        if verdict.outcome is not Outcome.REJECTED:
            return False
        return is_signed(verdict, self._domain, self._keys.spoke_for, at=verdict.decided_at)


class OwedAnswers:
    """Example: `OwedAnswers(ledger, actor, shelf, paid, condemned).attend(claim, history)`"""

    def __init__(
        self, ledger: Ledger, actor: Actor, shelf: Shelf, paid: PaidIndex, condemned: Condemned
    ) -> None:
        self._ledger = ledger
        self._actor = actor
        self._shelf = shelf
        self._paid = paid
        self._condemned = condemned
        self._indexed: set[bytes] = set()
        self._at = 0

    def attend_some(self, claims: Sequence[OwedClaim], history: History) -> None:
        """Attend to the next few claims, so that a round stays short however many there are."""
        for _ in range(min(len(claims), CLAIMS_PER_ROUND)):
            self._at = (self._at + 1) % len(claims)
            self.attend(claims[self._at], history)

    def attend(self, claim: OwedClaim, history: History) -> None:
        """Answer a claim that stands, if there is an answer."""
        work = claim.work
        if not self._ledger.claimed_at(work):
            return
        if (paid := self._paid_by(claim, history)) is not None:
            self._actor.send(claim, "answer by epoch", "answer_paid", work, *paid)
        elif self._ledger.is_reported(work.run_id, work.worker):
            self._actor.say(claim, "not owed: its worker was reported, and is paid nothing")
        elif verdicts := self._condemned.of(work.run_id, claim.key):
            self._actor.send(claim, "answer by verdicts", "answer_condemned", work, verdicts)
        else:
            self._actor.say(claim, "owed: no epoch has it, and no quorum condemned it")

    def _paid_by(
        self, claim: OwedClaim, history: History
    ) -> tuple[EpochHeader, WorkOpening] | None:
        self._index(history, claim.run_id)
        work = claim.work
        for header_hash, place in self._paid.of_work(work.run_id, work.worker, work.nonce):
            posted = history.postings.get(header_hash)
            opened = self._shelf.opened(posted) if posted is not None and posted.pays else None
            if opened is not None:
                return opened.header, opened.work_at(place)
        return None

    def _index(self, history: History, run_id: int) -> None:
        """Note what the run's epochs pay, also those that were final before this watcher began."""
        for posted in history.postings.values():
            if posted.run_id != run_id or not posted.pays or posted.header_hash in self._indexed:
                continue
            published = self._shelf.read(posted)
            if published is not None and self._shelf.opened(posted) is not None:
                self._paid.add(run_id, posted.header_hash, published.work)
                self._indexed.add(posted.header_hash)
