"""Say that something fails: at once, then rarely, and once that it is well again."""

import threading
import time
from collections.abc import Callable

import structlog

AGAIN_SECONDS = 60.0
"""Between two lines about one thing that goes on failing."""


class Voice:
    """One thing that may fail for a while, such as an orchestrator at its address; threads may share it.

    Example:
        voice = Voice("orchestrator", at="http://market:8100")
        voice.failed("connection refused")  # orchestrator does not answer: trying again  at=… reason=…
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
        self._again, self._clock = again, clock
        self._since: float | None = None
        self._told_at: float | None = None
        self._lock = threading.Lock()

    def failed(self, reason: object, *, patience: float = 0.0) -> None:
        """Say that it fails, once it has for `patience` seconds."""
        with self._lock:
            now = self._clock()
            self._since = now if self._since is None else self._since
            is_due = self._told_at is None or now - self._told_at >= self._again
            if not is_due or now - self._since < patience:
                return
            self._told_at = now
        structlog.get_logger().warning(
            f"{self._what} does not answer: trying again", **self._facts, reason=str(reason)
        )

    def well(self) -> None:
        """Say that it is well, if it was said to fail."""
        if self._since is None:
            return
        with self._lock:
            since, told_at = self._since, self._told_at
            self._since = self._told_at = None
        if since is not None and told_at is not None:
            seconds = f"{self._clock() - since:.0f} s"
            structlog.get_logger().info(f"{self._what} answers again", **self._facts, after=seconds)
