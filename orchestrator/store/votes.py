"""Read what a vote is counted by, and write what it does if all of that is still so.

Both are one atomic step. Between them anything may happen, in other processes too: then nothing is
written, and the vote is counted again by what is true by then. What is compared is all that was read,
so no writer has to say that it changed something.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from orchestrator.rules import ballots
from orchestrator.rules.ballots import Ballots, Effect, Suspicion, VoteFacts, VoteTerms
from orchestrator.rules.votes import Counted
from orchestrator.store import keys
from orchestrator.store.events import event_body
from orchestrator.store.queue import Argument, Queue
from orchestrator.store.reports import Report
from protocol.checks.evidence import Consequence
from protocol.errors import Busy
from protocol.messages import GroupState
from protocol.verdict import Outcome, Seal, Verdict

Command = tuple[Argument, ...]
TRIES = 16
"""How often a vote is counted where others change its facts each time: as many verifiers of one group
may send theirs in the same millisecond."""


@dataclass(frozen=True, slots=True)
class Vote:
    """Whose vote, on which group of which worker; nobody's where a canary's time ends."""

    digest: str
    verifier: str
    worker: str


@dataclass(frozen=True, slots=True)
class Seen:
    """Facts, with the reads that found them and the digest of their answers."""

    facts: VoteFacts
    reads: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class VoteStore:
    queue: Queue

    async def settle(
        self,
        vote: Vote,
        terms: VoteTerms,
        writes: "Writes",
        decide: Callable[[VoteFacts], Counted],
    ) -> Counted:
        """Write what a vote does by its facts, as often as they change meanwhile."""
        for _ in range(TRIES):
            seen = await self.read(writes.run_id, vote, terms)
            counted = decide(seen.facts)
            if not counted.effects or await self.write(seen, counted.effects, writes):
                return counted
        raise Busy(
            f"{TRIES} other votes were counted before this one: send the same again",
            retry_after_seconds=1.0,
        )

    async def read(self, run_id: int, vote: Vote, terms: VoteTerms) -> Seen:
        """Read a vote's facts at one moment."""
        reads = _packed(_reads(vote, terms))
        digest, answers = await self.queue.script("read", run_id, reads)
        return Seen(_facts(answers, terms), reads, digest)

    async def write(self, seen: Seen, effects: Sequence[Effect], writes: "Writes") -> bool:
        """Write a vote's effects; return False, and write nothing, where its facts have changed."""
        packed = _packed(command for effect in effects for command in writes.commands(effect))
        arguments = (seen.reads, seen.digest, packed, keys.NUM_EVENTS_KEPT)
        return bool(await self.queue.script("write", writes.run_id, *arguments))


def _reads(vote: Vote, terms: VoteTerms) -> list[Command]:
    """Return the reads in the order in which `_facts` takes their answers."""
    digest, worker = vote.digest, vote.worker
    return [
        ("HMGET", f"group:{digest}", "worker", "state", "found", "canary"),
        ("HGETALL", f"seals:{digest}"),
        ("HGETALL", f"votes:{digest}"),
        ("HGETALL", f"findings:{digest}"),
        ("HMGET", f"worker:{worker}", "excluded", "excluded_for"),
        ("SMEMBERS", f"gross:{worker}"),
        ("SMEMBERS", f"alarms:{worker}"),
        ("SISMEMBER", f"handed:{digest}", vote.verifier),
        ("ZSCORE", f"unopened:{vote.verifier}", digest),
        ("SMEMBERS", "voteless"),
        *(("HGET", f"verifier:{verifier}", "canaries_failed") for verifier in terms.verifiers),
    ]


def _facts(answers: Iterable[Any], terms: VoteTerms) -> VoteFacts:
    left = iter(answers)

    def words() -> list[str]:
        return [(value or b"").decode() for value in next(left)]

    def pairs() -> dict[str, str]:
        flat = words()
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def members() -> frozenset[str]:
        return frozenset(words())

    owner, state, found, canary = words()
    seals = {v: Seal.from_json(seal).evidence_digest.hex() for v, seal in pairs().items()}
    votes = {voter: Outcome(vote) for voter, vote in pairs().items()}
    findings = {voter: Consequence(finding) for voter, finding in pairs().items()}
    excluded, excluded_for = words()
    return VoteFacts(
        group=Ballots(owner, GroupState(state), found, canary, seals, votes, findings),
        worker=Suspicion(excluded == "1" and not excluded_for, members(), members()),
        is_handed=bool(next(left)),
        is_awaited=next(left) is not None,
        voteless=members(),
        num_failed={verifier: int(next(left) or 0) for verifier in terms.verifiers},
    )


def _packed(commands: Iterable[Command]) -> bytes:
    # Words throughout, and in the older form, in which text and bytes are one type: Lua's numbers are floats.
    words = [[w if isinstance(w, bytes) else str(w) for w in command] for command in commands]
    return bytes(msgpack.packb(words, use_bin_type=False))


@dataclass(frozen=True, slots=True)
class Writes:
    """What an effect of this vote writes: steps of `write.lua` by name, and commands on keys after the prefix."""

    run_id: int
    num_verifiers: int
    now: float
    seal: Seal | None = None
    verdict: Verdict | None = None
    report: Report | None = None

    def commands(self, effect: Effect) -> tuple[Command, ...]:
        match effect:
            case ballots.KeepSeal(digest, verifier, until, awaited) if self.seal is not None:
                return (
                    ("HSET", f"seals:{digest}", verifier, self.seal.to_json()),
                    ("keep_place", digest, verifier, until),
                    *(("ZADD", f"unopened:{v}", "NX", self.now, digest) for v in awaited),
                )
            case _:
                return self._decision(effect)

    def _decision(self, effect: Effect) -> tuple[Command, ...]:  # noqa: PLR0911 - one per effect
        match effect:
            case ballots.RecordVote(digest, verifier, outcome, finding) if self.verdict is not None:
                is_undecided = outcome is Outcome.UNDECIDED
                return (
                    ("HSET", f"votes:{digest}", verifier, outcome.value),
                    ("HSET", f"verdicts:{digest}", verifier, self.verdict.to_json()),
                    ("HSET", f"findings:{digest}", verifier, finding.value),
                    ("ZREM", f"unopened:{verifier}", digest),
                    ("HINCRBY", f"verifier:{verifier}", "undecided", int(is_undecided)),
                )
            case ballots.HideBallot(digest, verifier, summary):
                return (("HSET", f"ballots:{digest}", verifier, self._event("verdict", summary)),)
            case ballots.ShowBallots(digest, only):
                return (("show_ballots", digest, only.value if only else ""),)
            case ballots.FreePlace(digest, verifier, offered_at):
                at = "" if offered_at is None else offered_at
                return (("free_place", digest, verifier, at),)
            case ballots.DropPlaces(digest):
                return (("drop_places", digest, self.num_verifiers),)
            case ballots.Ask(digest, num_wanted, at):
                return (("ask", digest, self.num_verifiers, num_wanted, at),)
            case ballots.Accept(digest):
                return (("accept", digest),)
            case ballots.Reject(digest, rejection, detail):
                return (("reject", digest, rejection, detail),)
            case ballots.CloseVote(digest, found):
                return (("HSET", f"group:{digest}", "found", found),)
            case ballots.Announce(kind, fields):
                return (("announce", kind, self._event(kind, fields)),)
            case _:
                return self._sanction(effect)

    def _sanction(self, effect: Effect) -> tuple[Command, ...]:  # noqa: PLR0911 - one per effect
        match effect:
            case ballots.NoteSplit(digest, pairs):
                found = ("HSET", f"group:{digest}", "found", ballots.SPLIT)
                return (found, *(("HINCRBY", "splits", " ".join(pair), 1) for pair in pairs))
            case ballots.NoteGross(worker, digest):
                return (("SADD", f"gross:{worker}", digest),)
            case ballots.Exclude(worker, detail):
                return (("exclude", worker, detail, self.num_verifiers),)
            case ballots.StartReport(digest, also) if self.report is not None:
                report = self.report.model_copy(update={"also": bytes.fromhex(also or "00" * 32)})
                return (("HSET", "reports", digest, report.to_json()),)
            case ballots.NoteAlarm(worker, verifier):
                return (
                    ("SADD", f"alarms:{worker}", verifier),
                    ("EXPIRE", f"alarms:{worker}", keys.HANDED_SECONDS),
                )
            case ballots.Pause(worker, detail):
                return (("pause", worker, detail),)
            case ballots.NoteOdd(verifier):
                return (("HINCRBY", f"verifier:{verifier}", "odd", 1),)
            case ballots.FailCanary(verifier, worker):
                return (
                    ("HINCRBY", f"verifier:{verifier}", "canaries_failed", 1),
                    ("SADD", "spent_canaries", worker),
                )
            case ballots.TakeVote(verifier, digest):
                return (
                    ("SADD", "voteless", verifier),
                    ("HSET", f"verifier:{verifier}", "failed_on", digest),
                )
            case ballots.Accuse(verifier, digest):
                return (("SADD", "accusations", f"{digest}:{verifier}"),)
            case ballots.CloseCanary(digest):
                return (("close_canary", digest),)
        raise TypeError(f"{effect} is written nowhere: add it to store/votes.py")

    def _event(self, kind: str, fields: object) -> str:
        return event_body(self.run_id, kind, self.now, fields)  # type: ignore[arg-type]
