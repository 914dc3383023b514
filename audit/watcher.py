"""Watch every posted epoch: prove what is false, demand leaves if no proof exists yet, answer others.

A thin shell. `fraud.py` says what is false, and `hidden/examination.py` what to ask for; this file reads
the chain, fetches files, and sends. Every round asks the chain where it stands and may be repeated. It
trusts nobody: a file counts for what it opens, an answer for the root its path leads to.

It pays gas only, unless its `Mandate` lets it put down bonds.
"""

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import structlog

from audit.chain_facts import facts_of
from audit.files import Files, Shelf
from audit.fraud import find
from audit.hidden.examination import Examination, Question
from audit.hidden.headers import posted_header
from audit.hidden.responder import Responder
from audit.hidden.search import Exhausted
from audit.history import Fate, History, Posted
from audit.owed import Condemned, OwedAnswers, Verdicts, no_verdicts
from audit.paid import PaidIndex
from audit.published import Openable, unknown
from audit.watch_actions import Actor
from ledger.journal import Journal
from ledger.ledger import Ledger
from ledger.state import DisputeKind, Posting
from protocol.canonical import keccak256
from protocol.epoch import AccountLeaf, EpochHeader

GRACE_SHARE = 3
"""The part of the challenge window by which a file may be late before it counts as withheld."""


@dataclass(frozen=True, slots=True)
class Mandate:
    """What a watcher may do. Demands and escalations put down bonds that an honest answer takes."""

    sends: bool = True
    demands: bool = False
    escalates: bool = False
    answers: bool = True
    run_ids: Container[int] | None = None
    """Only these runs, asked every time; None for all."""


class Watcher:
    """Watches one ledger.

    Example:
        watcher = Watcher(ledger, Path("watch"), address=me, files=fetch, policy=Mandate())
        while not stop.wait(2): watcher.step()
    """

    def __init__(
        self,
        ledger: Ledger,
        folder: Path,
        *,
        address: str | None,
        files: Files,
        policy: Mandate,
        verdicts: Verdicts = no_verdicts,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._ledger = ledger
        self._policy = policy
        self._journal = Journal(ledger.events(path=folder / "cursor.json"), folder / "events.jsonl")
        self._history = History.of(self._journal.events)
        self._paid = PaidIndex(folder / "paid.sqlite")
        self._shelf = Shelf(folder, files)
        self._actor = Actor(ledger, address=address, sends=policy.sends)
        condemned = Condemned(ledger, verdicts)
        tools = (ledger, self._actor, self._shelf)
        self._responder = Responder(*tools, condemned, answers=policy.answers)
        self._owed = OwedAnswers(*tools, self._paid, condemned)
        if self._paid.is_empty:
            for posted in self._history.postings.values():
                if posted.pays and (published := self._shelf.read(posted)) is not None:
                    self._paid.add(posted.run_id, posted.header_hash, published.work)
        self._cases: dict[bytes, Examination] = {}
        self._clean: dict[bytes, int] = {}
        self._sound: set[bytes] = set()
        self._done: set[bytes] = set()

    @property
    def sound(self) -> frozenset[bytes]:
        """Hashes of the headers that were examined whole and hold."""
        return frozenset(self._sound)

    def step(self) -> None:
        """Do one round. Raise `LedgerError` if the chain cannot be read; the next round goes on."""
        self._read_events()
        now = self._ledger.block_time()
        proven: set[int] = set()
        for posted in self._history.disputable():
            # A voided epoch takes every later one of its run along: look again next round.
            is_due = self._minds(posted.run_id) and posted.run_id not in proven
            if is_due and self._examine(posted, now):
                proven.add(posted.run_id)
        for dispute in self._history.disputes.values():
            if dispute.is_open and self._minds(dispute.run_id):
                posted = self._history.postings[dispute.header_hash]
                is_sound = dispute.header_hash in self._sound
                self._responder.attend(dispute, posted, now=now, is_sound=is_sound)
        if self._policy.answers:
            claims = [c for c in self._history.claims.values() if self._minds(c.run_id)]
            self._owed.attend_some(claims, self._history)

    def _minds(self, run_id: int) -> bool:
        return self._policy.run_ids is None or run_id in self._policy.run_ids

    def _read_events(self) -> None:
        before = self._journal.num_reorganisations
        if self._journal.refresh():
            self._history = History.of(self._journal.events)
        if self._journal.num_reorganisations != before:
            # The same header may have been posted again at another time, and is judged by that.
            for known in (self._cases, self._clean, self._sound, self._done):
                known.clear()

    # ---------------------------------------------------------------- postings

    def _examine(self, posted: Posted, now: int) -> bool:
        """Prove a header false if that is possible, or ask further; return whether it was proven."""
        if posted.header_hash in self._done or self._is_past(posted):
            return False
        case = self._case(posted, now)
        if case is None:
            return False
        case.learn(self._history.about(posted.header_hash))
        before = self._accounts_before(posted, case.header)
        if self._is_proven(posted, case, before, now):
            return True
        if posted.header_hash not in self._clean:
            return False  # a proof was refused: for want of gas, say, or because another came first
        if case.is_whole and before is not None:
            self._sound.add(posted.header_hash)
            self._done.add(posted.header_hash)
            self._cases.pop(posted.header_hash, None)
            structlog.get_logger().info("epoch holds", run_id=posted.run_id, epoch=posted.epoch)
        elif case.is_whole:
            self._actor.say(posted, "accounts not checked: the file of the epoch before is missing")
        elif posted.fate is Fate.PENDING:
            self._ask(posted, case)
        return False

    def _is_proven(
        self, posted: Posted, case: Examination, before: Openable[AccountLeaf] | None, now: int
    ) -> bool:
        """Send proofs until one is taken. A header that was found clean is not searched again."""
        known = case.num_learned + (before is not None)
        if self._clean.get(posted.header_hash) == known:
            return False
        self._clean.pop(posted.header_hash, None)
        is_clean, facts = True, facts_of(self._ledger, posted, now=now)
        paid_before = self._paid.before(posted, self._history, self._shelf.read)
        found = find(case.opened(), facts, before=before, paid_before=paid_before)
        for finding in found:
            is_clean = False
            told = {"fault": finding.fault.name, "what": finding.what}
            if self._actor.send(posted, "proof", finding.method, *finding.arguments, **told):
                return True
        if is_clean:
            self._clean[posted.header_hash] = known
        return False

    def _case(self, posted: Posted, now: int) -> Examination | None:
        """Return the examination of a header, once its file has come or should have."""
        case = self._cases.get(posted.header_hash)
        if case is not None and case.published is not None:
            return case
        published = self._shelf.read(posted)
        if published is None and (case is not None or now < self._file_due(posted)):
            return case
        header = published.header(posted.data_hash) if published else None
        if header is None or header.struct_hash() != posted.header_hash:
            header = posted_header(self._ledger, posted)
        if header is None:
            self._actor.say(posted, "header cannot be seen", remedy="use a node that gives traces")
            return None
        case = self._cases[posted.header_hash] = Examination(posted, header, published)
        if case.opens_work and published is not None:
            self._paid.add(posted.run_id, posted.header_hash, published.work)
        if not case.is_whole:
            has_file = published is not None
            self._actor.say(posted, "file does not lead to the header", has_file=has_file)
        return case

    def _is_past(self, posted: Posted) -> bool:
        """Whether the signers of a retracted header no longer answer for it."""
        if posted.fate is not Fate.RETRACTED:
            return False
        posting, _ = self._ledger.posting(posted.run_id, posted.epoch, posted.header_hash)
        if posting is not Posting.RETRACTED:
            self._done.add(posted.header_hash)
        return posting is not Posting.RETRACTED

    def _file_due(self, posted: Posted) -> int:
        window = self._ledger.run(posted.run_id).challenge_window
        return posted.final_at - window + window // GRACE_SHARE

    def _accounts_before(self, posted: Posted, header: EpochHeader) -> Openable[AccountLeaf] | None:
        """Return the account tree that the header builds on, or None if its file is not here."""
        if posted.epoch == 0:
            return unknown(0)
        before = self._history.paying(posted.run_id, posted.epoch - 1)
        published = self._shelf.read(before) if before else None
        if published is None or published.account_tree.root != header.prev_account_root:
            return None
        return Openable.whole(published.accounts, published.account_tree)

    def _ask(self, posted: Posted, case: Examination) -> None:
        """Demand leaves that would tell more, or call the arbiter if none would."""
        about = self._history.about(posted.header_hash)
        mine = [dispute for dispute in about if dispute.by == self._actor.address]
        if any(dispute.is_open for dispute in mine):
            return
        question = case.next_question()
        can_ask = isinstance(question, Question) and self._policy.demands
        is_withheld = case.published is None
        if (
            isinstance(question, Question)
            and can_ask
            and not (is_withheld and self._policy.escalates)
        ):
            arguments = (case.header, question.tree, question.indices)
            self._actor.send(
                posted, "demand", "demand", *arguments, num_leaves=len(question.indices)
            )
        elif not any(dispute.kind is DisputeKind.ESCALATION for dispute in mine):
            self._escalate(posted, case, reason_of(question, has_file=not is_withheld))

    def _escalate(self, posted: Posted, case: Examination, reason: str) -> None:
        if not self._policy.escalates:
            remedy = "allow demands or escalations, which put down bonds"
            self._actor.say(posted, "nothing can be proven", reason=reason, remedy=remedy)
            return
        digest = keccak256(reason.encode())
        self._actor.send(posted, "escalation", "escalate", case.header, digest, reason=reason)


def reason_of(end: Question | Exhausted, *, has_file: bool) -> str:
    """Return the text whose digest an escalation carries."""
    if not has_file:
        return "the epoch's file is withheld"
    if isinstance(end, Question) or end.place is None:
        return "the epoch's file is not the one that was signed"
    return f"leaf {end.place} of the signed tree is not the published one"
