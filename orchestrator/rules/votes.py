"""Count verdicts: what a vote decides about a group, about its worker, and about whoever verifies badly.

Pure: facts and a vote in, effects out. The store writes the effects only if the facts are still so
(`store/votes.py`), so that votes may arrive in any number of processes at once.

The ladder. A quorum of `to_accept` accepting votes pays a group; `to_condemn` rejecting ones leave it
unpaid. Stake goes only where as many voters' own figures name what was done, or are gross in two groups
of the worker. As many alarms of their sequential tests pause a worker. Where all have voted and neither
quorum is there, the group waits until the operator puts another verifier in the place of one: paid, it would be
the shield of any cheat with one verifier in league; unpaid, any verifier could starve a worker.

A vote is sealed before anybody's is known: as many seals as votes accept a group close it, and then each
that sealed sends its verdict, which must be the one that its seal names. Who seals and sends nothing is one that is silent.

A canary is a group whose answer was fixed before it was sent (`examination.py`). All are examined at once, when
the last has answered or its time is over: told earlier, who failed would tell the others the answer.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

from orchestrator.rules.ballots import (
    SPLIT,
    Accept,
    Announce,
    Ask,
    Cast,
    CloseCanary,
    CloseVote,
    DropPlaces,
    Effect,
    Exclude,
    FreePlace,
    HideBallot,
    KeepSeal,
    NoteAlarm,
    NoteGross,
    NoteOdd,
    NoteSplit,
    Pause,
    RecordVote,
    Reject,
    ShowBallots,
    StartReport,
    VoteFacts,
    VoteTerms,
)
from orchestrator.rules.examination import strike
from protocol.checks.evidence import Consequence
from protocol.messages import GroupState
from protocol.verdict import Outcome, Seal

UNDECIDED_SECONDS = 5.0
"""Pause before an undecided replay is offered again: what it lacked must have time to appear."""


class Reply(StrEnum):
    """What became of a vote."""

    COUNTED = "counted"
    SAME = "same"
    CONFLICT = "conflict"
    FOREIGN = "foreign"
    EARLY = "early"


@dataclass(frozen=True, slots=True)
class Counted:
    """What a vote did. Without effects nothing is written."""

    reply: Reply
    state: GroupState
    effects: tuple[Effect, ...] = ()
    news: tuple[str, ...] = ()
    """What came to light besides, for the operator."""
    earlier: Outcome | None = None
    """The vote that stands, where there is one."""


def seal(
    facts: VoteFacts, sealed: Seal, terms: VoteTerms, now: float, *, seconds: float
) -> Counted:
    """Return what a seal does: each verifier has one on each group that was handed to it, while it is open.

    Its place is kept for twice as long as a replay may take: for the others' seals, then for its verdict.
    """
    digest, verifier = sealed.work_digest.hex(), sealed.verifier
    state, before = facts.group.state, facts.group.seals.get(verifier)
    if before is not None:
        is_same = before == sealed.evidence_digest.hex()
        return Counted(Reply.SAME if is_same else Reply.CONFLICT, state)
    if not facts.is_handed:
        return Counted(Reply.FOREIGN, state)
    if state is not GroupState.REPLAY:
        return Counted(Reply.SAME, state)
    sealers = [v for v in terms.verifiers if v in {*facts.group.seals, verifier}]
    is_closed = len(set(sealers) - facts.voteless) >= terms.to_accept
    awaited = tuple(v for v in sealers if is_closed and v not in _decided(facts.group.votes))
    kept = KeepSeal(digest, verifier, now + 2 * seconds, awaited)
    return Counted(Reply.COUNTED, state, (kept,))


def count(facts: VoteFacts, cast: Cast, terms: VoteTerms, now: float) -> Counted:
    """Return what a vote does: a verifier's is the one that it sealed.

    An undecided one needs no seal, and may be decided later. Said again it does nothing: it would fill the stream of events.
    """
    before, state = facts.group.votes.get(cast.verifier), facts.group.state
    if before is not None and cast.outcome in (before, Outcome.UNDECIDED):
        return Counted(Reply.SAME, state, earlier=before)
    sealed = facts.group.seals.get(cast.verifier)
    if before not in (None, Outcome.UNDECIDED) or sealed not in (None, cast.evidence):
        return Counted(Reply.CONFLICT, state, earlier=before)
    if not facts.is_handed:
        return Counted(Reply.FOREIGN, state)
    if cast.outcome is not Outcome.UNDECIDED and not facts.is_awaited:
        return Counted(Reply.EARLY, state)
    counting = _Counting(facts, cast, terms, now)
    counting.count()
    return Counted(Reply.COUNTED, counting.state, tuple(counting.effects), tuple(counting.news))


def end_canary(facts: VoteFacts, digest: str, terms: VoteTerms, now: float) -> Counted:
    """Return what the end of a canary's time does: who has answered by then is examined."""
    nobody = Cast(digest, "", Outcome.UNDECIDED, Consequence.NONE)
    counting = _Counting(facts, nobody, terms, now)
    if facts.group.state is GroupState.REPLAY:
        counting.end_canary()
    return Counted(Reply.COUNTED, counting.state, tuple(counting.effects), tuple(counting.news))


def _votes(facts: VoteFacts, cast: Cast) -> dict[str, Outcome]:
    return {**facts.group.votes, cast.verifier: cast.outcome}


def _decided(votes: Mapping[str, Outcome]) -> dict[str, Outcome]:
    return {voter: vote for voter, vote in votes.items() if vote is not Outcome.UNDECIDED}


class _Counting:
    """A count in progress: what is true after the effects so far."""

    def __init__(self, facts: VoteFacts, cast: Cast, terms: VoteTerms, now: float) -> None:
        self._facts, self._cast, self._terms, self._now = facts, cast, terms, now
        self._voteless = set(facts.voteless)
        self.state = facts.group.state
        self.effects: list[Effect] = []
        self.news: list[str] = []

    def count(self) -> None:
        cast, ballots = self._cast, self._facts.group
        self._do(RecordVote(cast.digest, cast.verifier, cast.outcome, cast.finding))
        is_open = ballots.state is GroupState.REPLAY
        if cast.outcome is Outcome.UNDECIDED:
            self._do(Announce("verdict", cast.summary))
            if is_open:
                again = self._now + UNDECIDED_SECONDS
                self._do(FreePlace(cast.digest, cast.verifier, again))
            return
        self._do(
            FreePlace(cast.digest, cast.verifier),
            HideBallot(cast.digest, cast.verifier, cast.summary),
        )
        if not is_open:
            self._take_note()
        elif ballots.canary:
            self._examine()
        else:
            self._tally()
        if cast.is_alarm and cast.verifier in self._voters():
            self._alarm(ballots.worker)

    def _do(self, *effects: Effect) -> None:
        self.effects += effects

    def _tell(self, kind: str, fields: Mapping[str, int | str]) -> None:
        self._do(Announce(kind, fields))
        self.news.append(kind)

    def _voters(self) -> list[str]:
        """Return the verifiers whose votes count."""
        return [v for v in self._terms.verifiers if v not in self._voteless]

    def _num(self, votes: Mapping[str, object], wanted: Collection[object]) -> int:
        return sum(votes.get(voter) in wanted for voter in self._voters())

    def _tally(self) -> None:
        votes, terms = _votes(self._facts, self._cast), self._terms
        num_accepted = self._num(votes, {Outcome.ACCEPTED})
        num_rejected = self._num(votes, {Outcome.REJECTED})
        if num_rejected >= terms.to_condemn:
            self._condemn()
        elif num_accepted >= terms.to_accept:
            self._accept()
        else:
            if num_accepted + num_rejected == len(self._voters()):
                self._split()
            num_wanted = min(terms.to_accept - num_accepted, terms.to_condemn - num_rejected)
            self._do(Ask(self._cast.digest, num_wanted, self._now))

    def _split(self) -> None:
        """None is left to ask. Whoever can bring that about could as well sign no epoch."""
        cast, votes = self._cast, _votes(self._facts, self._cast)
        pairs = tuple(
            pair
            for pair in combinations(sorted(self._voters()), 2)
            if votes[pair[0]] != votes[pair[1]]
            and (self._facts.group.found != SPLIT or cast.verifier in pair)
        )
        if pairs:
            self._do(NoteSplit(cast.digest, pairs))
            self._tell("split", {"digest": "0x" + cast.digest})

    def _accept(self) -> None:
        self._do(Accept(self._cast.digest))
        self.state = GroupState.ACCEPTED
        self._close(Outcome.ACCEPTED)

    def _condemn(self) -> None:
        cast = self._cast
        self._do(Reject(cast.digest, cast.rejection, cast.detail))
        self.state = GroupState.REJECTED
        self._close(Outcome.REJECTED)
        findings = {**self._facts.group.findings, cast.verifier: cast.finding}
        named, gross = Consequence.NAMED, Consequence.GROSS
        if self._num(findings, {named}) >= self._terms.to_condemn:
            self._sanction(also="")
        elif self._num(findings, {named, gross}) >= self._terms.to_condemn:
            self._do(NoteGross(self._facts.group.worker, cast.digest))
            others = sorted(self._facts.worker.gross - {cast.digest})
            if others:
                self._sanction(also=others[0])

    def _sanction(self, *, also: str) -> None:
        """Work that no honest machine makes: its worker loses its place, and its stake is asked for."""
        if self._facts.worker.is_sanctioned:
            return
        cast = self._cast
        why = f"replay of 0x{cast.digest} found false work: {cast.rejection}"
        self._do(Exclude(self._facts.group.worker, why), Announce("exclusion", cast.summary))
        if cast.is_reportable:
            self._do(StartReport(cast.digest, also))

    def _close(self, found: str) -> None:
        digest = self._cast.digest
        self._do(CloseVote(digest, found), ShowBallots(digest), DropPlaces(digest))
        for voter, vote in _decided(_votes(self._facts, self._cast)).items():
            if vote != found:
                self._odd(voter, vote, found)

    def _odd(self, voter: str, vote: Outcome, found: str) -> None:
        digest = "0x" + self._cast.digest
        self._do(NoteOdd(voter))
        fields = {"verifier": voter, "digest": digest, "outcome": vote.value, "found": found}
        self._tell("odd_one_out", fields)

    def _take_note(self) -> None:
        """A vote that comes after the decision changes nothing, and is held against the decision."""
        cast, found = self._cast, self._facts.group.found
        if self._facts.group.canary:
            self._do(ShowBallots(cast.digest, Outcome.ACCEPTED))
            self._strike({cast.verifier: cast.outcome})
            return
        self._do(ShowBallots(cast.digest))
        if found and found != cast.outcome:
            self._odd(cast.verifier, cast.outcome, found)

    def _alarm(self, worker: str) -> None:
        """Work that passes one by one and drifts together: its worker is paid, and pauses."""
        self._do(NoteAlarm(worker, self._cast.verifier))
        alarms = self._facts.worker.alarms | {self._cast.verifier}
        if len(alarms & set(self._voters())) >= self._terms.to_condemn:
            fields = {"worker": worker, "detail": self._cast.detail}
            self._do(Pause(worker, self._cast.detail), Announce("paused", fields))
            self.news.append("worker_paused")

    def _examine(self) -> None:
        given = _decided(_votes(self._facts, self._cast))
        if not given.keys() >= set(self._voters()):
            return
        if self._facts.group.canary not in given.values() and len(self._terms.verifiers) > 1:
            self.news.append("canary_contradicted")
        self.end_canary()

    def end_canary(self) -> None:
        digest = self._cast.digest
        self._strike(_decided(_votes(self._facts, self._cast)))
        self._do(CloseCanary(digest), ShowBallots(digest, Outcome.ACCEPTED), DropPlaces(digest))
        self.state = GroupState.ACCEPTED

    def _strike(self, judged: Mapping[str, Outcome]) -> None:
        answers = _votes(self._facts, self._cast).values()
        effects, lost = strike(
            self._facts, self._cast.digest, judged, answers=answers, terms=self._terms
        )
        self._do(*effects)
        self._voteless |= lost
        self.news += ["vote_lost"] * len(lost)
