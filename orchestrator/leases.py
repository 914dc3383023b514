"""Grant, return and expire leases: carry the scheduler's rules to the queue and back."""

from dataclasses import dataclass
from functools import partial

from orchestrator import stakes
from orchestrator.auth import Account
from orchestrator.checks.withholding import reason_of
from orchestrator.events import event_body
from orchestrator.rules.schedule import Opening, make_lease, most_groups, most_units
from orchestrator.services import Market, Run
from orchestrator.store import keys
from orchestrator.store.queue import Argument
from protocol.errors import (
    Busy,
    Excluded,
    MarketError,
    NotJoined,
    RunNotOpen,
    SelfCheckDue,
    TooManyLeases,
)
from protocol.messages import LeaseRequest, Leases
from protocol.rollout import SignedLease
from protocol.run import RunSpec
from protocol.signing import sign

AWAY_SECONDS = 10.0
"""Rounds that free leases come every half second; after such a pause nobody's submissions came through."""


async def grant(market: Market, run: Run, account: Account, request: LeaseRequest) -> Leases | None:
    """Return signed leases, or None where work is paced and the worker should come back."""
    run.require_open(market.clock())
    await market.require_owed(run, int(market.clock()))
    await _require_wanted(market, run, account.identity)
    policy = await market.newest_policy(run)
    if policy is None or run.chain.num_opened <= run.num_revealed:
        return None
    opening = Opening(
        run_id=run.run_id,
        epoch=run.chain.num_opened - 1,
        secret=market.secret(run.run_id, run.chain.num_opened - 1),
        version=policy.manifest.version,
        policy_digest=policy.manifest.policy_digest,
        deadline=int(market.clock()) + run.spec.lease_seconds,
    )
    run.require_tokenizer()
    reserved = await _reserve(market, run, account.identity, request.count, opening)
    if not reserved.count:
        return None
    nonces = range(reserved.first, reserved.first + reserved.count)
    try:
        signed = [_sign(market, run, opening, account.identity, nonce) for nonce in nonces]
    except MarketError:
        # A task that cannot be leased must not hold its worker's places until a deadline.
        unblamed: tuple[Argument, ...] = (account.identity, "", 0)
        await market.queue.script("close_leases", run.run_id, *unblamed, *nonces)
        raise
    await _store(market, run, signed)
    market.metrics.leases.labels(run.run_id).inc(reserved.count)
    notice = notice_of(run.spec, reserved.debt)
    return Leases(leases=tuple(signed), notice=notice, rejected=reserved.rejected)


async def give_back(market: Market, run: Run, worker: str, lease_ids: tuple[bytes, ...]) -> None:
    """Free a worker's unfinished leases and count them as dropped; those it does not hold are ignored."""
    nonces: list[Argument] = []
    for lease_id in lease_ids:
        key = f"{run.prefix}lease:{lease_id.hex()}"
        owner, nonce = await market.queue.call("HMGET", key, "worker", "nonce")
        if owner is not None and owner.decode() == worker:
            nonces.append(nonce)
    if nonces:
        freed = await market.queue.script(
            "close_leases", run.run_id, worker, *_blame(market, run), *nonces
        )
        market.metrics.expired.labels(run.run_id).inc(len(freed))


async def expire(market: Market, run: Run, *, latest: float, limit: int = 1000) -> int:
    """Free leases whose deadline is not after `latest`, and count them as dropped.

    Not where no round was made for `AWAY_SECONDS`: then nobody could submit, and it is nobody's fault.
    """
    freed = await market.queue.script(
        "close_leases", run.run_id, "", *_blame(market, run), latest, limit, AWAY_SECONDS
    )
    market.metrics.expired.labels(run.run_id).inc(len(freed))
    return len(freed)


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


def _blame(market: Market, run: Run) -> tuple[Argument, Argument]:
    """Return what a drop costs now and the most debt; '' where the run itself kept work from ending."""
    rule, now = run.spec.drop_rule, market.clock()
    was_halted = now - run.chain.halted_at <= 2 * run.spec.lease_seconds
    return (rule.per_drop if run.is_open and not was_halted else "", rule.most)


async def require_member(market: Market, run: Run, worker: str) -> None:
    """Raise `NotJoined` unless the worker joined on chain with enough stake."""
    member = await market.chain.membership(run.run_id, worker)
    if not member.is_joined:
        raise NotJoined(
            f"{worker} has not joined run {run.run_id}: call joinRun on the ledger "
            f"{market.chain.domain.ledger} from that account"
        )
    if member.stake < run.chain.min_stake:
        raise NotJoined(
            f"{worker} has {member.stake} at stake, run {run.run_id} asks for "
            f"{run.chain.min_stake}: stake the difference"
        )


async def _require_wanted(market: Market, run: Run, worker: str) -> None:
    """Raise unless the worker is a member; of one that was excluded that it is, not that it lacks stake.

    Its slashed stake is what it lacks, and to stake more would not help it.
    """
    try:
        await require_member(market, run, worker)
    except NotJoined:
        fields = ("excluded", "excluded_for")
        excluded, why = await market.queue.call("HMGET", f"{run.prefix}worker:{worker}", *fields)
        if excluded == b"1":
            raise Excluded(_no_more_leases(worker, why or b"")) from None
        raise


def _no_more_leases(worker: str, excluded_for: bytes) -> str:
    return f"{reason_of(worker, excluded_for.decode())}: it gets no more leases"


@dataclass(frozen=True, slots=True)
class Reserved:
    """Nonces for new leases, and what the worker owes for dropped ones."""

    first: int
    count: int
    debt: int
    rejected: str
    """The worker's group that a replay rejected last, and why."""


async def _reserve(market: Market, run: Run, worker: str, count: int, opening: Opening) -> Reserved:
    outcome, first, granted, detail, *rest = await market.queue.script(
        "grant",
        run.run_id,
        worker,
        count,
        opening.deadline,
        run.spec.max_worker_leases,
        most_groups(run.spec, newest_version=opening.version),
        run.chain.available // run.spec.rate,
        most_units(run.spec),
        await stakes.pace_share(market, run, worker),
        run.unfinal // run.spec.rate,
        run.spec.drop_rule.allowance,
        *(opening.version, keys.TALLY_SECONDS),
    )
    match outcome:
        case b"excluded":
            raise Excluded(_no_more_leases(worker, detail))
        case b"paused":
            raise SelfCheckDue(
                f"{worker} passes group by group and drifts over many ({detail.decode()}): no leases until its "
                "machine passes a self-check, which `rollcall join` makes by itself; see what is off with "
                "`rollcall doctor --calibrate`"
            )
        case b"too_many":
            raise TooManyLeases(
                f"{worker} holds all {first} leases it may have: finish or return some"
                + (f"; {notice}" if (notice := notice_of(run.spec, detail)) else ""),
                retry_after_seconds=market.config.retry_after_seconds,
            )
        case b"no_budget":
            left = await market.budget_left_units(run)
            raise RunNotOpen(
                f"run {run.run_id} has {left} units left, work in hand included: too few for a group"
            )
    rejected = rest[0].decode()[:2048] if rest else ""
    return Reserved(int(first), int(granted), int(detail), rejected)


def _sign(market: Market, run: Run, opening: Opening, worker: str, nonce: int) -> SignedLease:
    tokenizer = run.require_tokenizer()
    lease = make_lease(
        run.spec,
        opening,
        worker=worker,
        nonce=nonce,
        prompt_of=partial(_prompt, run, tokenizer),
    )
    digest = market.chain.domain.digest(lease)
    return SignedLease(lease=lease, signature=sign(market.key, digest))


def _prompt(run: Run, tokenizer: object, index: int) -> list[int]:
    text = run.environment.problem(index).prompt
    ids: list[int] = tokenizer.encode(text).ids  # type: ignore[attr-defined]
    if len(ids) > run.spec.max_prompt_tokens:
        raise Busy(
            f"task {index} has a prompt of {len(ids)} tokens, the run allows "
            f"{run.spec.max_prompt_tokens}; ask again for another task"
        )
    return ids


async def _store(market: Market, run: Run, signed: list[SignedLease]) -> None:
    commands: list[tuple[Argument, ...]] = []
    for item in signed:
        lease = item.lease
        key = f"{run.prefix}lease:{lease.lease_id.hex()}"
        fields: tuple[Argument, ...] = (
            *("worker", lease.worker, "nonce", lease.nonce, "deadline", lease.deadline),
            *("signed", item.to_json()),
        )
        commands.append(("HSET", key, *fields))
    lease = signed[0].lease
    body = event_body(
        *(run.run_id, "lease", market.clock()),
        {"worker": lease.worker, "count": len(signed), "version": lease.policy_version},
    )
    events = run.prefix + "events"
    tail = ("MAXLEN", "~", keys.NUM_EVENTS_KEPT, "*", "kind", "lease", "body", body)
    commands.append(("XADD", events, *tail))
    await market.queue.pipeline(commands)
