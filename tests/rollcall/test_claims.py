"""A claim that cannot fail proves nothing: each is broken by the evidence it is about."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from audit.run import RunReport
from rollcall.demo.claims import check_claims
from rollcall.demo.results import Clock, Evidence, GroupEvidence, PolicyEvidence, WorkerEvidence

HONEST, CHEAT = "0x" + "11" * 20, "0x" + "22" * 20


def worker(**changes: Any) -> WorkerEvidence:
    honest = WorkerEvidence(
        name="worker-honest",
        address=HONEST,
        engine="transformers-cpu",
        is_cheat=False,
        is_excluded=False,
        groups_before_exclusion=2,
        accepted_groups=2,
        accepted_units=100,
        rejected_by_reason={},
        named={},
        does="",
        earned_units=100,
        claimed=1000,
        balance_gained=1000,
        stake_before=50,
        stake_after=50,
        tokens_per_second=1.0,
        share_waited=0.5,
        bytes_by_kind={},
        policies={0: "0xaa"},
    )
    return replace(honest, **changes)


def cheat(**changes: Any) -> WorkerEvidence:
    found: dict[str, Any] = {
        "name": "worker-cheat",
        "address": CHEAT,
        "is_cheat": True,
        "is_excluded": True,
        "accepted_groups": 0,
        "accepted_units": 0,
        "rejected_by_reason": {"replay_margin": 1},
        "named": {"int4": 1},
        "does": "int4",
        "earned_units": 0,
        "claimed": 0,
        "balance_gained": 0,
        "stake_after": 0,
    }
    return worker(**{**found, **changes})


def group(**changes: Any) -> GroupEvidence:
    accepted = GroupEvidence(HONEST, 0.0, 0, "accepted", "", 0, 50, 0.5, True)
    return replace(accepted, **changes)


def evidence(**changes: Any) -> Evidence:
    good = Evidence(
        clock=Clock(0, 0, 0, 0),
        rate=10,
        max_staleness=4,
        num_steps=2,
        num_held_out=512,
        accuracy_before=0.52,
        accuracy_after=0.91,
        steps=[],
        groups=[
            group(),
            group(trained_in=1, policy_version=1),
            group(worker=CHEAT, state="rejected", trained_in=-1),
        ],
        workers=[worker(), cheat()],
        audit=RunReport(1, [], [], {HONEST: 100}),
        policies=[PolicyEvidence(0, 0, 9)],
        policy_digests={0: "0xaa"},
        events=[],
    )
    return replace(good, **changes)


def broken(found: Evidence) -> set[str]:
    return {claim.name for claim in check_claims(found) if not claim.holds}


def test_a_good_market_holds_every_claim() -> None:
    assert broken(evidence()) == set()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: evidence(accuracy_after=0.849), "accuracy"),
        (lambda: evidence(accuracy_before=0.601), "accuracy"),
        (lambda: evidence(num_held_out=511), "accuracy"),
        (lambda: evidence(workers=[worker(), cheat(is_excluded=False)]), "found by replay"),
        (
            lambda: evidence(workers=[worker(), cheat(rejected_by_reason={"bad_length": 1})]),
            "found by replay",
        ),
        (
            lambda: evidence(groups=[*evidence().groups, group(worker=CHEAT, trained_in=1)]),
            "trained on",
        ),
        (lambda: evidence(workers=[worker(), cheat(claimed=1)]), "paid nothing"),
        (lambda: evidence(workers=[worker(), cheat(earned_units=1)]), "paid nothing"),
        (lambda: evidence(workers=[worker(), cheat(stake_after=50)]), "slashed"),
        (
            lambda: evidence(workers=[worker(rejected_by_reason={"bad_length": 1}), cheat()]),
            "no honest group",
        ),
        (lambda: evidence(workers=[worker(accepted_groups=0), cheat()]), "no honest group"),
        (lambda: evidence(workers=[worker(claimed=990), cheat()]), "paid exactly"),
        (lambda: evidence(workers=[worker(balance_gained=990), cheat()]), "paid exactly"),
        (lambda: evidence(workers=[worker(accepted_units=101), cheat()]), "paid exactly"),
        (lambda: evidence(audit=RunReport(1, [], ["a false sum"], {HONEST: 100})), "paid exactly"),
        (lambda: evidence(groups=[group(), group(trained_in=1, state="replay")]), "admitted"),
        (lambda: evidence(groups=[group(), group(trained_in=5)], num_steps=6), "admitted"),
        (lambda: evidence(groups=[group()]), "admitted"),
        (lambda: evidence(policy_digests={0: "0xbb"}), "digest"),
        (lambda: evidence(workers=[worker(policies={9: "0xaa"}), cheat()]), "digest"),
        (lambda: evidence(workers=[worker()]), "cheat"),
        (lambda: evidence(workers=[cheat()]), "honest"),
    ],
)
def test_a_claim_breaks_with_what_it_is_about(change: Callable[[], Evidence], words: str) -> None:
    assert any(words in name for name in broken(change()))
