"""When a request is made again, and for how long: doubling waits, capped and jittered, and who gives up."""

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from local.settings import Settings
from protocol.user_error import UserError

Seconds = Annotated[float, Field(gt=0, le=366 * 86_400)]
"""A wait, at most a year: no clock waits for numbers without an end."""
MOST_LATER_SECONDS = 3_600.0
"""The longest wait that a server can impose, whatever it says."""
GiveUp = Callable[[], bool]
"""Asked while the orchestrator is out of reach: True ends the retries with `Unreachable`."""


class RetryConfig(Settings):
    """Back-off while the orchestrator cannot be reached or is busy."""

    first_seconds: Seconds = 0.1
    """Delay after the first failure; doubles with each further one, with jitter."""
    most_seconds: Seconds = 5.0
    """The longest delay."""
    timeout_seconds: Seconds = 20.0
    """Silence on one connection after which it counts as lost."""


class Backoff:
    """The delays of one retried request: doubling, capped, each drawn from its upper half.

    Jitter keeps a thousand workers from returning in the same instant after a restart.
    """

    def __init__(self, config: RetryConfig, draw: random.Random) -> None:
        self._config = config
        self._draw = draw

    def delays(self) -> Iterator[float]:
        """Yield an endless series of delays."""
        ceiling = self._config.first_seconds
        while True:
            yield ceiling * self._draw.uniform(0.5, 1.0)
            ceiling = min(2 * ceiling, self._config.most_seconds)


class Unreachable(UserError):
    """The orchestrator did not answer, or not before the caller gave up."""


class Lost(Unreachable):
    """One failed attempt; `has_begun` says whether an answer broke off."""

    def __init__(self, message: str, *, has_begun: bool) -> None:
        super().__init__(message)
        self.has_begun = has_begun


@dataclass(frozen=True, slots=True)
class Patience:
    """For how long a request is repeated, counted from its first failure."""

    silent_seconds: float = math.inf
    """While nobody answers."""
    faltering_seconds: float = math.inf
    """While the orchestrator is busy, or its answers break off."""


ENDLESS = Patience()


def never() -> bool:
    """Keep trying for as long as it takes."""
    return False


def bounded(seconds: float) -> float:
    """Return a server's requested wait, bounded; 0 if it is not a number."""
    return max(0.0, min(seconds, MOST_LATER_SECONDS))


def seconds_of(text: str | None) -> float | None:
    try:
        return None if text is None else bounded(float(text))
    except ValueError:
        return None  # an HTTP date: the back-off's own delay serves


def pause(seconds: float, give_up: GiveUp, error: Exception) -> None:
    """Sleep in short slices, so that giving up is noticed."""
    until = time.monotonic() + seconds
    while True:
        if give_up():
            raise Unreachable(f"gave up waiting for the orchestrator: {error}") from error
        left = until - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, 0.2))
