"""The runs and files that an orchestrator publishes, for watchers from outside.

A watcher exists for the orchestrator's silence: a file that it does not give counts as not come.
"""

import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TypeVar

import structlog

from audit.history import Posted
from client.public import Reader
from local.voice import Voice
from protocol.canonical import keccak256
from protocol.epoch import blob_of
from protocol.errors import MarketError, NotFound
from protocol.user_error import UserError
from protocol.verdict import Verdict

Answer = TypeVar("Answer")

LOOK_SECONDS = 30.0
"""How often the orchestrator is asked for new runs."""


class Served:
    """The runs to watch: the named ones, else every run that the orchestrator was seen to serve.

    A ledger has others' runs too, whose files are elsewhere: missing them here says nothing. A run that
    was served once is watched from then on, whatever its orchestrator says later.
    """

    def __init__(
        self, reader: Reader, *, named: Collection[int], must_answer: bool = False
    ) -> None:
        """Look at the orchestrator; one that does not answer is told, and raised if it must or no run is named."""
        self._reader = reader
        self._is_named = bool(named)
        self._looked_at = time.monotonic()
        self._voice = Voice("orchestrator", at=reader.url)
        self.seen = set(named)
        try:
            served = {info.run_id for info in reader.runs()}
        except (MarketError, UserError) as error:
            if must_answer or not named:
                raise
            self._voice.failed(error)
            return
        if not self._is_named:
            self.seen |= served

    def look(self) -> None:
        """Add newly served runs, from time to time."""
        if self._is_named or time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        try:
            self.seen |= {info.run_id for info in self._reader.runs()}
            self._voice.well()
        except (MarketError, UserError) as error:
            self._voice.failed(error)


def fetch(reader: Reader, posted: Posted) -> bytes | None:
    """Return a posting's file from the orchestrator, or None if it gives none.

    The URI is unsigned: whoever posts first may write any. So the orchestrator's own record of the
    epoch is asked first, and bytes from any source count if they hash to what was signed.
    """
    for digest in (_recorded(reader, posted), blob_of(posted.uri)):
        data = None if digest is None else _asked(posted, partial(reader.blob, digest))
        if data is not None and keccak256(data) == posted.data_hash:
            return data
    return None


def verdicts(reader: Reader, run_id: int, work_digest: bytes) -> Sequence[Verdict]:
    """Return the verdicts on a group that the orchestrator shows, none where it shows none."""
    try:
        return reader.submission(run_id, work_digest).verdicts
    except NotFound:
        return ()
    except (MarketError, UserError) as error:
        structlog.get_logger().warning("verdicts not fetched", run_id=run_id, error=str(error))
        return ()


def _recorded(reader: Reader, posted: Posted) -> bytes | None:
    info = _asked(posted, lambda: reader.epoch(posted.run_id, posted.epoch))
    return info.file if info is not None and any(info.file) else None


def _asked(posted: Posted, question: Callable[[], Answer]) -> Answer | None:
    try:
        return question()
    except NotFound:
        return None
    except (MarketError, UserError) as error:
        structlog.get_logger().warning("file not fetched", epoch=posted.epoch, error=str(error))
        return None
