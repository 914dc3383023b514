"""What an engine class without bounds must show before its work is paid, and the bounds that follow.

Whose hardware is not in the RunSpec works on trial: unpaid groups, which every verifier may replay
and none judges. What m of n verifiers measured of one worker's groups, signed, is its *evidence*; the
bounds that `calibration.py` sets from it, signed by m of n again, its *baseline*. Enough workers'
baselines make the class's bounds, and from then on it earns like any other.

Two attacks shape the rules. A cheat would have its own rounded weights measured as "honest": what is
above the *ceiling*, a multiple of the loosest calibrated class's bounds, is refused, and no class gets
bounds above it, so that a cheat gains at most that multiple over claiming a calibrated class. A
vandal would work more exactly than its class's hardware can, so that honest members are condemned
later: no class gets bounds tighter than the loosest calibrated class's, which costs nothing, since a
cheat may claim that class anyway. Left out: a cheat that stays below the ceiling, as one may stay
below a calibrated class's bounds.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean, median_low, stdev
from typing import Annotated

from pydantic import Field

from protocol.calibration import MIN_GROUPS, REFERENCE, thresholds_of
from protocol.constants import MICRO
from protocol.epoch import struct_hash
from protocol.errors import Malformed
from protocol.verdict import (
    Bounds,
    Limit,
    Outcome,
    ReplayStats,
    Statistic,
    Thresholds,
    Verdict,
    judge,
)
from protocol.wire import U32, U63, U64, Address, AsTuple, Bytes32, Name, Signature, Wire

BASELINE_TYPE = "Baseline(uint256 runId,address worker,bytes32 evidence,bytes32 bodyDigest)"
LARGEST_OUTLIERS = 1
"""Groups above the ceiling that one trial forgives: 128 honest ones have one in a hundred trials."""
NORMAL_95 = 1.645
"""A mean lies above its estimate less so many standard errors 19 times in 20."""


class TrialPolicy(Wire):
    """How an engine class that the run has no bounds for may come to have some."""

    num_groups: Annotated[int, Field(ge=MIN_GROUPS, le=1 << 16)] = 128
    """Unpaid groups that each worker of such a class gives."""
    num_workers: Annotated[int, Field(ge=1, le=256)] = 2
    """Stakes whose baselines a class needs before any of them earns."""
    ceiling_percent: Annotated[int, Field(ge=100, le=1_000)] = 125
    """Loosest bounds that any class gets, in percent of the loosest calibrated class's."""
    max_classes: Annotated[int, Field(ge=1, le=256)] = 8
    """Classes that may be on trial or admitted beyond the RunSpec's: names cost nothing."""


class Reading(Wire):
    """One verifier's measurement of one trial group: what of its verdict does not follow from the rest."""

    verifier: Address
    stats: ReplayStats
    decided_at: U64
    signature: Signature


class Measurement(Wire):
    """One trial group, with the readings of the verifiers that measured it."""

    work_digest: Bytes32
    readings: Annotated[tuple[Reading, ...], AsTuple, Field(min_length=1, max_length=256)]

    def stats(self) -> ReplayStats:
        """Return the lower median of each statistic: of three readings no one moves it far, of two one may."""
        fields = {
            name: median_low([getattr(reading.stats, name) for reading in self.readings])
            for name in ReplayStats.model_fields
        }
        return ReplayStats(**fields)


class Evidence(Wire):
    """One worker's measured trial groups, in order of their digests. A blob."""

    run_id: U63
    worker: Address
    engine_class: Name
    groups: Annotated[tuple[Measurement, ...], AsTuple]

    def stats(self) -> list[ReplayStats]:
        return [group.stats() for group in self.groups]

    def verdicts(self) -> Iterator[Verdict]:
        """Yield every verdict as its verifier signed it: who holds them can check who did."""
        for group in self.groups:
            for reading in group.readings:
                yield Verdict(
                    run_id=self.run_id,
                    work_digest=group.work_digest,
                    verifier=reading.verifier,
                    outcome=Outcome.UNDECIDED,
                    rejection="",
                    detail=trial_detail(self.engine_class, self.worker),
                    stats=reading.stats,
                    mismatches=(),
                    decided_at=reading.decided_at,
                    signature=reading.signature,
                )


class Baseline(Wire):
    """What one worker's evidence comes to: the bounds of its work, and why they are refused if so.

    `baseline_of` makes it, so that two verifiers sign the same one.
    """

    run_id: U63
    worker: Address
    evidence: Bytes32
    """Blob of the `Evidence`."""
    thresholds: Thresholds
    refusal: Annotated[str, Field(max_length=1024)]
    """What is above the ceiling, with the values and the remedy; empty where it is admitted."""

    def struct_hash(self) -> bytes:
        """Return EIP-712's hashStruct, before the domain is mixed in."""
        words = (self.run_id, self.worker, self.evidence, self.canonical_digest())
        return struct_hash(BASELINE_TYPE, words)


class Endorsement(Wire):
    """One verifier's signature of a baseline, by itself or its hot key."""

    verifier: Address
    signature: Signature


class SignedBaseline(Wire):
    baseline: Baseline
    endorsements: Annotated[tuple[Endorsement, ...], AsTuple]


def trial_detail(engine_class: str, worker: str) -> str:
    """Return what a measuring verdict says, and signs: of whom and of which class it measured."""
    return f"measured on trial: {engine_class} of {worker}"


def check_evidence(evidence: Evidence, policy: TrialPolicy, *, threshold: int) -> None:
    """Raise `Malformed` unless every group was measured by `threshold` verifiers, and enough were.

    Who signed each of `verdicts` is the caller's to check: it needs the chain.
    """
    digests = [group.work_digest for group in evidence.groups]
    if digests != sorted(set(digests)):
        raise Malformed("the groups are not strictly in order of their digests: one counts once")
    if len(digests) < policy.num_groups:
        raise Malformed(f"{len(digests)} groups; a baseline takes {policy.num_groups}")
    for group in evidence.groups:
        _check_measurement(group, threshold)


def _check_measurement(group: Measurement, threshold: int) -> None:
    name = f"group 0x{group.work_digest.hex()}"
    num_verifiers = len({reading.verifier for reading in group.readings})
    if num_verifiers != len(group.readings) or num_verifiers < threshold:
        raise Malformed(
            f"{name} has {len(group.readings)} readings by {num_verifiers} verifiers; it takes one "
            f"each by {threshold}"
        )
    if not all(reading.stats.num_tokens for reading in group.readings):
        raise Malformed(f"a reading of {name} measured no token")
    # Statistics are taken one by one: those of one reading over the tokens of another would mean nothing.
    if len({reading.stats.num_tokens for reading in group.readings}) > 1:
        raise Malformed(f"the readings of {name} are not of the same number of tokens")


def is_measurement(verdict: Verdict) -> bool:
    """Return whether a verdict measured something and decided nothing."""
    return verdict.outcome is Outcome.UNDECIDED and verdict.stats.num_tokens > 0


def baseline_of(
    evidence: Evidence, blob: bytes, calibrated: Sequence[Thresholds], policy: TrialPolicy
) -> Baseline:
    """Return what verifiers sign about checked evidence; `blob` is the digest it is stored under."""
    stats = evidence.stats()
    # Rates as the run's operator chose them for the classes it calibrated.
    thresholds = thresholds_of(
        [stats],
        engine_class=evidence.engine_class,
        replayed_by=replayed_by(calibrated),
        false_rejects_per_million=calibrated[0].false_rejects_per_million_groups,
        false_alarms_per_million=calibrated[0].false_alarms_per_million_groups,
    )
    return Baseline(
        run_id=evidence.run_id,
        worker=evidence.worker,
        evidence=blob,
        thresholds=thresholds,
        refusal=refusal_of(stats, ceiling_of(calibrated, policy)) or "",
    )


def refusal_of(stats: Sequence[ReplayStats], ceiling: Thresholds) -> str | None:
    """Return why groups are too far from the policy to be told from a cheat, or None.

    A mean counts where it is above the ceiling beyond chance: bounds never exceed the ceiling, so
    what passes by chance is caught later by the sequential test.
    """
    remedy = "compute in bfloat16 with the pinned versions, or take a calibrated engine"
    for statistic in Statistic:
        most = ceiling.bounds(statistic).reference
        # `reference` leaves honest means a factor of REFERENCE below it, and so must these.
        above = [REFERENCE[statistic] * s.total(statistic) - most * s.num_tokens for s in stats]
        if fmean(above) - NORMAL_95 * stdev(above) / math.sqrt(len(above)) > 0:
            num_tokens = sum(group.num_tokens for group in stats)
            mean = sum(group.total(statistic) for group in stats) / num_tokens / MICRO
            return (
                f"{statistic.label}: {mean:.6g} per token; an engine class of this run has at most "
                f"{most / REFERENCE[statistic] / MICRO:.6g}: {remedy}"
            )
    broken = [found[1] for group in stats if (found := judge(group, ceiling)) is not None]
    if len(broken) > LARGEST_OUTLIERS:
        return f"{len(broken)} of {len(stats)} groups are above the ceiling ({broken[0]}): {remedy}"
    return None


def replayed_by(calibrated: Sequence[Thresholds]) -> str:
    """Return the engine that trial groups are replayed with: what the first calibrated class names.

    Other engines err by other amounts, so that only classes replayed with the same are compared.
    """
    return calibrated[0].replayed_by


def _comparable(calibrated: Sequence[Thresholds]) -> list[Thresholds]:
    return [entry for entry in calibrated if entry.replayed_by == replayed_by(calibrated)]


def ceiling_of(calibrated: Sequence[Thresholds], policy: TrialPolicy) -> Thresholds:
    """Return the loosest bounds that any engine class of the run may have."""
    percent = policy.ceiling_percent
    return _each(
        _comparable(calibrated), "the ceiling", lambda values: max(values) * percent // 100
    )


def class_bounds(
    baselines: Sequence[Baseline], calibrated: Sequence[Thresholds], policy: TrialPolicy
) -> Thresholds | None:
    """Return the bounds that one class's baselines give it, or None while too few are admitted.

    Each bound is the lower median over the workers, not below the loosest calibrated class's and not
    above the ceiling.
    """
    admitted = {b.worker: b.thresholds for b in baselines if not b.refusal}
    if len(admitted) < policy.num_workers:
        return None
    own = list(admitted.values())
    median = _each(own, own[0].engine_class, median_low)
    loosened = _each([median, *_comparable(calibrated)], median.engine_class, max)
    return _each([loosened, ceiling_of(calibrated, policy)], median.engine_class, min)


def _each(
    entries: Sequence[Thresholds], engine_class: str, chosen: Callable[[Sequence[int]], int]
) -> Thresholds:
    """Choose every bound on its own among the entries'. The first one's measurement stays beside it.

    Order within intervals and quantiles is kept: `chosen` grows with each of its arguments.
    """

    def limit(limits: Sequence[Limit]) -> Limit:
        return Limit(
            **{name: chosen([getattr(x, name) for x in limits]) for name in Limit.model_fields}
        )

    def bounds(statistic: Statistic) -> Bounds:
        every = [entry.bounds(statistic) for entry in entries]
        return Bounds(
            reference=chosen([x.reference for x in every]),
            group=limit([x.group for x in every]),
            drift=limit([x.drift for x in every]),
            honest_quantiles=every[0].honest_quantiles,
        )

    return entries[0].model_copy(
        update={"engine_class": engine_class}
        | {statistic.value: bounds(statistic) for statistic in Statistic}
    )


class EndorsedBaseline(Wire):
    """What a verifier sends: the baseline as it computed it, and its signature."""

    baseline: Baseline
    endorsement: Endorsement


class Trial(Wire):
    """Where one worker's trial stands. `evidence` is zero until enough groups are measured."""

    worker: Address
    engine_class: Name
    num_groups: U32
    """Groups submitted."""
    num_measured: U32
    evidence: Bytes32
    signed: SignedBaseline | None


class AdmittedClass(Wire):
    """A class beyond the RunSpec's: the baselines that `class_bounds` made its bounds from."""

    engine_class: Name
    baselines: Annotated[tuple[SignedBaseline, ...], AsTuple]


class Trials(Wire):
    trials: Annotated[tuple[Trial, ...], AsTuple]
    admitted: Annotated[tuple[AdmittedClass, ...], AsTuple]
