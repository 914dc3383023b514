"""Attack as an orchestrator: serve evidence and baselines that no quorum of verifiers signed."""

from dataclasses import replace

import pytest

from protocol.baseline import (
    Baseline,
    Endorsement,
    Evidence,
    Measurement,
    Reading,
    SignedBaseline,
    TrialPolicy,
    check_evidence,
    class_bounds,
    trial_detail,
)
from protocol.canonical import keccak256
from protocol.errors import BadSignature, Malformed
from protocol.signing import Domain, address_of, sign
from protocol.verdict import Outcome, ReplayStats, Verdict
from rollout_worker.quorum import Quorum
from tests.bounds import thresholds

CLASS, RUN, NOW = "mlx-metal-bfloat16", 3, 1_800_000_000
POLICY = TrialPolicy(num_groups=100, num_workers=1)
DOMAIN = Domain(31337, "0x5FbDB2315678afecb367f032d93F642f64180aa3")
KEYS = {name: keccak256(name.encode()) for name in ("v0", "v1", "v2", "hot", "worker", "liar")}
ADDRESSES = {name: address_of(key) for name, key in KEYS.items()}
WORKER = ADDRESSES["worker"]
QUORUM = Quorum(
    run_id=RUN,
    verifiers=tuple(ADDRESSES[name] for name in ("v0", "v1", "v2")),
    threshold=2,
    domain=DOMAIN,
    spoke_for=lambda signer, who, _: (
        signer == who or (signer, who) == (ADDRESSES["hot"], ADDRESSES["v1"])
    ),
)


def reading(digest: bytes, verifier: str, *, signer: str = "", gap: int = 5) -> Reading:
    stats = ReplayStats(
        num_tokens=100,
        num_matched=100,
        mean_margin_micronats=0,
        max_margin_micronats=0,
        mean_logprob_gap_micronats=gap,
        p99_logprob_gap_micronats=gap,
    )
    verdict = Verdict(
        run_id=RUN,
        work_digest=digest,
        verifier=ADDRESSES[verifier],
        outcome=Outcome.UNDECIDED,
        rejection="",
        detail=trial_detail(CLASS, WORKER),
        stats=stats,
        mismatches=(),
        decided_at=NOW,
        signature=bytes(65),
    )
    signature = sign(KEYS[signer or verifier], DOMAIN.digest(verdict))
    return Reading(verifier=verdict.verifier, stats=stats, decided_at=NOW, signature=signature)


def evidence(*first: Reading) -> Evidence:
    """Return enough groups by two verifiers; `first` replaces the readings of the first one."""
    groups = []
    for i in range(100):
        digest = i.to_bytes(32, "big")
        readings = first if first and not i else (reading(digest, "v0"), reading(digest, "v1"))
        groups.append(Measurement(work_digest=digest, readings=readings))
    return Evidence(run_id=RUN, worker=WORKER, engine_class=CLASS, groups=tuple(groups))


def check(found: Evidence) -> None:
    QUORUM.check_evidence(found, worker=WORKER, engine_class=CLASS, policy=POLICY)


def test_what_verifiers_signed_counts_by_their_hot_keys_too() -> None:
    check(evidence())
    check(evidence(reading(bytes(32), "v0"), reading(bytes(32), "v1", signer="hot")))


def test_readings_that_nobody_signed_so_are_refused_though_their_form_is_good() -> None:
    digest, honest = bytes(32), reading(bytes(32), "v0")
    altered = reading(digest, "v1").model_copy(
        update={"stats": honest.stats.model_copy(update={"mean_logprob_gap_micronats": 900_000})}
    )
    for bad in (altered, reading(digest, "v1", signer="liar"), reading(bytes([1]) * 32, "v1")):
        found = evidence(honest, bad)
        check_evidence(found, POLICY, threshold=2)  # without signatures it would count
        with pytest.raises(BadSignature):
            check(found)
    stranger = evidence(honest, reading(digest, "liar"))
    check_evidence(stranger, POLICY, threshold=2)
    with pytest.raises(Malformed, match="not one of run 3's verifiers"):
        check(stranger)


def test_evidence_of_another_worker_class_or_run_is_refused() -> None:
    for change in ({"worker": ADDRESSES["liar"]}, {"engine_class": "other"}, {"run_id": 4}):
        with pytest.raises(Malformed, match="the evidence is of"):
            check(evidence().model_copy(update=change))


def signed(baseline: Baseline, *names: str) -> SignedBaseline:
    digest = DOMAIN.digest(baseline)
    return SignedBaseline(
        baseline=baseline,
        endorsements=tuple(
            Endorsement(verifier=ADDRESSES[name], signature=sign(KEYS[name], digest))
            for name in names
        ),
    )


GOOD = Baseline(
    run_id=RUN, worker=WORKER, evidence=bytes(32), thresholds=thresholds(CLASS), refusal=""
)


def baseline_of(found: SignedBaseline, quorum: Quorum = QUORUM) -> Baseline:
    return quorum.check_baseline(found, engine_class=CLASS, now=NOW)


def test_a_baseline_counts_with_a_quorum_of_different_verifiers() -> None:
    assert baseline_of(signed(GOOD, "v0", "v2")) == GOOD
    with pytest.raises(Malformed, match="1 verifiers signed"):
        baseline_of(signed(GOOD, "v0"))
    with pytest.raises(Malformed, match="1 verifiers signed"):
        baseline_of(signed(GOOD, "v0", "v0"))
    with pytest.raises(Malformed, match="not one of"):
        baseline_of(signed(GOOD, "v0", "liar"))
    assert baseline_of(signed(GOOD, "v0"), replace(QUORUM, threshold=1)) == GOOD


def test_a_refusal_cannot_be_cut_out_of_what_verifiers_signed() -> None:
    refused = GOOD.model_copy(update={"refusal": "gap 0.3 is above 0.03"})
    by_two = signed(refused, "v0", "v1")
    assert class_bounds([baseline_of(by_two)], [thresholds("known")], POLICY) is None
    cut = by_two.model_copy(update={"baseline": GOOD})
    assert class_bounds([cut.baseline], [thresholds("known")], POLICY) is not None
    with pytest.raises(BadSignature):
        baseline_of(cut)


def test_a_baseline_of_another_class_or_run_gives_this_one_nothing() -> None:
    for change in ({"thresholds": thresholds("other")}, {"run_id": 4}):
        with pytest.raises(Malformed, match="stands under"):
            baseline_of(signed(GOOD.model_copy(update=change), "v0", "v1"))
