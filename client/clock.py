"""What time it is for the orchestrator, from the Date of its answers: deadlines are dated by its clock.

A worker whose own clock was 90 seconds fast took every lease for late and dropped it. Each answer bounds how far the
two clocks are apart: its Date has whole seconds, may be one old, and was written between request and answer. The
offset moves only as far as an answer asks, so that a good clock is left alone.

No orchestrator dates a worker's work at will: what differs by more than signed times may is not believed. A clock
that is off by more is refused at sign-in, and told so.
"""

import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

import structlog

from protocol.constants import MAX_CLOCK_SKEW_SECONDS

STALE_SECONDS = 2.0
"""How old a Date may be when it is sent: whole seconds, renewed once in a second."""
WARN_SECONDS = 5.0
"""From here on a clock is wrong, and not merely a long way off."""


def machine_time() -> float:
    """Return this machine's time, as it is set when asked."""
    return time.time()


class MarketClock:
    """This machine's clock, corrected by an orchestrator's answers; threads may share it."""

    def __init__(self, clock: Callable[[], float] = machine_time, *, warns: bool = True) -> None:
        self._clock = clock
        self._warns = warns
        self._offset = 0.0
        self._is_told = False
        self._lock = threading.Lock()

    def now(self) -> float:
        """Return the orchestrator's time, as far as it is known and believed."""
        return self._clock() + self.offset()

    def offset(self) -> float:
        """Return the seconds that are added to this machine's time."""
        most = float(MAX_CLOCK_SKEW_SECONDS)
        return max(-most, min(most, self._offset))

    def local(self) -> float:
        return self._clock()

    def learn(self, date: str | None, *, asked_at: float) -> None:
        """Take in an answer's Date; `asked_at` is when it was asked for, by this machine's clock."""
        try:
            stated = parsedate_to_datetime(date or "").timestamp()
        except (ValueError, TypeError, IndexError, OverflowError, OSError):
            return  # no date, or one that no clock can show
        with self._lock:
            least, most = stated - self._clock(), stated + STALE_SECONDS - asked_at
            self._offset = max(least, min(most, self._offset))
            is_wrong = abs(self._offset) >= WARN_SECONDS
            is_news, self._is_told = is_wrong and not self._is_told, is_wrong
        if is_news and self._warns:
            structlog.get_logger().warning(
                "this machine's clock is wrong",
                off_by=f"{-self._offset:+.0f} s from the orchestrator's",
                corrected=abs(self._offset) <= MAX_CLOCK_SKEW_SECONDS,
                remedy="set it: timedatectl set-ntp true",
            )
