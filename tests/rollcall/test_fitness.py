"""What measured groups say of a machine: its share of the bounds, the sequential test, and the remedy."""

import pytest

from protocol.constants import MICRO
from protocol.verdict import NOTHING_MEASURED, Bounds, ReplayStats, Statistic, Thresholds
from rollcall.machine.checkup import doubts, remedy
from rollcall.machine.fitness import Fitness, Prospect, Reading, assess
from tests.stage.bounds import thresholds

TOKENS = 100
REFERENCE, GROUP, DRIFT = 1_000, 50_000, 200_000
"""Of the gap, in nanonats: per token, for a group, and of the sequential test."""


def bounds() -> Thresholds:
    wide = Bounds(reference=REFERENCE, group=GROUP, drift=DRIFT)
    return thresholds().model_copy(
        update={
            "mismatches": Bounds(reference=REFERENCE, group=5 * MICRO, drift=9 * MICRO),
            "margin": wide,
            "gap": wide,
        }
    )


def group(gap: int = 0, *, matched: int = TOKENS) -> ReplayStats:
    """Return a group with this gap per token."""
    figures = {"num_tokens": TOKENS, "num_matched": matched, "gap_nanonats": gap * TOKENS}
    return NOTHING_MEASURED.model_copy(update=figures)


def gap_reading(gaps: list[int]) -> tuple[Fitness, Reading]:
    fitness = assess([group(gap) for gap in gaps], bounds())
    return fitness, next(r for r in fitness.readings if r.statistic is Statistic.GAP)


def test_honest_groups_earn_and_the_sequential_test_falls_back() -> None:
    fitness, reading = gap_reading([100, 200, 300] * 10)
    assert (fitness.verdict, fitness.reasons, fitness.crossed_after) == (Prospect.EARNS, (), None)
    assert reading.groups_until_crossing is None
    assert reading.mean == pytest.approx(200e-9)
    assert not doubts(fitness)


def test_one_group_above_its_bound_is_a_rejection() -> None:
    at_the_bound = REFERENCE + GROUP // TOKENS
    assert gap_reading([0] * 20 + [at_the_bound])[0].verdict is Prospect.EARNS
    fitness, _ = gap_reading([0] * 20 + [at_the_bound + 1])
    assert (fitness.verdict, fitness.num_rejected) == (Prospect.REJECTED, 1)
    assert "compute in float32" in remedy(fitness)


def test_groups_that_each_pass_are_told_from_many_and_by_when() -> None:
    # 10,000 above the reference per group of 100 tokens, where the test holds 200,000: 20 groups.
    fitness, reading = gap_reading([1_100] * 12)
    assert fitness.num_rejected == 0
    assert fitness.crossed_after is None
    assert reading.groups_until_crossing == pytest.approx(20)
    assert reading.is_certain
    assert fitness.verdict is Prospect.DRIFTS
    assert "after about 20 groups" in fitness.reasons[0]
    crossed, _ = gap_reading([1_100] * 40)
    assert crossed.crossed_after == 21


def test_a_mean_above_the_reference_by_chance_asks_for_more_groups() -> None:
    fitness, reading = gap_reading([1_450, 0, 1_450, 1_450, 0, 1_450, 1_450])
    assert reading.groups_until_crossing is not None
    assert not reading.is_certain
    assert fitness.verdict is Prospect.EARNS
    assert "--groups" in doubts(fitness)[0]


def test_work_of_another_policy_gets_another_remedy_than_another_rounding() -> None:
    fitness = assess([group(matched=70)] * 8, bounds())
    assert fitness.verdict is Prospect.REJECTED
    assert "other weights" in remedy(fitness)


def test_the_worst_group_is_read_as_a_share_of_its_bound() -> None:
    quiet, at_the_bound = 0, REFERENCE + GROUP // TOKENS
    assert gap_reading([quiet, at_the_bound])[1].worst_use == pytest.approx(1)
    assert gap_reading([quiet, REFERENCE])[1].worst_use == 0
    assert gap_reading([quiet])[1].worst_use == pytest.approx(-REFERENCE * TOKENS / GROUP)


def test_nothing_measured_is_no_result() -> None:
    with pytest.raises(ValueError, match="at least one group"):
        assess([group().model_copy(update={"num_tokens": 0})], bounds())
