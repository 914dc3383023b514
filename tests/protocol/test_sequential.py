"""The sequential test's arithmetic, what cannot game it, and that it keeps the rate it is set for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.checks.calibration import drift_bound
from protocol.checks.sequential import FORK_SHARE, OUTLIERS, Drift, Sum, check, crossed, folded
from protocol.constants import MICRO, NANO
from protocol.verdict import ReplayStats, Statistic, Thresholds, judge
from tests.stage.bounds import bounds, thresholds

BOUNDS = thresholds().model_copy(
    update={
        "mismatches": bounds(1_000, group=30 * MICRO, drift=12 * MICRO),
        "margin": bounds(100_000, group=NANO, drift=NANO),
        "gap": bounds(20_000_000, group=9 * NANO, drift=9 * NANO),
    }
)


def stats(
    *,
    tokens: int = 100,
    wrong: int = 0,
    margin: int = 0,
    gap: int = 0,
    winning: int = 0,
    losing: int = 0,
) -> ReplayStats:
    """`margin` and `gap` are means per token, in millionths of a nat; the last two are of forks."""
    return ReplayStats(
        num_tokens=tokens,
        num_matched=tokens - wrong,
        margin_nanonats=margin * tokens * 1_000,
        max_margin_nanonats=margin * 1_000,
        gap_nanonats=gap * tokens * 1_000,
        surprisal_nanonats=0,
        forks_for_micro=winning,
        forks_against_micro=losing,
    )


HONEST = stats(margin=10, gap=14_000)


def after(*groups: ReplayStats, by: Thresholds = BOUNDS) -> Drift:
    drift = Drift()
    for group in groups:
        drift = folded(drift, group, by)
    return drift


groups = st.builds(
    stats,
    tokens=st.just(100),
    wrong=st.integers(0, 100),
    margin=st.integers(0, 10**6),
    gap=st.integers(0, 10**9),
    winning=st.integers(0, 10**7),
    losing=st.integers(0, 10**7),
)


@given(st.lists(groups, max_size=40))
def test_the_sums_are_pages_recursion_in_whole_numbers(work: list[ReplayStats]) -> None:
    drift = after(*work)
    for name in Statistic:
        limits = BOUNDS.bounds(name)
        surplus = [g.total(name) - limits.reference * g.num_tokens for g in work]
        assert getattr(drift, name.value) == summed(surplus, limits.drift)
    limits = BOUNDS.mismatches
    forks = [g.forks_for_micro - g.forks_against_micro for g in work]
    allowed = [limits.reference * g.num_tokens // FORK_SHARE for g in work]
    pairs = list(zip(forks, allowed, strict=True))
    assert drift.forks_for == summed([f - a for f, a in pairs], limits.drift)
    assert drift.forks_against == summed([-f - a for f, a in pairs], limits.drift)


def summed(surplus: list[int], bound: int) -> Sum:
    """Return Page's sum over groups of 100 tokens, and how many there were since it last was zero."""
    level, count = 0, 0
    for each in surplus:
        level = max(0, level + min(each, bound // OUTLIERS))
        count = count + 1 if level else 0
    return Sum(total=level, num_groups=count, num_tokens=100 * count)


@given(st.lists(groups, max_size=20), st.integers(0, 20))
def test_a_state_that_was_written_down_goes_on_as_if_it_never_stopped(
    work: list[ReplayStats], cut: int
) -> None:
    drift = Drift.from_canonical(after(*work[:cut]).canonical())
    assert Drift.from_json(drift.to_json()) == drift
    for group in work[cut:]:
        drift = folded(drift, group, BOUNDS)
    assert drift == after(*work)


@pytest.mark.parametrize("field", ["wrong", "margin", "gap"])
def test_three_outliers_condemn_nobody_and_a_fourth_does(field: str) -> None:
    worst = {"wrong": 100, "margin": 10**6, "gap": 10**9}
    outlier = stats(**{field: worst[field]})
    assert crossed(after(*[outlier] * OUTLIERS), BOUNDS) is None
    one_more = after(*[outlier] * (OUTLIERS + 1))
    found = crossed(one_more, BOUNDS)
    assert found is not None
    assert found.name == {"wrong": "mismatches"}.get(field, field)
    assert "4 groups replayed (400 tokens)" in found.detail


def test_an_outlier_among_honest_groups_is_forgotten() -> None:
    outlier = stats(wrong=100, margin=10**6, gap=10**9)
    work = [outlier, *[HONEST] * 5_000, outlier, *[HONEST] * 200]
    assert all(crossed(after(*work[:n]), BOUNDS) is None for n in (1, 5_001, 5_002))
    assert after(*work).gap.total == 0


def test_honest_groups_cannot_be_saved_up() -> None:
    """A mean over all groups would let one faint cheat follow a thousand honest groups for free."""
    cheat = stats(margin=10, gap=30_000)
    assert after(*[HONEST] * 1_000, *[cheat] * 20).gap == after(*[cheat] * 20).gap
    assert crossed(after(*[HONEST] * 1_000, *[cheat] * 20), BOUNDS)
    mean = (1_000 * 14_000 + 20 * 30_000) / 1_020
    assert mean < BOUNDS.gap.reference  # what the average would have seen


def test_one_cheating_group_in_five_is_found_among_honest_ones() -> None:
    """Colder sampling, log-probabilities recomputed: only mismatches and margins tell."""
    cold = stats(wrong=2, margin=2_000, gap=14_000)
    assert judge(cold, BOUNDS) is None  # alone it passes: the attack, with the sequential test off
    work = [cold if i % 5 == 0 else HONEST for i in range(100)]
    first = next(n for n in range(1, 101) if crossed(after(*work[:n]), BOUNDS))
    assert first <= 60
    assert crossed(after(*[HONEST] * 100), BOUNDS) is None


def test_two_halves_weigh_what_the_whole_does() -> None:
    """Work cut into other groups is the same work: nothing is gained by short answers."""
    whole, half = stats(tokens=200, gap=30_000), stats(tokens=100, gap=30_000)
    assert after(whole).gap.total == after(half, half).gap.total > 0


def test_work_after_an_alarm_is_held_to_the_same_bounds_anew() -> None:
    """The state after an alarm is a new worker's: a repaired machine is not held to what it was."""
    cheat = stats(margin=10, gap=30_000)
    first = next(n for n in range(1, 101) if crossed(after(*[cheat] * n), BOUNDS))
    assert check([cheat] * (first - 1), BOUNDS) is None
    assert check([HONEST] * 500, BOUNDS) is None
    assert crossed(after(*[cheat] * (first - 1)), BOUNDS) is None
    assert "nats of log-probability gap" in (check([cheat] * first, BOUNDS) or "")


def test_checking_groups_says_what_one_of_them_breaks_before_what_they_break_together() -> None:
    broken = stats(wrong=40)
    assert judge(broken, BOUNDS) is not None
    found = check([HONEST, broken, *[stats(margin=10, gap=30_000)] * 100], BOUNDS)
    assert found == judge(broken, BOUNDS)[1]  # type: ignore[index]
    assert check([], BOUNDS) is None


WON, LOST = 875_000, 125_000
"""Advantages in a group of eight of which one completion is right."""


def forking(*, winning: int = 0, losing: int = 0) -> ReplayStats:
    """One mismatch among 1,000 tokens, which is as many as honest work has."""
    return stats(tokens=1_000, wrong=1, winning=winning, losing=losing)


def test_near_ties_lost_for_rewards_alarm_and_against_them_too() -> None:
    """Each mismatch alone is rounding's: only where they stand says that somebody chose."""
    for work, name in (
        ([forking(winning=WON)] * 60, "forks_for"),
        ([forking(losing=WON)] * 60, "forks_against"),
    ):
        found = crossed(after(*work), BOUNDS)
        assert found is not None
        assert found.name == name
        uncounted = [group.model_copy(update=NO_FORKS) for group in work]
        assert check(uncounted, BOUNDS) is None  # the attack, with the defence off


NO_FORKS = {"forks_for_micro": 0, "forks_against_micro": 0}


def test_near_ties_lost_by_chance_never_alarm() -> None:
    """One in eight completions is right, and a mismatch falls into any: the sum is zero on average."""
    draw = np.random.default_rng(3)
    by_chance = [
        forking(winning=WON) if falls else forking(losing=LOST)
        for falls in draw.random(5_000) < 1 / 8
    ]
    assert check(by_chance, BOUNDS) is None
    in_one_group = stats(tokens=8_000, wrong=8, winning=WON, losing=7 * LOST)
    assert check([in_one_group] * 1_000, BOUNDS) is None


def test_alarms_on_fresh_honest_groups_are_as_rare_as_stated() -> None:
    """Set for one alarm in a hundred groups, so that it can be counted: over 20,000 fresh ones."""
    draw = np.random.default_rng(5)
    measured = draw.normal(14_000, 3_500, size=20_000).clip(0)
    bound = round(drift_bound((measured - 14_700) * 1_000 * 100, 0.01))
    tuned = BOUNDS.model_copy(update={"gap": bounds(14_700_000, group=1 << 60, drift=bound)})
    drift, alarms = Drift(), 0
    for gap in draw.normal(14_000, 3_500, size=20_000).clip(0):
        drift = folded(drift, stats(gap=int(gap)), tuned)
        if crossed(drift, tuned):
            alarms, drift = alarms + 1, Drift()
    assert 120 <= alarms <= 280


@pytest.mark.parametrize("num_asked", [1, 2, 3])
def test_verifiers_that_saw_different_groups_agree_on_a_cheat(num_asked: int) -> None:
    """Each group is replayed by some of three verifiers; their sums differ, and all come to alarm."""
    draw = np.random.default_rng(num_asked)
    tests = [Drift(), Drift(), Drift()]
    first = [0, 0, 0]
    for count in range(1, 201):
        group = stats(margin=10, gap=int(draw.normal(24_000, 3_500)))
        for verifier in draw.choice(3, size=num_asked, replace=False):
            tests[verifier] = folded(tests[verifier], group, BOUNDS)
            if crossed(tests[verifier], BOUNDS):
                first[verifier] = first[verifier] or count
                tests[verifier] = Drift()
    assert all(0 < count <= 150 for count in first)
    if num_asked < 3:
        assert len(set(first)) > 1  # they do not cross at the same group
