"""What measured groups say of a machine: percentiles, the sequential test, and the remedy."""

import pytest

from protocol.constants import MICRO
from protocol.precision import ComputeDtype
from protocol.verdict import QUANTILES, Bounds, Limit, ReplayStats, Statistic, Thresholds
from rollcall.checkup import doubts, remedy
from rollcall.fitness import Fitness, Prospect, Reading, assess, percentile

TOKENS = 100
QUANTILE_VALUES = (0, 0, 0, 0, 100, 200, 300, 400, 500, 1_000)


def limit(value: int) -> Limit:
    return Limit(low=value, estimate=value, high=value)


def bounds() -> Thresholds:
    """A gap reference of 1,000 micronats per token; a group may be 50,000 above, the test 200,000."""
    wide = Bounds(
        reference=1_000,
        group=limit(50_000),
        drift=limit(200_000),
        honest_quantiles=QUANTILE_VALUES,
    )
    mismatches = wide.model_copy(update={"group": limit(5 * MICRO), "drift": limit(9 * MICRO)})
    return Thresholds(
        compute_dtype=ComputeDtype.FLOAT32,
        model_digest=bytes(32),
        mismatches=mismatches,
        margin=wide,
        gap=wide,
        num_honest_groups=1_000,
        num_honest_tokens=100_000,
        honest_match_millionths=MICRO,
        honest_mean_margin_micronats=0,
        false_rejects_per_million_groups=100,
        false_alarms_per_million_groups=10,
    )


def group(gap: int = 0, *, matched: int = TOKENS) -> ReplayStats:
    return ReplayStats(
        num_tokens=TOKENS,
        num_matched=matched,
        mean_margin_micronats=0,
        max_margin_micronats=0,
        mean_logprob_gap_micronats=gap,
        p99_logprob_gap_micronats=gap,
    )


def gap_reading(gaps: list[int]) -> tuple[Fitness, Reading]:
    fitness = assess([group(gap) for gap in gaps], bounds())
    return fitness, next(r for r in fitness.readings if r.statistic is Statistic.GAP)


def test_honest_groups_earn_and_the_sequential_test_falls_back() -> None:
    fitness, reading = gap_reading([100, 200, 300] * 10)
    assert (fitness.verdict, fitness.reasons, fitness.crossed_after) == (Prospect.EARNS, (), None)
    assert reading.groups_until_crossing is None
    assert reading.mean == pytest.approx(0.0002)
    assert not doubts(fitness)


def test_one_group_above_its_bound_is_a_rejection() -> None:
    at_the_bound = 1_000 + 50_000 // TOKENS
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


def test_percentiles_put_ties_in_their_middle_and_the_rest_in_line() -> None:
    assert QUANTILES[:5] == (0.0, 0.01, 0.1, 0.25, 0.5)
    assert percentile(0, QUANTILE_VALUES) == 12.5
    assert percentile(50, QUANTILE_VALUES) == pytest.approx(37.5)
    assert percentile(100, QUANTILE_VALUES) == 50
    assert percentile(1_001, QUANTILE_VALUES) == 100
    assert percentile(1, (2,) * len(QUANTILES)) == 0


def test_nothing_measured_is_no_result() -> None:
    with pytest.raises(ValueError, match="at least one group"):
        assess([group().model_copy(update={"num_tokens": 0})], bounds())
