"""The orchestrator's time as a worker learns it: a wrong clock is put right and said, a good one left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from client.clock import STALE_SECONDS, WARN_SECONDS, MarketClock
from protocol.constants import MAX_CLOCK_SKEW_SECONDS

TRUE = 1_800_000_000.25


def date(now: float) -> str:
    """Return what a server writes: whole seconds."""
    from email.utils import formatdate

    return formatdate(int(now), usegmt=True)


def ask(clock: MarketClock, machine: list[float], *, off_by: float, latency: float = 0.1) -> None:
    """Have the machine's clock, that is off by so much, see one answer that takes `latency` either way."""
    asked_at = machine[0]
    stated = date(asked_at - off_by + latency)
    machine[0] += 2 * latency
    clock.learn(stated, asked_at=asked_at)


@pytest.mark.parametrize("off_by", [-119.0, -90.0, -10.0, 10.0, 90.0, 119.0])
def test_a_wrong_clock_is_put_right_by_one_answer_and_said_once(off_by: float) -> None:
    machine = [TRUE + off_by]
    clock = MarketClock(lambda: machine[0])
    with capture_logs() as said:
        for _ in range(3):
            ask(clock, machine, off_by=off_by)
            assert abs(clock.now() - (machine[0] - off_by)) <= STALE_SECONDS
    [warning] = said
    assert warning["event"] == "this machine's clock is wrong"
    assert float(warning["off_by"].split()[0]) == pytest.approx(off_by, abs=STALE_SECONDS)
    assert "timedatectl" in warning["remedy"]


@given(
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(0, 30), st.floats(0, 1)), min_size=1, max_size=8),
)
def test_a_good_clock_is_left_alone_by_answers_of_any_latency(
    start: float, answers: list[tuple[float, float]]
) -> None:
    machine = [TRUE + start]
    clock = MarketClock(lambda: machine[0])
    for latency, pause in answers:
        ask(clock, machine, off_by=0, latency=latency)
        assert clock.now() == machine[0]
        machine[0] += pause


def test_a_clock_that_is_set_right_is_believed_again() -> None:
    machine = [TRUE + 90]
    clock = MarketClock(lambda: machine[0])
    ask(clock, machine, off_by=90)
    machine[0] -= 90
    ask(clock, machine, off_by=0)
    assert abs(clock.now() - machine[0]) <= STALE_SECONDS < WARN_SECONDS


@pytest.mark.parametrize("off_by", [-3600.0, 3600.0])
def test_no_orchestrator_dates_work_by_more_than_signed_times_may_differ(off_by: float) -> None:
    machine = [TRUE]
    clock = MarketClock(lambda: machine[0])
    with capture_logs() as said:
        ask(clock, machine, off_by=off_by)
    assert abs(clock.now() - machine[0]) == MAX_CLOCK_SKEW_SECONDS
    assert said[0]["corrected"] is False


@pytest.mark.parametrize(
    "stated",
    [None, "", "now", "Mon, 00 Xxx 0000 00:00:00 GMT", "1", "Fri, 31 Dec 9999 23:59:59 -9999",
     "Mon, 01 Jan 0001 00:00:00 +2359", "Thu, 01 Jan 1970 00:00:00 -0000 " * 99, ",", "\x00"],
)  # fmt: skip
def test_what_is_no_date_is_passed_over(stated: str | None) -> None:
    machine = [TRUE]
    clock = MarketClock(lambda: machine[0])
    clock.learn(stated, asked_at=TRUE)
    assert abs(clock.now() - TRUE) <= MAX_CLOCK_SKEW_SECONDS
