"""Take a submission in: who sent it, whether it may be paid, what it earns, and the signed receipt.

The order matters. Cheap refusals come before expensive work; the body is durable before the record
names it; the record is written in one atomic step, so a crash anywhere leaves either nothing or
all, and the worker's repetition gets the same receipt. Late is decided on arrival: what came in time is
in time, however long scoring takes.
"""

import asyncio
from dataclasses import dataclass

from orchestrator.budgets import Sender
from orchestrator.checks.withholding import reason_of
from orchestrator.rewards import scoring
from orchestrator.rules import admission
from orchestrator.rules.admission import Objection
from orchestrator.rules.batch import is_trainable
from orchestrator.run import Run
from orchestrator.services import Services
from orchestrator.store.events import event_body
from orchestrator.store.journal import Kind, TakenGroup
from orchestrator.store.records import GroupRecord
from protocol.canonical import content_digest
from protocol.checks.draw import Draw, rate_millionths
from protocol.constants import (
    MAX_CLOCK_SKEW_SECONDS,
    MAX_SUBMISSION_BYTES,
    MICRO,
    NUM_TOKENS_PER_UNIT,
)
from protocol.errors import (
    BadSignature,
    ClockSkew,
    Excluded,
    LeaseExpired,
    LeaseForeign,
    LeaseUsed,
    NotFound,
)
from protocol.inflate import stated_size
from protocol.messages import BatchGroup, Contribution, GroupState
from protocol.rollout import Lease, Receipt, Submission, Work, repack, work_of
from protocol.signing import recover, sign

SMALL_BYTES = 1 << 16
"""What inflates to no more by its own word is read at once; handing it to a thread costs as much."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A submission whose sender is established, with what the queue knows about it."""

    signed: bytes
    """The lease as it was signed, in JSON."""
    lease: Lease
    submission: Submission
    work: Work
    digest: bytes
    num_accepted: int
    """Accepted groups with lower nonces, by now: the record that the draw goes by."""
    drop_debt: int
    newest_version: int
    received_at: int


@dataclass(frozen=True, slots=True)
class Judged:
    """What an arrival turned out to be worth."""

    state: GroupState
    finding: Objection | None
    rewards: tuple[int, ...]
    is_trainable: bool
    copy_key: bytes | None
    draw: Draw | None = None
    secret_epoch: int | None = None
    """Whose secret drew it; None where it needs none."""
    canary: str = ""
    """What a replay must find, where the worker is one that verifiers are tested with."""


def most_bytes(run: Run) -> int:
    """Return how long a body may be: the largest that inflates to what the run allows, and some more."""
    return min(MAX_SUBMISSION_BYTES, run.spec.most_submission_bytes + SMALL_BYTES)


async def take(
    services: Services,
    run: Run,
    sender: Sender,
    body: bytes,
    *,
    arrived_at: float,
) -> Receipt | bytes:
    """Return the receipt (as JSON bytes where it was given before); raise what refuses the body."""
    submission, packed = await _read(services, body, run.spec.most_submission_bytes)
    known = await _begin(services, run, sender, submission, arrived_at)
    if isinstance(known, bytes):
        return known
    finding = admission.admit(
        known.lease, known.submission, run.terms, newest_version=known.newest_version
    )
    judged = await _judge(services, run, known, finding)
    return await _record(services, run, known, judged, packed)


async def _read(services: Services, body: bytes, most: int) -> tuple[Submission, bytes]:
    """Read a body, a large one in a thread: inflating 64 MiB must not hold up who sends a kilobyte."""
    if 0 < stated_size(body) <= SMALL_BYTES:
        return repack(body, most)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(services.readers, repack, body, most)


async def _begin(
    services: Services, run: Run, sender: Sender, submission: Submission, arrived_at: float
) -> Arrival | bytes:
    """Establish the sender; return the old receipt's JSON where this very submission is known."""
    known = await services.store.groups.begin(
        *(run.run_id, submission.lease_id, sender.identity),
        payer=sender.payer.name,
        rate=sender.payer.rate,
        burst=sender.payer.burst,
        now=arrived_at,
    )
    lease = known.lease
    if lease is None:
        await services.store.runs.require_restored(run.run_id)
        raise NotFound(f"no lease 0x{submission.lease_id.hex()} in run {run.run_id}")
    if lease.worker != sender.identity:
        raise LeaseForeign(f"the lease is {lease.worker}'s, the session is {sender.identity}'s")
    gflops = run.spec.gflops(submission.num_tokens())
    work = work_of(lease, submission, gflops=gflops)
    digest = services.chain.domain.digest(work)
    if known.used is not None:
        return _same_receipt(lease, known.used, digest, known.receipt)
    if known.is_excluded:
        why = reason_of(lease.worker, known.excluded_for)
        raise Excluded(f"{why}: nothing more is taken")
    await _require_worker_signed(services, lease, digest, submission)
    if known.in_time != digest.hex():
        _require_timely(lease, submission, arrived_at)
    if not known.is_open:
        raise LeaseExpired(f"lease {lease.nonce} was returned or has expired")
    await services.require_owed(run, submission.submitted_at)
    await scoring.hold_if_near(services, lease, digest, arrived_at)
    return Arrival(
        signed=known.signed or b"",
        lease=lease,
        submission=submission,
        work=work,
        digest=digest,
        num_accepted=known.num_accepted,
        drop_debt=known.drop_debt,
        newest_version=known.newest_version,
        received_at=int(arrived_at),
    )


def _same_receipt(lease: Lease, used: str, digest: bytes, receipt: bytes) -> bytes:
    if used != digest.hex():
        raise LeaseUsed(f"lease {lease.nonce} already has submission 0x{used}: one group per lease")
    return receipt


async def _require_worker_signed(
    services: Services, lease: Lease, digest: bytes, submission: Submission
) -> None:
    signer = recover(digest, submission.signature)
    if await services.chain.spoke_for(signer, lease.worker, submission.submitted_at):
        return
    raise BadSignature(
        f"the work is signed by {signer}, which is neither {lease.worker} nor a hot key of it that "
        "lasts: sign exactly this group's Work for this chain and ledger"
    )


def _require_timely(lease: Lease, submission: Submission, now: float) -> None:
    if now > lease.deadline + 1:
        raise LeaseExpired(
            f"lease {lease.nonce} ended {now - lease.deadline:.1f} s ago: return leases that "
            "cannot be finished in time"
        )
    skew = submission.submitted_at - now
    if abs(skew) > MAX_CLOCK_SKEW_SECONDS:
        raise ClockSkew(
            f"submitted_at is {skew:+.0f} s from now; at most {MAX_CLOCK_SKEW_SECONDS} s are "
            "allowed: set this machine's clock"
        )


async def _judge(services: Services, run: Run, known: Arrival, finding: Objection | None) -> Judged:
    if finding is not None:
        return Judged(GroupState.REJECTED, finding, (), False, None)
    is_careless = run.spec.drop_rule.is_on_probation(known.drop_debt)
    by_record = rate_millionths(run.spec.audit, num_accepted=known.num_accepted)
    # The epoch that is open now: the lease's own may already be revealed.
    has_secret = run.chain.num_opened > run.num_revealed
    rate = MICRO if is_careless or not has_secret else by_record
    draw = Draw(epoch=max(0, run.chain.num_opened - 1), rate=rate)
    is_audited = draw.selects(services.secret(run.run_id, draw.epoch), known.digest)
    rewards = await scoring.rewards_of(services, known.lease, known.digest, known.submission)
    canary = run.canaries.get(known.lease.worker)
    return Judged(
        GroupState.REPLAY if is_audited or canary else GroupState.ACCEPTED,
        None,
        rewards,
        is_trainable(rewards),
        admission.copy_key(known.submission),
        draw,
        draw.epoch if has_secret else None,
        canary.opening.answer if canary else "",
    )


async def _record(
    services: Services, run: Run, known: Arrival, judged: Judged, body: bytes
) -> Receipt | bytes:
    blob, receipt = content_digest(body), _receipt(services, known, judged.finding)
    group = _group(known, judged, blob, receipt)
    num_votes = len(run.chain.verifiers) if judged.canary else run.chain.threshold
    event = _event(run, known, judged, services.clock())
    # Before the queue, which may forget it: a receipt is kept whatever becomes of Redis. What admission
    # rejects is replayed by nobody: its digest is enough to recognise it by.
    is_kept = judged.finding is None
    if is_kept:
        taken = TakenGroup(known.signed, group, judged.copy_key, num_votes, event)
        await services.journal.take(run.run_id, known.digest, taken, body)
    outcome, detail = await services.store.groups.submit(
        *(run.run_id, known.digest, group),
        copy_key=judged.copy_key,
        num_votes=num_votes,
        drops=run.spec.drop_rule,
        secret_epoch=judged.secret_epoch,
        now=services.clock(),
        event=event,
    )
    if is_kept and outcome != "taken":
        if not await _is_named(services, run, known.digest, blob):
            await services.blobs.remove(blob)
        if outcome != "same":
            await services.journal.drop(run.run_id, Kind.GROUP, known.digest.hex())
    match outcome:
        case "same":
            return bytes(detail)
        case "used":
            raise LeaseUsed(f"lease {known.lease.nonce} already has submission 0x{detail.decode()}")
        case "closed":
            raise LeaseExpired(f"lease {known.lease.nonce} was returned or has expired")
        case "excluded":
            raise Excluded(reason_of(known.lease.worker, detail.decode()))
        case "revealed":
            await services.look(run)
            return await _record(
                services, run, known, await _judge(services, run, known, None), body
            )
        case "duplicate":
            finding = admission.duplicate(bytes.fromhex(detail.decode()))
            copied = Judged(GroupState.REJECTED, finding, (), False, None)
            return await _record(services, run, known, copied, body)
    result = judged.finding.rejection.value if judged.finding else GroupState.TAKEN.value
    services.metrics.submissions.labels(run.run_id, result).inc()
    if judged.finding is None:
        services.metrics.tokens.labels(run.run_id).inc(known.work.tokens)
    return receipt


async def _is_named(services: Services, run: Run, digest: bytes, blob: bytes) -> bool:
    """Return whether the work's record names this body: one that was sent twice at once is kept by the first."""
    group = await services.store.groups.group(run.run_id, digest)
    return group is not None and group.body == blob


def _receipt(services: Services, known: Arrival, finding: Objection | None) -> Receipt:
    unsigned = Receipt.model_construct(
        run_id=known.lease.run_id,
        worker=known.lease.worker,
        nonce=known.lease.nonce,
        work_digest=known.digest,
        received_at=known.received_at,
        rejection=finding.rejection.value if finding else "",
        detail=finding.detail if finding else "",
        signature=bytes(65),
    )
    signature = sign(services.key, services.chain.domain.digest(unsigned))
    return unsigned.model_copy(update={"signature": signature})


def _group(known: Arrival, judged: Judged, blob: bytes, receipt: Receipt) -> GroupRecord:
    # Made of validated parts, so not validated again: a third of the time of this function.
    lease, work = known.lease, known.work
    units = work.tokens // NUM_TOKENS_PER_UNIT
    contribution = Contribution.model_construct(
        worker=work.worker,
        nonce=work.nonce,
        payload_digest=work.payload_digest,
        policy_version=work.policy_version,
        submitted_at=work.submitted_at,
        tokens=work.tokens,
        gflops=work.gflops,
        units=units,
        signature=known.submission.signature,
    )
    candidate = BatchGroup.model_construct(
        work_digest=known.digest,
        worker=work.worker,
        index=lease.index,
        policy_version=lease.policy_version,
        body=blob,
        rewards=judged.rewards,
    )
    return GroupRecord(
        worker=work.worker,
        nonce=work.nonce,
        lease_id=lease.lease_id,
        version=lease.policy_version,
        tokens=work.tokens,
        lengths=tuple(len(r.tokens) // 4 for r in known.submission.rollouts),
        units=units,
        state=judged.state,
        rejection=receipt.rejection,
        detail=receipt.detail,
        body=blob,
        receipt=receipt.to_json(),
        rewards=judged.rewards,
        is_trainable=judged.is_trainable and not judged.canary,
        candidate=candidate.to_json(),
        contribution=contribution.to_json(),
        draw_epoch=judged.draw.epoch if judged.draw else 0,
        draw_rate=judged.draw.rate if judged.draw else 0,
        canary=judged.canary,
    )


def _event(run: Run, known: Arrival, judged: Judged, now: float) -> str:
    mean = sum(judged.rewards) / len(judged.rewards) / 10_000 if judged.rewards else -1.0
    fields = {
        "worker": known.lease.worker,
        "digest": "0x" + known.digest.hex(),
        "nonce": known.lease.nonce,
        "tokens": known.work.tokens,
        "version": known.lease.policy_version,
        "staleness": known.newest_version - known.lease.policy_version,
        "reward_mean": round(mean, 4),
        "state": (GroupState.REJECTED if judged.finding else GroupState.TAKEN).value,
        "rejection": judged.finding.rejection.value if judged.finding else "",
        "is_trainable": int(judged.is_trainable),
    }
    return event_body(run.run_id, "submission", now, fields)
