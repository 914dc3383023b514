"""Hand replays to verifiers and count their signed verdicts.

A verifier's verdict counts where the replay was handed to it, once, and while it has its vote. How
votes are counted is `rules/votes.py`; how verifiers are tested themselves, `checks/canaries.py`.
"""

from dataclasses import dataclass

import structlog

from orchestrator.auth import SignedIn
from orchestrator.rules import votes
from orchestrator.rules.ballots import Cast, VoteTerms
from orchestrator.rules.votes import Counted, Reply
from orchestrator.run import Run
from orchestrator.services import Services
from orchestrator.store.records import GroupRecord
from orchestrator.store.reports import Report
from orchestrator.store.verifiers import HANDED_SECONDS
from orchestrator.store.votes import Writes
from protocol.checks.draw import Draw
from protocol.checks.evidence import Consequence, Hypothesis, consequence
from protocol.constants import MAX_CLOCK_SKEW_SECONDS
from protocol.errors import (
    AuditForeign,
    BadSignature,
    Busy,
    ClockSkew,
    ConflictingVerdict,
    Forbidden,
    Malformed,
    NotFound,
    NotJoined,
    VoteLost,
)
from protocol.messages import AuditTask, AuditTasks, VerdictReply
from protocol.rollout import SignedLease
from protocol.signing import recover
from protocol.verdict import Outcome, Rejection, Verdict, follows

TRIES = 16
"""How often a verdict is counted where others change its facts each time: as many verifiers of one group
may send theirs in the same millisecond."""


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


async def _require_accountable(services: Services, run: Run, verifier: str) -> None:
    """Raise `NotJoined` where a failed canary could not cost this verifier its stake.

    The ledger takes reports about those that joined a run only.
    """
    if run.canaries:
        membership = await services.chain.membership(run.run_id, verifier)
        if not membership.is_joined:
            raise NotJoined(
                f"run {run.run_id} tests its verifiers, and {verifier} has not joined it: call "
                f"joinRun on the ledger {services.chain.domain.ledger} from that account"
            )


async def take(services: Services, run: Run, account: SignedIn, count: int) -> AuditTasks | None:
    """Return replays for one of the run's verifiers, or None where there are none it should do."""
    await _require_accountable(services, run, account.identity)
    await _require_vote(services, run, account.identity)
    digests = await services.store.verifiers.take_audits(
        *(run.run_id, account.identity, count),
        verifiers=run.chain.verifiers,
        seconds=services.config.audit_seconds,
        now=services.clock(),
    )
    tasks = [await _task_of(services, run, digest) for digest in digests]
    return AuditTasks(tasks=tuple(tasks)) if tasks else None


async def _task_of(services: Services, run: Run, work_digest: bytes) -> AuditTask:
    """Return what a verifier needs in order to replay a submission."""
    subject = await subject_of(services, run, work_digest)
    return AuditTask(
        audit_id=work_digest,
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
    _require_covering(services, run, group, verdict)
    counted = await _counted(services, run, verdict, group.worker)
    _require_taken(verdict, counted)
    if counted.reply is Reply.COUNTED:
        services.metrics.verdicts.labels(run.run_id).inc()
        _notice(services, run, verdict, counted.news)
    return VerdictReply(state=counted.state)


async def _counted(services: Services, run: Run, verdict: Verdict, worker: str) -> Counted:
    """Count a verdict by the facts, as often as they change meanwhile."""
    report = await _report(services, run, verdict, worker)
    cast = Cast(
        digest=verdict.work_digest.hex(),
        verifier=verdict.verifier,
        outcome=verdict.outcome,
        finding=consequence(verdict, run.spec.thresholds),
        rejection=verdict.rejection,
        detail=verdict.detail,
        is_alarm=verdict.drifts,
        is_reportable=report is not None,
        summary=_summary(verdict, worker),
    )
    terms, now = VoteTerms.of(run.chain.verifiers, threshold=run.chain.threshold), services.clock()
    writes = Writes(run.run_id, verdict, report, len(terms.verifiers), now)
    for _ in range(TRIES):
        seen = await services.store.votes.read(run.run_id, cast, worker, terms)
        counted = votes.count(seen.facts, cast, terms, now)
        if not counted.effects:
            return counted
        if await services.store.votes.write(seen, counted.effects, writes):
            return counted
    raise Busy(
        f"{TRIES} other verdicts were counted before this one: send the same again",
        retry_after_seconds=1.0,
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


def _require_taken(verdict: Verdict, counted: Counted) -> None:
    work = f"0x{verdict.work_digest.hex()}"
    if counted.reply is Reply.CONFLICT:
        raise ConflictingVerdict(
            f"{verdict.verifier} already found {work} {counted.earlier}: a verdict stands"
        )
    if counted.reply is Reply.FOREIGN:
        raise AuditForeign(
            f"the replay of {work} was not handed to {verdict.verifier}, or longer ago than "
            f"{HANDED_SECONDS} s: judge what POST .../audits gives out"
        )


def _notice(services: Services, run: Run, verdict: Verdict, news: tuple[str, ...]) -> None:
    """Count what a verdict brought to light, and say what a person must know."""
    log = structlog.get_logger()
    digest = "0x" + verdict.work_digest.hex()
    for kind in news:
        services.metrics.verifier_findings.labels(run.run_id, kind).inc()
        if kind == "canary_contradicted":
            log.error("all verifiers contradict a canary", run_id=run.run_id, digest=digest)
        else:
            log.warning(kind.replace("_", " "), run_id=run.run_id, digest=digest)


async def _require_vote(services: Services, run: Run, verifier: str) -> None:
    """Raise `VoteLost` where the verifier failed a canary, with what it can do about it."""
    digest = (await services.store.verifiers.record(run.run_id, verifier)).failed_on
    if digest:
        raise VoteLost(
            f"{verifier} judged a group of known quality wrongly and has no vote in run "
            f"{run.run_id} any more: see for yourself with `rollcall verify --explain 0x{digest} "
            f"--run {run.run_id}`, mend the replay, and have the operator replace this verifier by "
            "another address (`rollcall run replace`)"
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
    skew = verdict.decided_at - services.clock()
    if abs(skew) > MAX_CLOCK_SKEW_SECONDS:
        raise ClockSkew(f"decided_at is {skew:+.0f} s from now: set this machine's clock")


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
