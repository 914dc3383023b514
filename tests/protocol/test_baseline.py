"""The rules of engine classes on trial: what evidence must show, what is too loose, what bounds follow."""

from dataclasses import dataclass

import pytest
from pydantic import ValidationError

from protocol.baseline import (
    Baseline,
    Evidence,
    Measurement,
    Reading,
    TrialPolicy,
    ceiling_of,
    check_evidence,
    class_bounds,
    is_measurement,
    refusal_of,
    trial_detail,
)
from protocol.calibration import REFERENCE
from protocol.errors import Malformed
from protocol.signing import Domain, address_of, recover, sign
from protocol.verdict import Outcome, ReplayStats, Statistic, Thresholds, Verdict
from tests.bounds import thresholds

CLASS = "mlx-metal-bfloat16"
POLICY = TrialPolicy(num_groups=100, num_workers=2, ceiling_percent=125)
WORKERS = tuple("0x" + f"{i:040x}" for i in range(1, 6))
VERIFIERS = tuple("0x" + f"{i:040x}" for i in range(101, 104))
TIGHT = thresholds("tight", match=990_000, margin=1_000, gap=10_000)
LOOSE = thresholds("loose", match=980_000, margin=3_000, gap=9_000)


def stats(*, gap: int = 0, matched: int = 1_000, tokens: int = 1_000) -> ReplayStats:
    return ReplayStats(
        num_tokens=tokens,
        num_matched=matched,
        mean_margin_micronats=0,
        max_margin_micronats=0,
        mean_logprob_gap_micronats=gap,
        p99_logprob_gap_micronats=gap,
    )


def verdict(digest: bytes, verifier: str, gap: int = 0, **changes: object) -> Verdict:
    fields = {
        "run_id": 1,
        "work_digest": digest,
        "verifier": verifier,
        "outcome": Outcome.UNDECIDED,
        "rejection": "",
        "detail": trial_detail(CLASS, WORKERS[0]),
        "stats": stats(gap=gap),
        "mismatches": (),
        "decided_at": 0,
        "signature": bytes(65),
    }
    return Verdict.model_validate(fields | changes)


def reading(verifier: str, gap: int = 5) -> Reading:
    return Reading(
        verifier=verifier, stats=stats(gap=gap), decided_at=1_800_000_000, signature=bytes(65)
    )


def measurement(i: int, *gaps: int) -> Measurement:
    readings = tuple(reading(v, gap) for v, gap in zip(VERIFIERS, gaps, strict=False))
    return Measurement(work_digest=i.to_bytes(32, "big"), readings=readings)


def evidence(*groups: Measurement) -> Evidence:
    return Evidence(run_id=1, worker=WORKERS[0], engine_class=CLASS, groups=groups)


GOOD = tuple(measurement(i, 5, 5) for i in range(100))


def test_enough_groups_each_by_a_quorum_are_evidence() -> None:
    check_evidence(evidence(*GOOD), POLICY, threshold=2)


@dataclass(frozen=True)
class Bad:
    says: str
    groups: tuple[Measurement, ...]


def changed(**changes: object) -> tuple[Measurement, ...]:
    """Change the first reading of the first group."""
    first = GOOD[0]
    bad = Reading.model_validate({**dict(first.readings[0]), **changes})
    return (first.model_copy(update={"readings": (bad, first.readings[1])}), *GOOD[1:])


@pytest.mark.parametrize(
    "bad",
    [
        Bad("99 groups", GOOD[1:]),
        Bad("order of their digests", (GOOD[0], *GOOD)),
        Bad("order of their digests", (*GOOD[1:], GOOD[0])),
        Bad("1 readings by 1 verifiers", (measurement(0, 5), *GOOD[1:])),
        Bad("2 readings by 1 verifiers", changed(verifier=VERIFIERS[1])),
        Bad("no token", changed(stats=stats(tokens=0, matched=0))),
        Bad("not of the same number", changed(stats=stats(tokens=1, matched=1))),
    ],
    ids=lambda bad: bad.says,
)
def test_evidence_that_falls_short_is_refused_by_what_it_lacks(bad: Bad) -> None:
    with pytest.raises(Malformed, match=bad.says):
        check_evidence(evidence(*bad.groups), POLICY, threshold=2)


def test_one_verifier_of_three_moves_no_statistic() -> None:
    assert measurement(0, 5, 6, 900_000).stats().mean_logprob_gap_micronats == 6
    assert measurement(0, 0, 6, 7).stats().mean_logprob_gap_micronats == 6
    assert measurement(0, 5, 900_000).stats().mean_logprob_gap_micronats == 5


def test_one_verifier_that_tells_another_length_makes_nothing_of_the_others_readings() -> None:
    """Its few tokens would be taken with the others' matches: unchecked, a bound comes out below zero."""
    lie = stats().model_copy(update={"num_tokens": 1})
    readings = (GOOD[0].readings[0].model_copy(update={"stats": lie}), GOOD[0].readings[1])
    groups = tuple(group.model_copy(update={"readings": readings}) for group in GOOD)
    with pytest.raises(ValidationError, match="1000 of 1 tokens"):
        evidence(*groups).stats()
    with pytest.raises(Malformed, match="not of the same number"):
        check_evidence(evidence(*groups), POLICY, threshold=2)


def test_evidence_gives_back_the_verdicts_that_were_signed() -> None:
    domain, key = Domain(31337, "0x5FbDB2315678afecb367f032d93F642f64180aa3"), bytes([7]) * 32
    unsigned = verdict(GOOD[0].work_digest, VERIFIERS[0], 5)
    signature = sign(key, domain.digest(unsigned))
    first = Measurement(
        work_digest=unsigned.work_digest,
        readings=(
            Reading(
                verifier=VERIFIERS[0],
                stats=unsigned.stats,
                decided_at=unsigned.decided_at,
                signature=signature,
            ),
        ),
    )
    found = Evidence.from_canonical(evidence(first).canonical())
    [again] = found.verdicts()
    assert again == unsigned.model_copy(update={"signature": signature})
    assert recover(domain.digest(again), again.signature) == address_of(key)


def test_a_judging_verdict_measures_nothing() -> None:
    assert is_measurement(verdict(bytes(32), VERIFIERS[0]))
    assert not is_measurement(verdict(bytes(32), VERIFIERS[0], outcome=Outcome.ACCEPTED))


def test_the_ceiling_is_a_multiple_of_the_loosest_class_of_each_statistic() -> None:
    ceiling = ceiling_of([TIGHT, LOOSE], POLICY)
    assert ceiling.mismatches.reference == 20_000 * 125 // 100
    assert ceiling.margin.reference == 3_000 * 125 // 100
    assert ceiling.gap.reference == 10_000 * 125 // 100
    assert ceiling.gap.drift.high == 25_000_000


def test_a_mean_is_refused_once_it_leaves_honest_work_no_room_below_the_ceiling() -> None:
    ceiling = ceiling_of([TIGHT, LOOSE], POLICY)
    most = int(ceiling.gap.reference / REFERENCE[Statistic.GAP])
    assert refusal_of([stats(gap=most)] * 100, ceiling) is None
    found = refusal_of([stats(gap=most + 2)] * 100, ceiling)
    assert found is not None
    assert Statistic.GAP.label in found
    assert "bfloat16" in found


def test_two_groups_above_the_ceiling_refuse_a_worker_whose_mean_is_low() -> None:
    ceiling = ceiling_of([TIGHT, LOOSE], POLICY)
    wild, calm = stats(gap=ceiling.gap.reference + 1), stats()
    assert refusal_of([wild, *[calm] * 99], ceiling) is None
    found = refusal_of([wild, wild, *[calm] * 98], ceiling)
    assert found is not None
    assert "2 of 100 groups" in found


def baseline(worker: str, own: Thresholds, refusal: str = "") -> Baseline:
    return Baseline(run_id=1, worker=worker, evidence=bytes(32), thresholds=own, refusal=refusal)


def own(gap: int) -> Thresholds:
    return thresholds(CLASS, match=999_000, margin=10, gap=gap)


def test_a_class_needs_baselines_of_several_workers_that_are_not_refused() -> None:
    calibrated = [TIGHT, LOOSE]
    first, again = baseline(WORKERS[0], own(11_000)), baseline(WORKERS[0], own(11_001))
    refused = baseline(WORKERS[1], own(99_000), refusal="too loose")
    assert class_bounds([first, again], calibrated, POLICY) is None
    assert class_bounds([first, refused], calibrated, POLICY) is None
    assert class_bounds([first, baseline(WORKERS[2], own(12_000))], calibrated, POLICY) is not None


def test_bounds_are_the_lower_median_of_the_workers() -> None:
    gaps = (10_500, 11_000, 12_400)
    found = class_bounds(
        [baseline(w, own(gap)) for w, gap in zip(WORKERS, gaps, strict=False)],
        [TIGHT, LOOSE],
        POLICY,
    )
    assert found is not None
    assert found.engine_class == CLASS
    assert found.gap.reference == 11_000


def test_bounds_are_no_tighter_than_the_loosest_class_and_no_looser_than_the_ceiling() -> None:
    calibrated = [TIGHT, LOOSE]
    for gap, expected in ((0, 10_000), (10**6, 12_500)):
        every = [baseline(worker, own(gap)) for worker in WORKERS[:2]]
        found = class_bounds(every, calibrated, POLICY)
        assert found is not None
        assert found.gap.reference == expected
        assert found.mismatches.reference == 20_000
