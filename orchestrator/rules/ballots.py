"""What a vote is counted by, and what it may do: the facts and the effects of `votes.py`.

Digests are hexadecimal, as the store names groups.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from protocol.checks.draw import votes_that_condemn
from protocol.checks.evidence import Consequence
from protocol.messages import GroupState
from protocol.verdict import Outcome

SPLIT = "split"
"""What a group was found to be where all voted and no quorum agreed: it waits for another verifier."""


@dataclass(frozen=True, slots=True)
class VoteTerms:
    """Who may vote by the chain, and how many votes decide.

    Example: VoteTerms.of(("0xa", "0xb", "0xc"), threshold=2)
    """

    verifiers: tuple[str, ...]
    to_accept: int
    to_condemn: int

    @classmethod
    def of(cls, verifiers: tuple[str, ...], *, threshold: int) -> Self:
        return cls(verifiers, threshold, votes_that_condemn(threshold, len(verifiers)))


@dataclass(frozen=True, slots=True)
class Cast:
    """One verdict as it is counted."""

    digest: str
    verifier: str
    outcome: Outcome
    finding: Consequence
    """What the verdict's own figures justify."""
    rejection: str = ""
    detail: str = ""
    evidence: str = ""
    """The verdict's digest, which its seal names."""
    is_alarm: bool = False
    """Whether the verifier's sequential test of the worker crossed its bound."""
    is_reportable: bool = False
    """Whether there is a stake to report the worker for."""
    summary: Mapping[str, int | str] = field(default_factory=dict)
    """What the verdict's event says."""


@dataclass(frozen=True, slots=True)
class Ballots:
    """A group, and what was voted on it so far. Of a verifier's votes the last one stands here."""

    worker: str
    state: GroupState
    found: str = ""
    """What closed the vote: an outcome; empty or `SPLIT` while it is open."""
    canary: str = ""
    """What a replay must find, where the group is a canary."""
    seals: Mapping[str, str] = field(default_factory=dict)
    """By verifier, the digest of the verdict that it sealed."""
    votes: Mapping[str, Outcome] = field(default_factory=dict)
    findings: Mapping[str, Consequence] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What is known against a worker."""

    is_sanctioned: bool = False
    """Whether it was excluded for false work before; for what else does not shield its stake."""
    gross: frozenset[str] = frozenset()
    """Its groups with gross evidence."""
    alarms: frozenset[str] = frozenset()
    """Verifiers whose sequential test of it alarmed since its last pause."""


@dataclass(frozen=True, slots=True)
class VoteFacts:
    """All that a vote is counted by, read at one moment."""

    group: Ballots
    worker: Suspicion
    is_handed: bool
    """Whether the replay was ever handed to the voter."""
    is_awaited: bool
    """Whether the vote was closed with the voter's seal in it, and lacks its verdict."""
    voteless: frozenset[str] = frozenset()
    num_failed: Mapping[str, int] = field(default_factory=dict)
    """Canaries that verifiers failed before."""


class Effect:
    """What a vote writes: carried out by `store/votes.py`, in order."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class KeepSeal(Effect):
    """The voter's place goes to another where its verdict is not there by then."""

    digest: str
    verifier: str
    until: float
    awaited: tuple[str, ...] = ()
    """Whose verdicts are awaited from here on: none while the vote is not closed."""


@dataclass(frozen=True, slots=True)
class RecordVote(Effect):
    digest: str
    verifier: str
    outcome: Outcome
    finding: Consequence


@dataclass(frozen=True, slots=True)
class HideBallot(Effect):
    """Keep a vote's event until the group is decided: who is asked later must not know it."""

    digest: str
    verifier: str
    summary: Mapping[str, int | str]


@dataclass(frozen=True, slots=True)
class ShowBallots(Effect):
    """Count the hidden votes in public, and announce them all or those of one outcome."""

    digest: str
    only: Outcome | None = None


@dataclass(frozen=True, slots=True)
class FreePlace(Effect):
    """The voter's place in the queue of replays is gone, or offered again from a time on."""

    digest: str
    verifier: str
    offered_at: float | None = None


@dataclass(frozen=True, slots=True)
class DropPlaces(Effect):
    """Nobody is asked about the group any more."""

    digest: str


@dataclass(frozen=True, slots=True)
class Ask(Effect):
    """Keep as many places open as votes are still wanted."""

    digest: str
    num_wanted: int
    at: float


@dataclass(frozen=True, slots=True)
class Accept(Effect):
    digest: str


@dataclass(frozen=True, slots=True)
class Reject(Effect):
    digest: str
    rejection: str
    detail: str


@dataclass(frozen=True, slots=True)
class CloseVote(Effect):
    digest: str
    found: str


@dataclass(frozen=True, slots=True)
class NoteSplit(Effect):
    """Nobody is left to ask, and no quorum agrees: `pairs` that disagree, and were not counted yet."""

    digest: str
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class NoteGross(Effect):
    worker: str
    digest: str


@dataclass(frozen=True, slots=True)
class Exclude(Effect):
    worker: str
    detail: str


@dataclass(frozen=True, slots=True)
class StartReport(Effect):
    """Ask for the worker's stake; `also` is its other gross group, or empty where one is enough."""

    digest: str
    also: str


@dataclass(frozen=True, slots=True)
class NoteAlarm(Effect):
    worker: str
    verifier: str


@dataclass(frozen=True, slots=True)
class Pause(Effect):
    """No leases until a self-check; the worker's record begins again, its alarms too."""

    worker: str
    detail: str


@dataclass(frozen=True, slots=True)
class NoteOdd(Effect):
    verifier: str


@dataclass(frozen=True, slots=True)
class FailCanary(Effect):
    """The canary's worker is spent: it is opened for all to check."""

    verifier: str
    worker: str


@dataclass(frozen=True, slots=True)
class TakeVote(Effect):
    verifier: str
    digest: str


@dataclass(frozen=True, slots=True)
class Accuse(Effect):
    verifier: str
    digest: str


@dataclass(frozen=True, slots=True)
class CloseCanary(Effect):
    """From outside it looks like accepted work from here on, until it is opened."""

    digest: str


@dataclass(frozen=True, slots=True)
class Announce(Effect):
    kind: str
    fields: Mapping[str, int | str]
