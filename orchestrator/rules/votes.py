"""Count verdicts: what a vote decides about a group, about its worker, and about whoever verifies badly.

Pure: facts and a vote in, effects out. The store writes the effects only if the facts are still so
(`store/votes.py`), so that votes may arrive in any number of processes at once.

The ladder. A quorum of `to_accept` accepting votes pays a group; `to_condemn` rejecting ones leave it
unpaid. Stake goes only where as many voters' own figures name what was done, or are gross in two groups
of the worker. As many alarms of their sequential tests pause a worker. Where all have voted and neither
quorum is there, the group waits until the operator puts another verifier in the place of one: paid, it would be
the shield of any cheat with one verifier in league; unpaid, any verifier could starve a worker.

A canary is a group whose answer was fixed before it was sent. Whoever misjudges one loses its vote, also
where it was already given; whoever misjudges a second one is accused.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

from orchestrator.rules.ballots import (
    SPLIT,
    Accept,
    Accuse,
    Announce,
    Ask,
    Cast,
    CloseCanary,
    CloseVote,
    DropPlaces,
    Effect,
    Exclude,
    FailCanary,
    FreePlace,
    NoteAlarm,
    NoteGross,
    NoteOdd,
    NoteSplit,
    OpenBallots,
    PassCanary,
    Pause,
    RecordVote,
    Reject,
    SealBallot,
    StartReport,
    TakeVote,
    VoteFacts,
    VoteTerms,
)
from protocol.checks.evidence import Consequence
from protocol.messages import GroupState
from protocol.verdict import Outcome

UNDECIDED_SECONDS = 5.0
"""Pause before an undecided replay is offered again: what it lacked must have time to appear."""


class Reply(StrEnum):
    """What became of a vote."""

    COUNTED = "counted"
    SAME = "same"
    CONFLICT = "conflict"
    FOREIGN = "foreign"


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


def count(facts: VoteFacts, cast: Cast, terms: VoteTerms, now: float) -> Counted:
    """Return what a vote does: each verifier has one on each group that was handed to it."""
    ballots = facts.groups[cast.digest]
    before = ballots.votes.get(cast.verifier, Outcome.UNDECIDED)
    if before is not Outcome.UNDECIDED:
        is_same = cast.outcome in (before, Outcome.UNDECIDED)
        return Counted(Reply.SAME if is_same else Reply.CONFLICT, ballots.state, earlier=before)
    if not facts.is_handed:
        return Counted(Reply.FOREIGN, ballots.state)
    counting = _Counting(facts, cast, terms, now)
    counting.count()
    return Counted(
        Reply.COUNTED,
        counting.states[cast.digest],
        tuple(counting.effects),
        tuple(counting.news),
    )


def failing(facts: VoteFacts, cast: Cast, terms: VoteTerms) -> tuple[str, ...]:
    """Return who fails the canary by this vote, for what is known of them is among the facts."""
    if not facts.groups[cast.digest].canary or cast.outcome is Outcome.UNDECIDED:
        return ()
    return _examined(facts, cast, terms)[1]


def _votes(facts: VoteFacts, cast: Cast, digest: str) -> dict[str, Outcome]:
    votes = dict(facts.groups[digest].votes)
    return votes | {cast.verifier: cast.outcome} if digest == cast.digest else votes


def _examined(
    facts: VoteFacts, cast: Cast, terms: VoteTerms
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return who passes a canary and who fails it by this vote.

    An answer that nobody else found may be a fault of whoever made the canary: a verifier fails it only
    where another passed it, or where there is no other.
    """
    answer = facts.groups[cast.digest].canary
    given = _decided(_votes(facts, cast, cast.digest))
    is_confirmed = answer in given.values() or len(terms.verifiers) == 1
    fresh = [voter for voter in given if voter not in facts.examined]
    passed = tuple(voter for voter in fresh if given[voter] == answer)
    return passed, tuple(v for v in fresh if given[v] != answer) if is_confirmed else ()


def _decided(votes: Mapping[str, Outcome]) -> dict[str, Outcome]:
    return {voter: vote for voter, vote in votes.items() if vote is not Outcome.UNDECIDED}


class _Counting:
    """A count in progress: what is true after the effects so far."""

    def __init__(self, facts: VoteFacts, cast: Cast, terms: VoteTerms, now: float) -> None:
        self._facts, self._cast, self._terms, self._now = facts, cast, terms, now
        self._voteless = set(facts.voteless)
        self.states = {digest: ballots.state for digest, ballots in facts.groups.items()}
        self.effects: list[Effect] = []
        self.news: list[str] = []

    def count(self) -> None:
        cast, ballots = self._cast, self._facts.groups[self._cast.digest]
        self._do(RecordVote(cast.digest, cast.verifier, cast.outcome, cast.finding))
        is_open = ballots.state is GroupState.REPLAY
        if cast.outcome is Outcome.UNDECIDED:
            self._do(Announce("verdict", cast.summary))
            if is_open:
                again = self._now + UNDECIDED_SECONDS
                self._do(FreePlace(cast.digest, cast.verifier, again))
            return
        self._do(FreePlace(cast.digest, cast.verifier))
        if is_open:
            self._do(SealBallot(cast.digest, cast.verifier, cast.summary))
        if ballots.canary:
            self._examine()
        elif is_open:
            self._tally(cast.digest)
        else:
            self._take_note()
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

    def _tally(self, digest: str) -> None:
        votes, terms = _votes(self._facts, self._cast, digest), self._terms
        num_accepted = self._num(votes, {Outcome.ACCEPTED})
        num_rejected = self._num(votes, {Outcome.REJECTED})
        if num_rejected >= terms.to_condemn:
            self._condemn(digest)
        elif num_accepted >= terms.to_accept:
            self._accept(digest)
        else:
            if num_accepted + num_rejected == len(self._voters()):
                self._split(digest)
            num_wanted = terms.to_accept - max(num_accepted, num_rejected)
            self._do(Ask(digest, num_wanted, self._now))

    def _split(self, digest: str) -> None:
        """None is left to ask. Whoever can bring that about could as well sign no epoch."""
        ballots, votes = self._facts.groups[digest], _votes(self._facts, self._cast, digest)
        voters = self._voters()
        pairs = tuple(
            (one, other)
            for one, other in combinations(sorted(voters), 2)
            if votes[one] != votes[other]
            and (ballots.found != SPLIT or self._cast.verifier in (one, other))
        )
        if pairs:
            self._do(NoteSplit(digest, pairs))
            self._tell("split", {"digest": "0x" + digest})

    def _accept(self, digest: str) -> None:
        self._do(Accept(digest))
        self.states[digest] = GroupState.ACCEPTED
        self._close(digest, Outcome.ACCEPTED)

    def _condemn(self, digest: str) -> None:
        cast, worker = self._cast, self._facts.groups[digest].worker
        self._do(Reject(digest, cast.rejection, cast.detail))
        self.states[digest] = GroupState.REJECTED
        self._close(digest, Outcome.REJECTED)
        findings = dict(self._facts.groups[digest].findings)
        if digest == cast.digest:
            findings[cast.verifier] = cast.finding
        named, gross = Consequence.NAMED, Consequence.GROSS
        if self._num(findings, {named}) >= self._terms.to_condemn:
            self._sanction(worker, digest, also="")
        elif self._num(findings, {named, gross}) >= self._terms.to_condemn:
            self._do(NoteGross(worker, digest))
            others = sorted(self._facts.workers[worker].gross - {digest})
            if others:
                self._sanction(worker, digest, also=others[0])

    def _sanction(self, worker: str, digest: str, *, also: str) -> None:
        """Work that no honest machine makes: its worker loses its place, and its stake is asked for."""
        if self._facts.workers[worker].is_excluded:
            return
        why = f"replay of 0x{digest} found false work: {self._cast.rejection}"
        self._do(Exclude(worker, why), Announce("exclusion", self._cast.summary))
        if self._cast.is_reportable:
            self._do(StartReport(digest, also))

    def _close(self, digest: str, found: str) -> None:
        self._do(CloseVote(digest, found), OpenBallots(digest), DropPlaces(digest))
        for voter, vote in _decided(_votes(self._facts, self._cast, digest)).items():
            if vote != found:
                self._odd(digest, voter, vote, found)

    def _odd(self, digest: str, voter: str, vote: Outcome, found: str) -> None:
        self._do(NoteOdd(voter))
        fields = {"verifier": voter, "digest": "0x" + digest, "outcome": vote.value, "found": found}
        self._tell("odd_one_out", fields)

    def _take_note(self) -> None:
        """A vote that comes after the decision changes nothing, and is held against the decision."""
        cast, found = self._cast, self._facts.groups[self._cast.digest].found
        self._do(Announce("verdict", cast.summary))
        if found and found != cast.outcome:
            self._odd(cast.digest, cast.verifier, cast.outcome, found)

    def _alarm(self, worker: str) -> None:
        """Work that passes one by one and drifts together: its worker is paid, and pauses."""
        self._do(NoteAlarm(worker, self._cast.verifier))
        alarms = self._facts.workers[worker].alarms | {self._cast.verifier}
        if len(alarms & set(self._voters())) >= self._terms.to_condemn:
            fields = {"worker": worker, "detail": self._cast.detail}
            self._do(Pause(worker, self._cast.detail), Announce("paused", fields))
            self.news.append("worker_paused")

    def _examine(self) -> None:
        digest, ballots = self._cast.digest, self._facts.groups[self._cast.digest]
        passed, failed = _examined(self._facts, self._cast, self._terms)
        self._do(*(PassCanary(digest, voter) for voter in passed))
        for voter in failed:
            self._strike(voter)
        given = _decided(_votes(self._facts, self._cast, digest))
        if ballots.state is not GroupState.REPLAY or not given.keys() >= set(self._voters()):
            return
        self._do(CloseCanary(digest), OpenBallots(digest, Outcome.ACCEPTED), DropPlaces(digest))
        self.states[digest] = GroupState.ACCEPTED
        if ballots.canary not in given.values() and len(self._terms.verifiers) > 1:
            self.news.append("canary_contradicted")

    def _strike(self, voter: str) -> None:
        """The first failed canary costs the vote, the second the stake; each group is counted without it."""
        digest, known = self._cast.digest, self._facts.failing[voter]
        self._do(FailCanary(digest, voter, self._facts.groups[digest].worker))
        if known.num_failed == 1:
            self._do(Accuse(voter, digest))
        if known.num_failed:
            return
        self._voteless.add(voter)
        self._do(TakeVote(voter, digest))
        self._tell("vote_lost", {"verifier": voter, "digest": "0x" + digest})
        for waiting in known.waiting:
            ballots = self._facts.groups[waiting]
            if self.states[waiting] is GroupState.REPLAY and not ballots.canary:
                self._tally(waiting)
