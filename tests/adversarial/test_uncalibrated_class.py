"""Attack: name an engine class that nobody calibrated, and have rounded weights measured as honest."""

import json
from functools import cache

from protocol.baseline import (
    Baseline,
    TrialPolicy,
    ceiling_of,
    class_bounds,
    refusal_of,
)
from protocol.calibration import thresholds_of
from protocol.verdict import ReplayStats, Thresholds, judge
from rollout_worker.engines.rounded import rounded
from rollout_worker.replay import replay_many
from tests.adversarial.sampling_lab import MODEL, exact, submission_of

NUM_TRIAL_GROUPS = 100
POLICY = TrialPolicy(num_groups=NUM_TRIAL_GROUPS, num_workers=1)
CHEAT = "0x" + "11" * 20


def calibrated() -> list[Thresholds]:
    entries = json.loads((MODEL / "thresholds.json").read_text())
    return [Thresholds.from_json(json.dumps(entry)) for entry in entries]


@cache
def measured(bits: int) -> list[ReplayStats]:
    """Return what replay sees of groups sampled at `bits` bits, 16 for the policy as it is."""
    bench = exact()
    leases = [*bench.leases(64, salt=7), *bench.leases(64, salt=8)]
    if bits < 16:
        bench.engine.load(rounded(bench.policy, bits=bits))
    groups = bench.sample(leases)
    work = [(le, submission_of(le, group)) for le, group in zip(leases, groups, strict=True)]
    return [stats for stats, _ in replay_many(bench.model, work)]


def own_bounds(bits: int) -> Thresholds:
    return thresholds_of(
        [measured(bits)[:NUM_TRIAL_GROUPS]],
        engine_class="quantised-cpu-int4",
        false_rejects_per_million=100,
        false_alarms_per_million=10,
    )


def rejected(bits: int, bounds: Thresholds) -> int:
    return sum(judge(group, bounds) is not None for group in measured(bits)[NUM_TRIAL_GROUPS:])


def test_without_a_ceiling_four_bits_earn_under_their_own_baseline() -> None:
    assert rejected(4, own_bounds(4)) == 0


def test_the_ceiling_refuses_four_and_six_bits_and_not_the_policy_itself() -> None:
    ceiling = ceiling_of(calibrated(), POLICY)
    for bits in (4, 6):
        assert refusal_of(measured(bits)[:NUM_TRIAL_GROUPS], ceiling) is not None
    assert refusal_of(measured(16)[:NUM_TRIAL_GROUPS], ceiling) is None


def test_even_an_admitted_cheat_gets_bounds_that_condemn_it() -> None:
    """Were the refusal itself passed (all its verifiers bought), the bounds still end at the ceiling."""
    baseline = Baseline(
        run_id=1, worker=CHEAT, evidence=bytes(32), thresholds=own_bounds(4), refusal=""
    )
    bounds = class_bounds([baseline], calibrated(), POLICY)
    assert bounds is not None
    assert rejected(4, bounds) == len(measured(4)) - NUM_TRIAL_GROUPS
    assert rejected(16, bounds) == 0


def test_a_vandal_that_is_too_exact_does_not_tighten_its_class() -> None:
    """Groups copied from the verifiers' own engine would give bounds that honest hardware breaks."""
    exactly = [
        group.model_copy(
            update={
                "num_matched": group.num_tokens,
                "mean_margin_micronats": 0,
                "mean_logprob_gap_micronats": 0,
            }
        )
        for group in measured(16)[:NUM_TRIAL_GROUPS]
    ]
    tight = thresholds_of(
        [exactly], engine_class="x", false_rejects_per_million=100, false_alarms_per_million=10
    )
    assert rejected(16, tight) > 0  # what honest members of the class would suffer
    baseline = Baseline(run_id=1, worker=CHEAT, evidence=bytes(32), thresholds=tight, refusal="")
    bounds = class_bounds([baseline], calibrated(), POLICY)
    assert bounds is not None
    assert rejected(16, bounds) == 0
