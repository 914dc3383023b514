"""Group advantages against the formula written out, and the exact test for signal."""

import math
import statistics

import numpy as np
import pytest

from protocol.advantage import group_advantages, has_signal


def test_advantages_are_rewards_less_their_mean_in_units_of_a_full_reward() -> None:
    assert group_advantages([10_000, 0, 0, 0]).tolist() == [0.75, -0.25, -0.25, -0.25]


def test_deviation_is_the_sample_one() -> None:
    rewards = [10_000, 5_000, 0]
    found = group_advantages(rewards, divide_by_deviation=True)
    deviation = statistics.stdev(r / 10_000 for r in rewards)
    assert found[0] == pytest.approx(0.5 / (deviation + 1e-4), rel=1e-6)


@pytest.mark.parametrize("rewards", [[0, 0, 0], [10_000] * 8, [7]])
def test_equal_rewards_have_no_signal_and_no_advantage(rewards: list[int]) -> None:
    assert not has_signal(rewards)
    assert not group_advantages(rewards).any()


def test_one_ten_thousandth_is_signal() -> None:
    assert has_signal([5_000, 5_001])


def test_advantages_of_a_group_sum_to_nothing() -> None:
    rewards = np.random.default_rng(0).integers(0, 10_001, size=64).tolist()
    assert math.isclose(float(group_advantages(rewards).sum()), 0.0, abs_tol=1e-5)
