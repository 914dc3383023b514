"""Carry engine classes on trial from their first group to bounds of their own, or to a refusal.

The rules are `protocol/baseline.py`'s. Here: who may be on trial, what verifiers measure and sign,
and which classes came of it. Every step may be repeated and none needs another to have happened at
the same instant, so a crash between two leaves a trial that goes on. Keys, all of the run:

    trial_classes          zset    class → when a worker of it last leased; TRIAL_IDLE_SECONDS
    trials                 set     WORKER/CLASS that sent a group
    trial:WORKER/CLASS     zset    digest → when it came; at most the policy's `num_groups`
    trial_measured:…       set     those of them that enough verifiers measured
    trial_queue            zset    digest → when it may be handed out
    measured:DIGEST        hash    verifier → Verdict JSON; empty where it could not measure
    evidence               hash    WORKER/CLASS → digest of its blob
    endorsed:DIGEST        hash    verifier → EndorsedBaseline JSON, by the baseline's digest
    baselines              hash    WORKER/CLASS → SignedBaseline JSON
    admitted               hash    class → AdmittedClass JSON
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.admission import Finding
from orchestrator.auth import Account
from orchestrator.market import Market, Run
from orchestrator.replaying import (
    UNDECIDED_SECONDS,
    require_spoken_for,
    require_verifier,
    subject_of,
    task_of,
)
from protocol.baseline import (
    AdmittedClass,
    EndorsedBaseline,
    Evidence,
    Measurement,
    Reading,
    SignedBaseline,
    Trial,
    TrialPolicy,
    Trials,
    class_bounds,
    is_measurement,
    trial_detail,
)
from protocol.errors import Malformed, NotFound, Refused
from protocol.messages import AuditTasks
from protocol.verdict import Outcome, Rejection, Verdict

TRIAL_IDLE_SECONDS = 86_400
"""A class that nobody leased for so long, and that was not admitted, makes room for another name."""
NUM_LOOKED_AT = 512
"""Waiting groups that a verifier's request looks through."""
NO_BLOB = bytes(32)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One worker on trial with one engine class."""

    worker: str
    engine_class: str

    @property
    def name(self) -> str:
        return f"{self.worker}/{self.engine_class}"

    @classmethod
    def of(cls, name: bytes) -> "Candidate":
        worker, _, engine_class = name.decode().partition("/")
        return cls(worker, engine_class)


# a worker's side


async def most_leases(market: Market, run: Run, worker: str, engine_class: str, wanted: int) -> int:
    """Return for how many of the `wanted` leases a class may be leased for now.

    None are left where its trial has all it takes and waits for others. Raises `Refused` where it
    never may: no trials here, too many classes, or measured too loose.
    """
    if await is_calibrated(market, run, engine_class):
        return wanted
    policy = _policy(run, engine_class)
    candidate = Candidate(worker, engine_class)
    found = await market.queue.call("HGET", run.prefix + "baselines", candidate.name)
    if found is not None:
        refusal = SignedBaseline.from_json(found).baseline.refusal
        if refusal:
            raise Refused(f"{engine_class} of {worker} was measured on trial: {refusal}")
        return 0  # admitted itself, the class waits for another worker's baseline
    await _require_room(market, run, policy, engine_class)
    num_sent, num_held = await market.queue.pipeline(
        [
            ("ZCARD", f"{run.prefix}trial:{candidate.name}"),
            ("SCARD", f"{run.prefix}held:{worker}"),
        ]
    )
    return max(0, min(wanted, policy.num_groups - num_sent - num_held))


async def is_calibrated(market: Market, run: Run, engine_class: str) -> bool:
    """Return whether work of the class is judged and paid."""
    if run.spec.thresholds_for(engine_class) is not None:
        return True
    return bool(await market.queue.call("HEXISTS", run.prefix + "admitted", engine_class))


async def finding_on_trial(market: Market, run: Run, engine_class: str) -> Finding | None:
    """Return why a good group is not paid, or None where its class is calibrated."""
    if await is_calibrated(market, run, engine_class):
        return None
    return Finding(
        Rejection.ON_TRIAL,
        f"{engine_class} has no bounds in this run yet: the group is measured, neither judged nor "
        f"paid; {_policy(run, engine_class).num_groups} groups make a baseline",
    )


async def enter(
    market: Market, run: Run, worker: str, engine_class: str, work_digest: bytes
) -> None:
    """Queue a trial group for measurement; those beyond what a baseline takes are left out."""
    candidate, policy = Candidate(worker, engine_class), _policy(run, engine_class)
    groups = f"{run.prefix}trial:{candidate.name}"
    if await market.queue.call("ZCARD", groups) >= policy.num_groups:
        return
    digest, now = work_digest.hex(), market.clock()
    await market.queue.pipeline(
        [
            ("SADD", run.prefix + "trials", candidate.name),
            ("ZADD", groups, "NX", now, digest),
            ("ZADD", run.prefix + "trial_queue", "NX", now, digest),
        ]
    )


def require_bounds(run: Run, engine_class: str) -> None:
    """Raise `Refused` unless the RunSpec itself has bounds for the class."""
    if run.spec.thresholds_for(engine_class) is None:
        known = ", ".join(entry.engine_class for entry in run.spec.thresholds)
        raise Refused(
            f"engine class {engine_class!r} has no calibrated bounds in this run, which takes no "
            f"class on trial; it has {known}: work with one of them, or choose another run"
        )


def _policy(run: Run, engine_class: str) -> TrialPolicy:
    if run.spec.trial is None:
        require_bounds(run, engine_class)
    assert run.spec.trial is not None  # or the spec has bounds, and nobody asks
    return run.spec.trial


async def _require_room(market: Market, run: Run, policy: TrialPolicy, engine_class: str) -> None:
    key, now = run.prefix + "trial_classes", market.clock()
    await market.queue.call("ZREMRANGEBYSCORE", key, "-inf", now - TRIAL_IDLE_SECONDS)
    named = await market.queue.call("ZSCORE", key, engine_class)
    num_admitted = await market.queue.call("HLEN", run.prefix + "admitted")
    num_others = await market.queue.call("ZCARD", key) + num_admitted
    if named is None and num_others >= policy.max_classes:
        raise Refused(
            f"{num_others} classes are on trial or admitted, the run allows {policy.max_classes}: "
            f"come back when one has been idle for {TRIAL_IDLE_SECONDS} s"
        )
    await market.queue.call("ZADD", key, now, engine_class)


# a verifier's side


async def take(market: Market, run: Run, account: Account, count: int) -> AuditTasks | None:
    """Return trial groups that this verifier has not measured yet, or None."""
    await require_verifier(market, run, account.identity)
    waiting = await market.queue.call(
        *("ZRANGEBYSCORE", run.prefix + "trial_queue", "-inf", market.clock()),
        *("LIMIT", 0, NUM_LOOKED_AT),
    )
    if not waiting:
        return None
    seen = await market.queue.pipeline(
        [("HEXISTS", f"{run.prefix}measured:{d.decode()}", account.identity) for d in waiting]
    )
    fresh = [d for d, is_seen in zip(waiting, seen, strict=True) if not is_seen]
    tasks = [await task_of(market, run, bytes.fromhex(d.decode())) for d in fresh[:count]]
    return AuditTasks(tasks=tuple(tasks)) if tasks else None


async def measured(market: Market, run: Run, verdict: Verdict) -> None:
    """Keep one verifier's measurement; with enough groups measured, fix the evidence."""
    subject = await subject_of(market, run, verdict.work_digest)
    candidate = Candidate(subject.group.worker, subject.engine_class)
    await _require_measures(market, run, verdict, candidate, subject.group.tokens)
    digest, prefix = verdict.work_digest.hex(), run.prefix
    if await market.queue.call("ZSCORE", f"{prefix}trial:{candidate.name}", digest) is None:
        raise NotFound(f"0x{digest} is no trial group of {candidate.name}")
    body = verdict.to_json() if is_measurement(verdict) else b""
    await market.queue.call("HSETNX", f"{prefix}measured:{digest}", verdict.verifier, body)
    found = await market.queue.hash(f"{prefix}measured:{digest}")
    num_failed = sum(not value for value in found.values())
    if len(found) - num_failed >= run.chain.threshold:
        await market.queue.call("SADD", f"{prefix}trial_measured:{candidate.name}", digest)
        await market.queue.call("ZREM", prefix + "trial_queue", digest)
        await _fix_evidence(market, run, candidate)
    elif num_failed > len(run.chain.verifiers) - run.chain.threshold:
        # It cannot be measured by enough any more: its worker sends another.
        await market.queue.call("ZREM", f"{prefix}trial:{candidate.name}", digest)
        await market.queue.call("ZREM", prefix + "trial_queue", digest)
    elif not body:
        again = market.clock() + UNDECIDED_SECONDS
        await market.queue.call("ZADD", prefix + "trial_queue", "XX", again, digest)


async def _require_measures(
    market: Market, run: Run, verdict: Verdict, candidate: Candidate, num_tokens: int
) -> None:
    if verdict.run_id != run.run_id:
        raise Malformed(f"the verdict is for run {verdict.run_id}, not {run.run_id}")
    if verdict.outcome is not Outcome.UNDECIDED or verdict.mismatches:
        raise Malformed("a trial group is measured and not judged: undecided, without positions")
    said = trial_detail(candidate.engine_class, candidate.worker)
    if is_measurement(verdict) and verdict.detail != said:
        raise Malformed(f"a measuring verdict says {said!r}, not {verdict.detail[:200]!r}")
    await require_verifier(market, run, verdict.verifier)
    await require_spoken_for(
        market, market.chain.domain.digest(verdict), verdict.signature, verdict.verifier
    )
    if is_measurement(verdict) and verdict.stats.num_tokens != num_tokens:
        raise Malformed(f"the group has {num_tokens} tokens, not {verdict.stats.num_tokens}")


async def _fix_evidence(market: Market, run: Run, candidate: Candidate) -> None:
    """Put the first groups that were measured into a blob, once there are enough."""
    policy, prefix = _policy(run, candidate.engine_class), run.prefix
    done = await market.queue.call("SMEMBERS", f"{prefix}trial_measured:{candidate.name}")
    if len(done) < policy.num_groups:
        return
    digests = sorted(bytes.fromhex(d.decode()) for d in done)[: policy.num_groups]
    groups = [await _measurement(market, run, digest) for digest in digests]
    evidence = Evidence(
        run_id=run.run_id,
        worker=candidate.worker,
        engine_class=candidate.engine_class,
        groups=tuple(groups),
    )
    blob = await market.blobs.add(evidence.canonical())
    await market.queue.call("HSETNX", prefix + "evidence", candidate.name, blob)


async def _measurement(market: Market, run: Run, digest: bytes) -> Measurement:
    found = await market.queue.hash(f"{run.prefix}measured:{digest.hex()}")
    verdicts = sorted((Verdict.from_json(v) for v in found.values() if v), key=lambda v: v.verifier)
    readings = tuple(
        Reading(verifier=v.verifier, stats=v.stats, decided_at=v.decided_at, signature=v.signature)
        for v in verdicts[: run.chain.threshold]
    )
    return Measurement(work_digest=digest, readings=readings)


async def endorse(market: Market, run: Run, endorsed: EndorsedBaseline) -> None:
    """Count a verifier's signature of a baseline; with enough, it stands and may admit its class."""
    baseline, verifier = endorsed.baseline, endorsed.endorsement.verifier
    candidate = Candidate(baseline.worker, baseline.thresholds.engine_class)
    blob = await market.queue.call("HGET", run.prefix + "evidence", candidate.name)
    if blob is None or (baseline.run_id, baseline.evidence) != (run.run_id, blob):
        raise Malformed(f"the baseline is not about the evidence of {candidate.name} in this run")
    await require_verifier(market, run, verifier)
    digest = market.chain.domain.digest(baseline)
    await require_spoken_for(market, digest, endorsed.endorsement.signature, verifier)
    key = f"{run.prefix}endorsed:{digest.hex()}"
    await market.queue.call("HSETNX", key, verifier, endorsed.to_json())
    found = [
        EndorsedBaseline.from_json(v).endorsement for v in (await market.queue.hash(key)).values()
    ]
    if len(found) < run.chain.threshold:
        return
    chosen = sorted(found, key=lambda e: e.verifier)[: run.chain.threshold]
    signed = SignedBaseline(baseline=baseline, endorsements=tuple(chosen))
    is_new = await market.queue.call(
        "HSETNX", run.prefix + "baselines", candidate.name, signed.to_json()
    )
    if is_new:
        fields = {"worker": baseline.worker, "engine_class": candidate.engine_class}
        await market.announce(run.run_id, "baseline", **fields, refusal=baseline.refusal)
    await _admit(market, run, candidate.engine_class)


async def _admit(market: Market, run: Run, engine_class: str) -> None:
    """Fix the bounds of a class from the baselines it has, the first time they suffice."""
    every = await _baselines(market, run)
    signed = tuple(s for s in every if s.baseline.thresholds.engine_class == engine_class)
    policy = _policy(run, engine_class)
    if class_bounds([s.baseline for s in signed], run.spec.thresholds, policy) is None:
        return
    good = tuple(s for s in signed if not s.baseline.refusal)
    admitted = AdmittedClass(engine_class=engine_class, baselines=good)
    key = run.prefix + "admitted"
    if await market.queue.call("HSETNX", key, engine_class, admitted.to_json()):
        await market.queue.call("ZREM", run.prefix + "trial_classes", engine_class)
        await market.announce(run.run_id, "class_admitted", engine_class=engine_class)


# what anyone may read


async def trials(market: Market, run: Run) -> Trials:
    """Return every trial of the run, and the classes that came of them."""
    names = await market.queue.call("SMEMBERS", run.prefix + "trials")
    candidates = [Candidate.of(name) for name in sorted(names)]
    admitted = await market.queue.hash(run.prefix + "admitted")
    return Trials(
        trials=tuple([await _trial(market, run, candidate) for candidate in candidates]),
        admitted=tuple(AdmittedClass.from_json(admitted[name]) for name in sorted(admitted)),
    )


async def _trial(market: Market, run: Run, candidate: Candidate) -> Trial:
    prefix, name = run.prefix, candidate.name
    answers: Sequence[bytes | int | None] = await market.queue.pipeline(
        [
            ("ZCARD", f"{prefix}trial:{name}"),
            ("SCARD", f"{prefix}trial_measured:{name}"),
            ("HGET", prefix + "evidence", name),
            ("HGET", prefix + "baselines", name),
        ]
    )
    num_groups, num_measured, evidence, signed = answers
    assert isinstance(num_groups, int)
    assert isinstance(num_measured, int)
    return Trial(
        worker=candidate.worker,
        engine_class=candidate.engine_class,
        num_groups=num_groups,
        num_measured=num_measured,
        evidence=evidence if isinstance(evidence, bytes) else NO_BLOB,
        signed=SignedBaseline.from_json(signed) if isinstance(signed, bytes) else None,
    )


async def _baselines(market: Market, run: Run) -> Iterable[SignedBaseline]:
    found = await market.queue.hash(run.prefix + "baselines")
    return [SignedBaseline.from_json(found[name]) for name in sorted(found)]
