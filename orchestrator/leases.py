"""Grant, return and expire leases: carry the scheduler's rules to the queue and back."""

from functools import partial

from orchestrator import pauses, stakes
from orchestrator.auth import SignedIn
from orchestrator.checks.withholding import reason_of
from orchestrator.rules.pacing import Pace
from orchestrator.rules.schedule import Opening, make_lease, most_flat, most_groups, most_units
from orchestrator.run import Run
from orchestrator.services import Services
from orchestrator.store.events import event_body
from orchestrator.store.leases import Reserved
from protocol.checks.drops import DropRule
from protocol.errors import (
    Busy,
    Excluded,
    NotFound,
    NotJoined,
    RunNotOpen,
    SelfCheckDue,
    TooManyLeases,
)
from protocol.messages import MOST_DRAWS, LeaseRequest, Leases
from protocol.rollout import SignedLease
from protocol.run import RunSpec
from protocol.signing import sign

AWAY_SECONDS = 10.0
"""Rounds that free leases come every half second; after such a pause nobody's submissions came through."""


async def grant(
    services: Services, run: Run, account: SignedIn, request: LeaseRequest
) -> Leases | None:
    """Return signed leases, or None where work is paced and the worker should come back."""
    run.require_open(services.clock())
    await services.require_owed(run, int(services.clock()))
    await _require_wanted(services, run, account.identity)
    await pauses.require_rested(services, run, account.identity)
    policy = await services.newest_policy(run)
    if policy is None or run.chain.num_opened <= run.num_revealed:
        return None
    opening = Opening(
        run_id=run.run_id,
        epoch=run.chain.num_opened - 1,
        secret=services.secret(run.run_id, run.chain.num_opened - 1),
        version=policy.manifest.version,
        policy_digest=policy.manifest.policy_digest,
        deadline=int(services.clock()) + run.spec.lease_seconds,
    )
    run.require_tokenizer()
    skipped: list[int] = []
    for _ in range(MOST_DRAWS):
        reserved = await _reserve(services, run, account.identity, request.count, opening)
        if not reserved.count:
            return None
        signed, skipped_now = await _signed(services, run, opening, account.identity, reserved)
        skipped += skipped_now
        if signed:
            break
    else:
        raise Busy(
            f"the prompts of {len(skipped)} tasks in a row are longer than the {run.spec.max_prompt_tokens} tokens "
            "that the run allows; ask again for others"
        )
    fields = {"worker": account.identity, "count": len(signed), "version": opening.version}
    event = event_body(run.run_id, "lease", services.clock(), fields)
    await services.store.leases.keep(run.run_id, signed, event)
    services.metrics.leases.labels(run.run_id).inc(len(signed))
    return Leases(
        leases=tuple(signed),
        notice=notice_of(run.spec, reserved.debt),
        rejected=reserved.rejected[:2048],
        skipped=tuple(skipped),
    )


async def give_back(
    services: Services, run: Run, worker: str, lease_ids: tuple[bytes, ...]
) -> None:
    """Free a worker's unfinished leases and count them as dropped; those it does not hold are ignored."""
    nonces = await services.store.leases.held(run.run_id, worker, lease_ids)
    if nonces:
        freed = await services.store.leases.free(run.run_id, worker, nonces, _blame(services, run))
        services.metrics.expired.labels(run.run_id).inc(freed)


async def require_leased(services: Services, run: Run, worker: str) -> None:
    """Raise `NotFound` where a worker never had a lease: then no body of its can be one's."""
    if not await services.store.leases.has_leased(run.run_id, worker):
        await services.store.runs.require_restored(run.run_id)
        raise NotFound(f"{worker} has no lease of run {run.run_id}: ask for one first")


async def expire(services: Services, run: Run, *, latest: float, limit: int = 1000) -> int:
    """Free leases whose deadline is not after `latest`, and count them as dropped.

    Not where no round was made for `AWAY_SECONDS`: then nobody could submit, and it is nobody's fault.
    """
    freed = await services.store.leases.free_expired(
        *(run.run_id, _blame(services, run)), latest=latest, limit=limit, away_seconds=AWAY_SECONDS
    )
    services.metrics.expired.labels(run.run_id).inc(freed)
    return freed


def notice_of(spec: RunSpec, debt: int) -> str:
    """Return what a worker should know about its standing; empty where it is good."""
    rule = spec.drop_rule
    if not rule.is_on_probation(debt):
        return ""
    return (
        f"too many leases ended without work: all groups are replayed and at most "
        f"{rule.most_leases(debt)} of {rule.max_leases} leases may be held; finish "
        f"{rule.groups_to_recover(debt)} groups, and ask for no more leases than can be finished"
    )


def _blame(services: Services, run: Run) -> DropRule | None:
    """Return what a drop costs now; None where the run itself kept work from ending."""
    was_halted = services.clock() - run.chain.halted_at <= 2 * run.spec.lease_seconds
    return run.spec.drop_rule if run.is_open and not was_halted else None


async def require_member(services: Services, run: Run, worker: str) -> None:
    """Raise `NotJoined` unless the worker joined on chain with enough stake."""
    member = await services.chain.membership(run.run_id, worker)
    if not member.is_joined:
        raise NotJoined(
            f"{worker} has not joined run {run.run_id}: call joinRun on the ledger "
            f"{services.chain.domain.ledger} from that account"
        )
    if member.stake < run.chain.min_stake:
        raise NotJoined(
            f"{worker} has {member.stake} at stake, run {run.run_id} asks for "
            f"{run.chain.min_stake}: stake the difference"
        )


async def _require_wanted(services: Services, run: Run, worker: str) -> None:
    """Raise unless the worker is a member; of one that was excluded that it is, not that it lacks stake.

    Its slashed stake is what it lacks, and to stake more would not help it.
    """
    try:
        await require_member(services, run, worker)
    except NotJoined:
        excluded_for = await services.store.workers.exclusion(run.run_id, worker)
        if excluded_for is not None:
            raise Excluded(_no_more_leases(worker, excluded_for)) from None
        raise


def _no_more_leases(worker: str, excluded_for: str) -> str:
    return f"{reason_of(worker, excluded_for)}: it gets no more leases"


async def _reserve(
    services: Services, run: Run, worker: str, count: int, opening: Opening
) -> Reserved:
    pace = Pace(
        drops=run.spec.drop_rule,
        most_groups=most_groups(run.spec, newest_version=opening.version),
        units_unposted=run.chain.available // run.spec.rate,
        units_unfinal=run.unfinal // run.spec.rate,
        units_per_group=most_units(run.spec),
        share_millionths=await stakes.pace_share(services, run, worker),
        most_flat=most_flat(run.spec),
        epoch=opening.epoch,
    )
    reserved = await services.store.leases.reserve(
        *(run.run_id, worker, count, pace), version=opening.version, deadline=opening.deadline
    )
    match reserved.outcome:
        case "excluded":
            raise Excluded(_no_more_leases(worker, reserved.why))
        case "paused":
            raise SelfCheckDue(
                f"{worker} passes group by group and drifts over many ({reserved.why}): no leases until "
                "its machine passes a self-check, which `rollcall join` makes by itself; see what is off with "
                "`rollcall doctor --calibrate`"
            )
        case "too_many":
            notice = notice_of(run.spec, reserved.debt)
            raise TooManyLeases(
                f"{worker} holds all {reserved.first} leases it may have: finish or return some"
                + (f"; {notice}" if notice else ""),
                retry_after_seconds=services.config.retry_after_seconds,
            )
        case "no_budget":
            raise RunNotOpen(
                f"run {run.run_id} has too few units left for a group of {pace.units_per_group} beyond the "
                "work in hand: its operator may fund it (`rollcall run fund`)"
            )
    return reserved


async def _signed(
    services: Services, run: Run, opening: Opening, worker: str, reserved: Reserved
) -> tuple[list[SignedLease], list[int]]:
    """Sign what was reserved; free, and name, the nonces whose tasks are too long, or all where one cannot be made."""
    nonces = range(reserved.first, reserved.first + reserved.count)
    free = partial(services.store.leases.free, run.run_id, worker)
    try:
        made = {nonce: _sign(services, run, opening, worker, nonce) for nonce in nonces}
    except Exception:
        # A task that cannot be leased must not hold its worker's places until a deadline.
        await free(nonces, None)
        raise
    skipped = [nonce for nonce, signed in made.items() if signed is None]
    if skipped:
        await free(skipped, None)
    return [signed for signed in made.values() if signed is not None], skipped


def _sign(
    services: Services, run: Run, opening: Opening, worker: str, nonce: int
) -> SignedLease | None:
    tokenizer = run.require_tokenizer()
    lease = make_lease(
        run.spec,
        opening,
        worker=worker,
        nonce=nonce,
        prompt_of=partial(_prompt, run, tokenizer),
    )
    if lease is None:
        return None
    digest = services.chain.domain.digest(lease)
    return SignedLease(lease=lease, signature=sign(services.key, digest))


def _prompt(run: Run, tokenizer: object, index: int) -> list[int]:
    text = run.environment.problem(index).prompt
    ids: list[int] = tokenizer.encode(text).ids  # type: ignore[attr-defined]
    return ids
