"""The test of withholding against exact counts, honest crashes, poor and good groups kept back, and framing."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from protocol.checks.withholding import (
    NUM_GROUPS_PER_LOOK,
    Case,
    Stratum,
    Tally,
    evidence_of,
    is_withholding,
)
from protocol.environments.base import FULL_SCORE

GROUP_SIZE = 8
Rewards = NDArray[np.int64]


def tally(num_leased: int, rewards: Rewards) -> Tally:
    return Tally(
        num_leased=num_leased,
        num_finished=len(rewards),
        reward_sum=int(rewards.sum()),
        reward_squares=int((rewards * rewards).sum()),
    )


def drawn(chance: np.random.Generator, count: int) -> Rewards:
    """Return mean rewards of groups of 8 whose rollouts are right half of the time."""
    return chance.binomial(GROUP_SIZE, 0.5, count) * FULL_SCORE // GROUP_SIZE


def without_lowest(rewards: Rewards, count: int) -> Rewards:
    return np.sort(rewards)[count:]


def case(strata: list[Stratum], *, alarms_per_million: int = 1) -> Case:
    finished = sum(stratum.own.num_finished for stratum in strata)
    return Case(
        run_id=1,
        worker="0x" + 40 * "1",
        look=max(1, finished // NUM_GROUPS_PER_LOOK),
        alarms_per_million=alarms_per_million,
        strata=tuple(strata),
    )


def market(
    chance: np.random.Generator,
    *,
    num_versions: int,
    withheld: int = 0,
    crashed: int = 0,
    best: bool = False,
) -> list[Stratum]:
    """Return versions in which the worker leases 10 groups and others 22."""
    strata = []
    for version in range(num_versions):
        own = drawn(chance, 10)
        kept = -without_lowest(-own, withheld) if best else without_lowest(own, withheld)
        kept = chance.permutation(kept)[crashed:]
        strata.append(
            Stratum(version=version, own=tally(10, kept), others=tally(22, drawn(chance, 22)))
        )
    return strata


@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=9),
    st.integers(1, 4),
)
def test_the_bound_is_never_below_the_exact_probability(quarters: list[int], num_own: int) -> None:
    """Against every way to choose the worker's part of a pool, counted one by one."""
    pool = np.array(quarters) * FULL_SCORE // 4
    num_own = min(num_own, len(pool) - 1)
    sums = [int(pool[list(chosen)].sum()) for chosen in combinations(range(len(pool)), num_own)]
    own, others = pool[:num_own], pool[num_own:]
    strata = [Stratum(version=0, own=tally(num_own + 1, own), others=tally(len(others), others))]
    found = evidence_of(strata)
    reached = int(own.sum())
    good = sum(total >= reached for total in sums) / len(sums)
    poor = sum(total <= reached for total in sums) / len(sums)
    assert math.exp(found.log_probability) >= min(good, poor) - 1e-9


@pytest.mark.parametrize("best", [False, True])
def test_keeping_three_of_ten_back_is_found_within_eight_hundred_groups(best: bool) -> None:
    chance = np.random.default_rng(1)
    strata = market(chance, num_versions=110, withheld=3, best=best)
    found = is_withholding(case(strata))
    assert found is not None
    assert (found.num_finished, found.num_missing) == (770, 330)
    assert (found.excess < 0) is best
    assert is_withholding(case(strata, alarms_per_million=0)) is None


def test_crashes_are_not_withholding_however_many() -> None:
    chance = np.random.default_rng(2)
    for crashed in (1, 3, 6):
        assert is_withholding(case(market(chance, num_versions=200, crashed=crashed))) is None


def test_false_alarms_stay_within_the_stated_rate() -> None:
    """2,000 honest workers at one look each with a tenth, a hundredth and a thousandth to spend."""
    chance = np.random.default_rng(3)
    found = [
        evidence_of(market(chance, num_versions=12, crashed=2)).log_probability
        for _ in range(2_000)
    ]
    for rate in (0.1, 0.01, 0.001):
        assert sum(value < math.log(rate / 2) for value in found) <= rate * 2_000


def test_all_looks_together_spend_no_more_than_the_rate() -> None:
    assert sum(1 / (look * (look + 1)) for look in range(1, 10_000)) < 1


def framed(chance: np.random.Generator, *, are_missing_counted: bool) -> list[Stratum]:
    """Others keep half of their groups back, the good ones, so that an honest crasher looks too good."""
    strata = []
    for version in range(60):
        own, others = drawn(chance, 10), drawn(chance, 22)
        poor = np.sort(others)[:11]
        num_leased = 22 if are_missing_counted else 11
        strata.append(
            Stratum(version=version, own=tally(10, own[2:]), others=tally(num_leased, poor))
        )
    return strata


def test_others_cannot_make_an_honest_worker_look_too_good() -> None:
    chance = np.random.default_rng(4)
    unguarded = is_withholding(case(framed(chance, are_missing_counted=False)))
    assert unguarded is not None, "the attack works where missing groups are just left out"
    assert unguarded.excess > 0
    assert is_withholding(case(framed(chance, are_missing_counted=True))) is None


def test_versions_in_which_nothing_is_missing_tell_nothing() -> None:
    chance = np.random.default_rng(5)
    strata = market(chance, num_versions=20)
    assert evidence_of(strata).num_finished == 0
    assert evidence_of(strata).log_probability == 0
    assert evidence_of([]).log_probability == 0
