"""What is told of a peer that does not serve: its cause at once, then rarely, and when it is back.

A client is told to send again; the operator's own log has the cause and the remedy, and no line for each request.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import structlog
from redis.exceptions import AuthenticationError, InvalidResponse
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from local.voice import Rarely
from orchestrator.config import PASSWORD_VARIABLE
from protocol.errors import Busy

LOOK_SECONDS = 1.0
"""How often it is tried whether a peer serves again, where requests come all the time."""


class Away(Busy):
    """A peer of this process does not serve, as its log has said; on the wire it is `Busy`."""

    def copy(self) -> "Away":
        return Away(self.message, retry_after_seconds=self.retry_after_seconds)


Away.code = Busy.code


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why Redis does not serve, in words that a stranger may read, and what its operator does."""

    words: str
    remedy: str
    passes: bool = True
    """Whether it may end by itself; what does not must be mended before a market opens."""


OTHER_REDIS = "name a Redis, or the primary of several, that is not in cluster mode"
BY_TEXT = {
    # ------------------------------------------------------------ of its state
    "OutOfMemoryError|OOM command|used memory > 'maxmemory'": Trouble(
        "its memory is full", "raise its maxmemory, or take out what else it holds"
    ),
    "ReadOnlyError|READONLY": Trouble("it is a read-only replica", "name the primary in redis_url"),
    "MISCONF": Trouble("it cannot save to its disk", "make room on its disk, and read its log"),
    "BusyLoadingError": Trouble("it is loading its data", "it passes by itself"),
    "BUSY Redis is busy|busy running a script": Trouble(
        "another program's script holds it", "end that script: redis-cli SCRIPT KILL"
    ),
    "MasterDownError|MASTERDOWN": Trouble(
        "it is a replica that lost its primary", "name the primary in redis_url"
    ),
    "NOREPLICAS": Trouble("too few of its replicas are there", "start them again"),
    "max number of clients": Trouble("it takes no more connections", "raise its maxclients"),
    # ------------------------------------------------------------ of its kind
    "ClusterDown|ClusterCrossSlot|MovedError|AskError|TryAgainError|in cluster mode": Trouble(
        "it is a cluster", OTHER_REDIS, passes=False
    ),
    "DB index|invalid DB": Trouble(
        "it has no database of that number", "end redis_url with /0", passes=False
    ),
    "NoPermissionError|NOPERM|can't run this command|can't access at least": Trouble(
        "its user may not use what a market needs", "grant it: +@all ~rollcall:*", passes=False
    ),
    # ------------------------------------------------------------ of the way to it
    "CERTIFICATE_VERIFY_FAILED": Trouble(
        "its certificate is not trusted here",
        "name its authority: redis_url = rediss://…?ssl_ca_certs=/path/ca.pem",
        passes=False,
    ),
    "WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|record layer failure": Trouble(
        "it speaks no TLS on this port", "write redis:// instead of rediss://", passes=False
    ),
    "Connection closed by server|Connection reset by peer": Trouble(
        "it closes the connection", "where it speaks TLS on this port, write rediss://"
    ),
    "Name or service not known|name resolution|nodename nor servname|No address associated": Trouble(
        "its host is not found", "look at the host in redis_url"
    ),
    "'idna' codec": Trouble("its host is no name", "look at the host in redis_url", passes=False),
}
BY_CLASS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Trouble], ...] = (
    (
        InvalidResponse,
        Trouble("what answers is no Redis", "look at host and port in redis_url", passes=False),
    ),
    (
        (RedisTimeoutError, TimeoutError),
        Trouble(
            "it does not answer in time",
            "look at its load, the network between, and whether rediss:// should be redis://",
        ),
    ),
    (
        (RedisConnectionError, OSError, UnicodeError),
        Trouble("it cannot be reached", "start it, or look at redis_url"),
    ),
)


def trouble_of(error: Exception) -> Trouble | None:
    """Return why Redis does not serve; None for an error that a defect here makes."""
    causes = list(_causes(error))
    # The client library keeps an answer's code in its class alone, and TLS's words in a cause.
    text = " ".join(f"{type(cause).__name__} {cause}" for cause in causes)
    if any(isinstance(cause, AuthenticationError) for cause in causes):
        return _entry(text)
    for parts, trouble in BY_TEXT.items():
        if any(part in text for part in parts.split("|")):
            return trouble
    return next((trouble for kind, trouble in BY_CLASS if isinstance(error, kind)), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _entry(text: str) -> Trouble:
    if "without any password" in text or "no password is set" in text:
        return Trouble("it has no password", f"unset {PASSWORD_VARIABLE}, or set one", passes=False)
    if "Authentication required" in text or "already authenticated" in text:
        return Trouble("it asks for a password", f"set {PASSWORD_VARIABLE} to it", passes=False)
    return Trouble(
        "it refuses this user or password",
        f"set {PASSWORD_VARIABLE} to its `requirepass`, or name the user: redis://user@host",
        passes=False,
    )


class Outage:
    """The state of one peer, and what the log was told of it.

    Example: raise outage.refusal("it cannot be reached", "start it", detail="Connection refused")
    """

    def __init__(
        self, peer: str, place: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._peer, self._place, self._clock = peer, place, clock
        self._rarely = Rarely(clock=clock)
        self._look_at = 0.0

    def refusal(self, words: str, remedy: str, *, detail: str = "") -> Away:
        """Tell the log, where that is due, and return what a client is told."""
        if (seconds := self._rarely.due(words)) is not None:
            lasting = {"for_seconds": round(seconds)} if round(seconds) else {}
            structlog.get_logger().error(
                f"{self._peer} does not serve: trying again",
                **{"place": self._place, "reason": words, "detail": detail[:512], "remedy": remedy},
                **lasting,
            )
        return Away(
            f"the orchestrator's {self._peer} does not serve ({words}); send the same again",
            retry_after_seconds=1.0,
        )

    def may_be_over(self) -> bool:
        """Return whether an outage is on that should be looked at now."""
        now = self._clock()
        if not self._rarely.lasts or now < self._look_at:
            return False
        self._look_at = now + LOOK_SECONDS
        return True

    def over(self) -> None:
        """Tell the log that the peer serves again, where it did not."""
        if (seconds := self._rarely.over()) is not None:
            log = structlog.get_logger()
            log.warning(f"{self._peer} answers again after {seconds:.0f} s", place=self._place)
