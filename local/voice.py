"""What a program that runs for days says of itself: what fails, how far it is, and that it is ending."""

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import structlog

from local.threads import beside
from protocol.user_error import one_line

AGAIN_SECONDS = 60.0
"""Between two lines about one thing that goes on failing."""
TELL_SECONDS = 30.0
"""Between two lines about work that goes on."""
KILLED = 128
"""A shell's exit code of a process that a signal ended, less the signal's number."""


class Rarely:
    """When something that lasts, or comes and goes, is told: at once, then rarely; threads may share it.

    Example:
        outage = Rarely()
        outage.due("refused")  # 0.0: tell it, it has just begun
        outage.due("refused")  # None: it is told
        outage.over()          # 12.5: tell that it is over after so many seconds
    """

    def __init__(
        self, *, again: float = AGAIN_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._again, self._clock = again, clock
        self._since: float | None = None
        self._is_told = False
        self._told_at: dict[str, float] = {}
        self._lock = threading.Lock()

    @property
    def lasts(self) -> bool:
        return self._since is not None

    def due(self, what: str = "", *, patience: float = 0.0) -> float | None:
        """Return for how many seconds it has lasted where that is to be told, None where not.

        Each `what` is told by itself; nothing is, before it has lasted for `patience` seconds.
        """
        with self._lock:
            now = self._clock()
            self._since = now if self._since is None else self._since
            is_early = now - self._told_at.get(what, -math.inf) < self._again
            if is_early or now - self._since < patience:
                return None
            self._told_at[what], self._is_told = now, True
            return now - self._since

    def over(self) -> float | None:
        """End it; return for how many seconds it lasted where it was told, None where not."""
        if self._since is None:
            return None  # what is well most of the time takes no lock
        with self._lock:
            since, is_told = self._since, self._is_told
            self._since, self._is_told = None, False
            return self._clock() - since if is_told and since is not None else None


class Voice:
    """One thing that may fail for a while, such as an orchestrator at its address.

    Example:
        voice = Voice("orchestrator", at="http://market:8100")
        voice.failed(error)  # orchestrator does not answer: trying again  at=… reason=…
        voice.well()                        # orchestrator answers again  at=… after="12 s"
    """

    def __init__(
        self,
        what: str,
        *,
        again: float = AGAIN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        **facts: object,
    ) -> None:
        self._what, self._facts = what, facts
        self._rarely = Rarely(again=again, clock=clock)

    def failed(
        self, reason: Exception, *, how: str = "does not answer", patience: float = 0.0
    ) -> None:
        """Say that it fails, and how, once it has for `patience` seconds."""
        if self._rarely.due(patience=patience) is not None:
            event = f"{self._what} {how}: trying again"
            structlog.get_logger().warning(event, **self._facts, reason=one_line(reason))

    @contextmanager
    def hears(self, *errors: type[Exception]) -> Iterator[None]:
        """Say what happens of one attempt; its errors go on."""
        try:
            yield
        except errors as error:
            self.failed(error)
            raise
        self.well()

    def well(self) -> None:
        """Say that it is well, if it was said to fail."""
        if (seconds := self._rarely.over()) is not None:
            event = f"{self._what} answers again"
            structlog.get_logger().info(event, **self._facts, after=f"{seconds:.0f} s")


@contextmanager
def telling(
    event: str, facts: Callable[[], Mapping[str, object]], *, seconds: float = TELL_SECONDS
) -> Iterator[None]:
    """Say how far the work within is, every so often and from a thread of its own, and once more at its end."""
    over = threading.Event()
    log = structlog.get_logger()

    def go_on() -> None:
        while not over.wait(seconds):
            log.info(event, **facts())

    try:
        with beside(over, go_on):
            yield
    finally:
        log.info(f"{event}, in all", **facts())


def stop_on_signals(stop: threading.Event, says: str) -> None:
    """Have SIGINT and SIGTERM set an event, and say so; a second one ends the process at once.

    Before there is anything to finish they end a process by themselves: whoever opens may wait for a peer.
    """

    def asked(number: int, _frame: object) -> None:
        if stop.is_set():
            os._exit(KILLED + number)
        stop.set()
        # In a thread: the interrupted line may be one that holds the log's lock.
        told = f"stopping: {says}; again to stop at once"
        threading.Thread(target=structlog.get_logger().info, args=(told,)).start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, asked)
