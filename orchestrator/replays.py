"""Hand replays to verifiers and count their signed verdicts.

A verifier's verdict counts where the replay was handed to it, once, as it sealed it, and while it has its
vote. How votes are counted is `rules/votes.py`; how verifiers are tested themselves, `checks/canaries.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.auth import SignedIn
from orchestrator.checks import canaries
from orchestrator.rules import votes
from orchestrator.rules.ballots import Cast, VoteTerms
from orchestrator.rules.votes import Counted, Reply
from orchestrator.run import Run
from orchestrator.services import Services
from orchestrator.store.records import GroupRecord
from orchestrator.store.reports import Report
from orchestrator.store.verifiers import HANDED_SECONDS
from orchestrator.store.votes import Vote, Writes
from protocol.checks.draw import Draw
from protocol.checks.evidence import Consequence, Hypothesis, consequence
from protocol.constants import MAX_CLOCK_SKEW_SECONDS
from protocol.errors import (
    AuditForeign,
    BadSignature,
    ClockSkew,
    ConflictingVerdict,
    Forbidden,
    Malformed,
    NotFound,
    VoteOpen,
)
from protocol.messages import AuditRequest, AuditTask, AuditTasks, ClosedVote, VerdictReply
from protocol.rollout import Receipt, SignedLease
from protocol.signing import recover
from protocol.verdict import Outcome, Rejection, Seal, Verdict, follows


@dataclass(frozen=True, slots=True)
class UnderReplay:
    """The group under replay."""

    group: GroupRecord
    lease: SignedLease


async def require_verifier(services: Services, run: Run, identity: str) -> None:
    """Raise `Forbidden` unless the identity is one of the run's staked verifiers."""
    if identity not in run.chain.verifiers:
        raise Forbidden(f"{identity} is not one of run {run.run_id}'s verifiers")
    stake = await services.chain.stake_of(identity)
    if stake < run.chain.min_stake:
        raise Forbidden(f"verifier {identity} has {stake} at stake, {run.chain.min_stake} is asked")


async def take(
    services: Services, run: Run, account: SignedIn, asked: AuditRequest
) -> AuditTasks | None:
    """Seal what a verifier found; return what it should replay and which verdicts it should send, or None.

    Who has lost its vote replays no more, and still answers for what it sealed.
    """
    await canaries.require_accountable(services, run, account.identity)
    for seal in asked.seals:
        if seal.verifier != account.identity:
            raise Malformed(f"the seal is {seal.verifier}'s, the session {account.identity}'s")
        await take_seal(services, run, seal)
    lost = await canaries.vote_lost(services, run, account.identity)
    digests = await services.store.verifiers.take_audits(
        *(run.run_id, account.identity, 0 if lost else asked.count),
        verifiers=run.chain.verifiers,
        seconds=services.config.audit_seconds,
        now=services.clock(),
    )
    tasks = [await _task_of(services, run, digest) for digest in digests]
    closed = await services.store.verifiers.closed(run.run_id, account.identity)
    shown = tuple(_shown(run, account.identity, *vote) for vote in closed.items())
    if lost and not shown:
        raise lost
    return AuditTasks(tasks=tuple(tasks), closed=shown) if tasks or shown else None


def _shown(run: Run, verifier: str, digest: bytes, seals: Mapping[str, Seal]) -> ClosedVote:
    """Return as many seals as let the verifier send its verdict: more would tell who else was asked."""
    others = [seals[v] for v in run.voters if v in seals and v != verifier]
    shown = (seals[verifier], *others[: run.chain.threshold - 1])
    return ClosedVote(work_digest=digest, seals=shown)


async def take_seal(services: Services, run: Run, seal: Seal) -> None:
    """Keep a verifier's seal; where as many have sealed as must agree, their verdicts are awaited."""
    if seal.run_id != run.run_id:
        raise Malformed(f"the seal is for run {seal.run_id}, not {run.run_id}")
    digest, verifier = services.chain.domain.digest(seal), seal.verifier
    await _require_spoken_for(services, digest, seal.signature, verifier)
    group = await group_of(services, run, seal.work_digest)
    terms, now = VoteTerms.of(run.chain.verifiers, threshold=run.chain.threshold), services.clock()
    counted = await services.store.votes.settle(
        Vote(seal.work_digest.hex(), verifier, group.worker),
        terms,
        Writes(run.run_id, len(terms.verifiers), now, seal=seal),
        lambda facts: votes.seal(facts, seal, terms, now, seconds=services.config.audit_seconds),
    )
    _require_taken(verifier, seal.work_digest, counted)


async def _task_of(services: Services, run: Run, work_digest: bytes) -> AuditTask:
    """Return what a verifier needs in order to replay a submission."""
    subject = await subject_of(services, run, work_digest)
    return AuditTask(
        work_digest=work_digest,
        lease=subject.lease,
        body=subject.group.body,
        rollouts=drawn_rollouts(services, run, subject.group, work_digest),
        rewards=subject.group.rewards,
    )


def drawn_rollouts(
    services: Services, run: Run, group: GroupRecord, work_digest: bytes
) -> tuple[int, ...]:
    """Return which of a group's rollouts are replayed; a canary's answer is about all of them."""
    size = len(group.lengths)
    if group.canary:
        return tuple(range(size))
    draw = Draw(epoch=group.draw_epoch, rate=group.draw_rate)
    secret = services.secret(run.run_id, draw.epoch)
    return draw.rollouts(secret, work_digest, group_size=size, policy=run.spec.audit)


async def count(services: Services, run: Run, verdict: Verdict) -> VerdictReply:
    """Count the verdict of one of the run's verifiers; what enough of them find follows in the same step."""
    await _require_signed(services, run, verdict)
    group = await group_of(services, run, verdict.work_digest)
    _require_dated(group, verdict, services.clock())
    _require_covering(services, run, group, verdict)
    counted = await _counted(services, run, verdict, group.worker)
    _require_taken(verdict.verifier, verdict.work_digest, counted)
    if counted.reply is Reply.COUNTED:
        services.metrics.verdicts.labels(run.run_id).inc()
        canaries.notice(services, run, verdict.work_digest, counted.news)
    return VerdictReply(state=counted.state)


async def _counted(services: Services, run: Run, verdict: Verdict, worker: str) -> Counted:
    report = await _report(services, run, verdict, worker)
    cast = Cast(
        digest=verdict.work_digest.hex(),
        verifier=verdict.verifier,
        outcome=verdict.outcome,
        finding=consequence(verdict, run.spec.thresholds),
        rejection=verdict.rejection,
        detail=verdict.detail,
        evidence=verdict.evidence_digest().hex(),
        is_alarm=verdict.drifts,
        is_reportable=report is not None,
        summary=_summary(verdict, worker),
    )
    terms, now = VoteTerms.of(run.chain.verifiers, threshold=run.chain.threshold), services.clock()
    return await services.store.votes.settle(
        Vote(cast.digest, cast.verifier, worker),
        terms,
        Writes(run.run_id, len(terms.verifiers), now, verdict=verdict, report=report),
        lambda facts: votes.count(facts, cast, terms, now),
    )


async def group_of(services: Services, run: Run, work_digest: bytes) -> GroupRecord:
    """Return a submission's record; raise `NotFound`."""
    group = await services.store.groups.group(run.run_id, work_digest)
    if group is None:
        raise NotFound(f"no submission 0x{work_digest.hex()} in run {run.run_id}")
    return group


async def subject_of(services: Services, run: Run, work_digest: bytes) -> UnderReplay:
    """Return a submission's record with its lease; raise `NotFound`."""
    group = await group_of(services, run, work_digest)
    return UnderReplay(group, await services.store.leases.signed(run.run_id, group.lease_id))


def _require_taken(verifier: str, work_digest: bytes, counted: Counted) -> None:
    work = f"0x{work_digest.hex()}"
    if counted.reply is Reply.CONFLICT:
        before = (
            f"found {work} {counted.earlier}" if counted.earlier else f"sealed its vote on {work}"
        )
        raise ConflictingVerdict(f"{verifier} already {before}: a verdict stands")
    if counted.reply is Reply.FOREIGN:
        raise AuditForeign(
            f"the replay of {work} was not handed to {verifier}, or longer ago than "
            f"{HANDED_SECONDS} s: judge what POST .../audits gives out"
        )
    if counted.reply is Reply.EARLY:
        raise VoteOpen(
            f"{verifier}'s verdict on {work} is taken once it is sealed and enough others are: send a seal to "
            "POST .../audits, and the verdict when that lists the work as closed"
        )


async def _require_spoken_for(
    services: Services, digest: bytes, signature: bytes, verifier: str
) -> None:
    """Raise `BadSignature` unless a verifier or a hot key of it signed the digest."""
    signer = recover(digest, signature)
    if signer != verifier and await services.chain.identity_of(signer) != verifier:
        raise BadSignature(f"signed by {signer}, not by {verifier} or a hot key of it")


async def _require_signed(services: Services, run: Run, verdict: Verdict) -> None:
    if verdict.run_id != run.run_id:
        raise Malformed(f"the verdict is for run {verdict.run_id}, not {run.run_id}")
    _require_consistent(verdict)
    digest = services.chain.domain.digest(verdict)
    await _require_spoken_for(services, digest, verdict.signature, verdict.verifier)


def _require_dated(group: GroupRecord, verdict: Verdict, now: float) -> None:
    """A verdict stands as it was sealed, however late it is sent."""
    came, skew = Receipt.from_json(group.receipt).received_at, MAX_CLOCK_SKEW_SECONDS
    if not min(now, came) - skew <= verdict.decided_at <= now + skew:
        raise ClockSkew(
            f"decided_at is {verdict.decided_at - now:+.0f} s from now, and the work came in "
            f"{now - came:.0f} s ago: set this machine's clock"
        )


def _require_consistent(verdict: Verdict) -> None:
    """A condemning verdict names its reason, and only a condemning one does."""
    reasons = {reason.value for reason in Rejection} - {Rejection.WORKER_EXCLUDED.value}
    if verdict.outcome is Outcome.REJECTED and verdict.rejection not in reasons:
        raise Malformed(
            f"a rejection by replay gives one of {', '.join(sorted(reasons))}, "
            f"not {verdict.rejection!r}"
        )
    if verdict.outcome is not Outcome.REJECTED and verdict.rejection:
        raise Malformed(f"an {verdict.outcome.value} verdict gives no rejection")
    if verdict.drifts and verdict.outcome is not Outcome.ACCEPTED:
        raise Malformed("only a group that is accepted by itself can carry a drift over its bound")
    if verdict.drifts and not verdict.detail:
        raise Malformed(
            "a drift alarm says in `detail` what crossed: the paused worker is shown it"
        )
    if verdict.hypothesis and verdict.outcome is not Outcome.REJECTED:
        raise Malformed(f"an {verdict.outcome.value} verdict names no hypothesis")
    if verdict.hypothesis and verdict.hypothesis not in list(Hypothesis):
        raise Malformed(
            f"the hypothesis {verdict.hypothesis!r} is unknown: name one of {', '.join(Hypothesis)}, or none"
        )


def _require_covering(services: Services, run: Run, group: GroupRecord, verdict: Verdict) -> None:
    """A verdict that decides covers the rollouts that were drawn, and every token of them."""
    if verdict.outcome is Outcome.UNDECIDED:
        return
    drawn = drawn_rollouts(services, run, group, verdict.work_digest)
    num_tokens = sum(group.lengths[i] for i in drawn)
    if verdict.rollouts != drawn or verdict.stats.num_tokens != num_tokens:
        raise Malformed(
            f"the verdict is on {verdict.stats.num_tokens} tokens of rollouts {list(verdict.rollouts)}; drawn "
            f"are the {num_tokens} of {list(drawn)}: replay what the audit task names"
        )
    if not follows(verdict, run.spec.thresholds):
        does = "keep every bound" if verdict.outcome is Outcome.REJECTED else "break a bound"
        raise Malformed(f"the verdict is {verdict.outcome.value} and its figures {does}")


async def _report(services: Services, run: Run, verdict: Verdict, worker: str) -> Report | None:
    """Return the report that stake-worthy evidence starts, or None where nothing is at stake."""
    grounds = consequence(verdict, run.spec.thresholds)
    if grounds in {Consequence.NONE, Consequence.UNPAID} or not run.chain.min_stake:
        return None
    return Report(
        run_id=run.run_id,
        worker=worker,
        work_digest=verdict.work_digest,
        evidence_digest=verdict.evidence_digest(),
        amount=str(run.chain.min_stake),
        reported_at=await services.chain.block_time(),
    )


def _summary(verdict: Verdict, worker: str) -> dict[str, int | str]:
    return {
        "worker": worker,
        "verifier": verdict.verifier,
        "digest": "0x" + verdict.work_digest.hex(),
        "outcome": verdict.outcome.value,
        "rejection": verdict.rejection,
        "match_millionths": verdict.stats.match_millionths,
        "num_rollouts": len(verdict.rollouts),
        "hypothesis": verdict.hypothesis,
        "drifts": int(verdict.drifts),
    }
