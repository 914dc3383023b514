"""Hold calibration to distributions whose tails are known."""

import numpy as np
import pytest

from protocol.checks.calibration import (
    REFERENCE,
    ROOM,
    alarm_rate,
    count_tail,
    drift_bound,
    least_total,
    logit_error,
    run_length,
    share_caught,
    tail_bound,
    thresholds_of,
)
from protocol.checks.sequential import OUTLIERS
from protocol.constants import MICRO, NANO
from protocol.precision import ComputeDtype
from protocol.verdict import Rejection, ReplayStats, Statistic, Thresholds, judge
from tests.stage.bounds import thresholds


def stats(*, matched: int = 1000, margin: int = 0, gap: int = 0) -> ReplayStats:
    """`margin` and `gap` are means per token, in millionths of a nat."""
    return ReplayStats(
        num_tokens=1000,
        num_matched=matched,
        margin_nanonats=margin * MICRO,
        max_margin_nanonats=margin * MICRO,
        gap_nanonats=gap * MICRO,
        surprisal_nanonats=0,
    )


def test_the_tail_bound_finds_the_quantile_of_an_exponential() -> None:
    draws = np.random.default_rng(0).exponential(2.0, size=4_000)
    assert tail_bound(draws, 1e-4) == pytest.approx(2.0 * np.log(1e4), rel=0.15)


def test_the_tail_bound_lies_above_the_quantile_of_a_mean() -> None:
    means = np.random.default_rng(0).exponential(1.0, size=(4_000, 100)).mean(axis=1)
    true_quantile = 1.4  # of Gamma(100, 1/100) at 1 − 1e-4
    assert true_quantile <= tail_bound(means, 1e-4) <= 1.3 * true_quantile


def test_the_tail_bound_never_cuts_off_what_was_seen() -> None:
    values = np.zeros(500)
    values[7] = 100.0
    assert tail_bound(values, 1e-4) >= 100.0
    assert tail_bound(np.zeros(500), 1e-4) == 0.0


def test_mismatches_are_whole_and_their_tail_geometric() -> None:
    """Poisson counts, one in thirty groups: P(> 1) is 5e-4 and P(> 2) 6e-6, so two may stand."""
    counts = np.random.default_rng(0).poisson(1 / 30, size=4_000).astype(np.float64) * MICRO
    assert count_tail(counts, 1e-4 / 3) == 2 * MICRO
    counted = count_tail(
        np.random.default_rng(0).poisson(50, 4_000).astype(np.float64) * MICRO, 1e-4
    )
    assert 78 <= counted / MICRO <= 100  # the Poisson quantile is 78


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="99 groups are too few"):
        calibrated([[stats()] * 99])
    assert calibrated([[stats()] * 100]).num_honest_groups == 100


def test_the_loosest_sample_sets_every_bound() -> None:
    calm = [stats(gap=10_000 + i) for i in range(200)]
    rough = [stats(matched=990, margin=500, gap=20_000 + i) for i in range(200)]
    both, alone = calibrated([calm, rough]), calibrated([rough])
    for statistic in Statistic:
        assert both.bounds(statistic) == alone.bounds(statistic)
    expected = REFERENCE[Statistic.GAP] * 20_099.5 * 1_000
    assert both.gap.reference == pytest.approx(expected, rel=1e-3)
    assert both.honest_match_millionths == 995_000
    assert (both.num_honest_groups, both.num_honest_tokens) == (400, 400_000)
    assert all(judge(group, both) is None for group in [*calm, *rough])


@pytest.mark.parametrize("dtype", ComputeDtype)
def test_a_lucky_machine_tightens_nothing(dtype: ComputeDtype) -> None:
    """One that never differed from its replay is still given what rounding does elsewhere."""
    lucky = [stats()] * 1_000
    bounds, error = calibrated([lucky], dtype), logit_error(dtype)
    assert bounds.gap.reference == pytest.approx(error * NANO, rel=1e-3)
    assert bounds.mismatches.reference >= error / 16 * MICRO
    assert bounds.margin.reference >= error * error / 16 * NANO
    assert bounds.mismatches.group >= ROOM * MICRO
    for statistic in (Statistic.MARGIN, Statistic.GAP):
        assert bounds.bounds(statistic).group >= ROOM * 2 * error * NANO
    draw = np.random.default_rng(0)
    rough = [stats(gap=int(gap)) for gap in draw.normal(40_000, 4_000, size=1_000)]
    assert calibrated([lucky, rough], dtype).gap == calibrated([rough], dtype).gap


def test_the_limits_lie_a_stated_room_above_what_honest_work_needs() -> None:
    """Work that never varies needs what one near tie is always taken to be; other work its tail."""
    error = least_total(Statistic.GAP, ComputeDtype.FLOAT32)
    assert calibrated([[stats(gap=10_000)] * 200]).gap.group == int(np.ceil(ROOM * error))
    draw = np.random.default_rng(3)
    honest = [stats(gap=int(gap)) for gap in draw.exponential(10_000, size=4_000)]
    bounds = calibrated([honest]).gap
    quantile = 10_000 * np.log(3e4) * MICRO - bounds.reference * 1_000
    assert bounds.group == pytest.approx(ROOM * quantile, rel=0.15)
    assert bounds.drift >= bounds.group


def test_few_errors_leave_the_reference_room_for_their_chance() -> None:
    """Two mismatches in a thousand groups may stand for six, and then twice two would be too little."""
    few = [stats(matched=1000 - (i % 500 == 0)) for i in range(1_000)]
    many = [stats(matched=1000 - (i % 11 == 0)) for i in range(1_000)]
    rate = REFERENCE[Statistic.MISMATCHES]
    assert calibrated([few]).mismatches.reference > rate * 2  # as the two, and one more, ask for
    assert calibrated([many]).mismatches.reference == pytest.approx(rate * 91, rel=0.02)
    assert calibrated([few]).mismatches.drift < 100 * MICRO


def test_the_run_length_is_that_of_the_noise_it_is_asked_about() -> None:
    draw = np.random.default_rng(3)

    def honest(mean: int) -> list[ReplayStats]:
        return [stats(gap=int(g)) for g in draw.normal(mean, 3_000, size=2_000).clip(0)]

    bounds = calibrated([honest(14_000)])
    assert run_length(honest(14_000), bounds) >= 100_000  # ten alarms in a million groups
    assert run_length(honest(16_000), bounds) >= 100_000  # a machine that was not measured
    assert run_length(honest(28_000), bounds) < 1_000  # another model


def test_the_least_share_of_int8_groups_that_is_caught_is_written_down() -> None:
    honest = [stats(gap=10_000 + i) for i in range(200)]
    seen, hidden = stats(gap=40_000), stats(gap=10_000)
    bounds = calibrated([honest], int8=[[seen] * 4, [seen, hidden, hidden, hidden]])
    assert share_caught([seen, hidden], bounds) == 0.5
    assert bounds.int8_caught_millionths == MICRO // 4
    assert calibrated([honest]).int8_caught_millionths == 0  # none measured, none claimed


def test_the_markov_chain_gives_the_average_run_length_of_a_simulation() -> None:
    """Scores −1 or +3, one in five the latter: crossing 12.5 is counted over 4 million groups."""
    draw = np.random.default_rng(0)
    steps = np.where(draw.random((4_000, 1_000)) < 0.2, 3.0, -1.0)
    level, alarms = np.zeros(1_000), 0
    for step in steps:
        level = np.maximum(level + np.minimum(step, 12.5 / OUTLIERS), 0)
        alarms += int((level > 12.5).sum())
        level[level > 12.5] = 0
    exact = alarm_rate(np.array([3.0, -1, -1, -1, -1]), 12.5)
    assert exact == pytest.approx(alarms / steps.size, rel=0.05)


def test_the_drift_bound_is_the_least_that_keeps_the_rate() -> None:
    excesses = np.random.default_rng(0).normal(-1, 2, size=2_000)
    bound = drift_bound(excesses, 1e-4)
    assert alarm_rate(excesses, bound) <= 1e-4 < alarm_rate(excesses, 0.98 * bound)


def test_judge_holds_work_to_each_bound_from_both_sides() -> None:
    bounds = thresholds(match=0.98, margin=0.0005, gap=0.02)
    within = stats(matched=980, margin=500, gap=20_000)
    assert judge(within, bounds) is None
    for change, rejection in (
        ({"num_matched": 979}, Rejection.REPLAY_MISMATCH),
        ({"margin_nanonats": within.margin_nanonats + 2}, Rejection.REPLAY_MARGIN),
        ({"gap_nanonats": within.gap_nanonats + 2}, Rejection.REPLAY_LOGPROB),
    ):
        found = judge(within.model_copy(update=change), bounds)
        assert found is not None
        assert found[0] is rejection


def test_a_short_group_may_have_the_mismatch_that_a_long_one_may() -> None:
    """By rate alone one mismatch among eight tokens would be far beyond any honest share."""
    honest = [stats(matched=1000 - (i % 50 == 0), margin=30 * (i % 50 == 0)) for i in range(500)]
    bounds = calibrated([honest])
    short = stats(matched=7, margin=24).model_copy(update={"num_tokens": 8})
    assert judge(short, bounds) is None
    assert judge(short.model_copy(update={"num_matched": 0}), bounds) is not None


def calibrated(
    honest: list[list[ReplayStats]],
    dtype: ComputeDtype = ComputeDtype.FLOAT32,
    *,
    int8: list[list[ReplayStats]] | None = None,
) -> Thresholds:
    return thresholds_of(
        honest,
        compute_dtype=dtype,
        model_digest=bytes(32),
        varied=[f"sample {i}" for i in range(len(honest))],
        int8=int8 or [],
        false_rejects_per_million=100,
        false_alarms_per_million=10,
    )
