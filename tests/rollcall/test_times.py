"""Durations and moments as people read them."""

import pytest

from rollcall.cli.times import duration, moment


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3_661, "1 h 1 min"),
        (86_405, "1 day"),
        (93_784, "1 day 2 h"),
        (30 * 86_400, "30 days"),
    ],
)
def test_a_duration_is_shown_in_its_two_largest_units(seconds: int, shown: str) -> None:
    assert duration(seconds) == shown


def test_a_moment_is_a_date_and_a_distance() -> None:
    at = 1_800_000_000
    assert moment(at, at - 7_200) == "2027-01-15 08:00:00 UTC, in 2 h"
    assert moment(at, at + 60) == "2027-01-15 08:00:00 UTC, 1 min ago"
    assert moment(at, at) == "2027-01-15 08:00:00 UTC, now"
    assert moment((1 << 64) - 1, at) == "never"
