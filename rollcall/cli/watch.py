"""`rollcall watch`: a watcher of its own, for anyone: files over HTTP, its state in a folder."""

import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TypeVar

import structlog
from eth_account import Account
from rich.console import Console

from audit.history import Posted
from audit.record import BLOB_URI
from audit.watcher import Policy, Watcher
from client.public import Reader
from ledger.errors import ChainUnreachable, LedgerError
from protocol.canonical import keccak256
from protocol.errors import MarketError, NotFound
from protocol.user_error import UserError
from rollcall.cli.desk import connect, read_deployment
from rollcall.frame.logs import configure_logging

Answer = TypeVar("Answer")

LOOK_SECONDS = 30.0
"""How often the orchestrator is asked for new runs."""


def watch_market(
    url: str,
    *,
    rpc: str,
    deployment: Path,
    folder: Path,
    console: Console,
    key: bytes | None,
    run_ids: tuple[int, ...] = (),
    demands: bool = False,
    escalates: bool = False,
    answers: bool = True,
    poll_seconds: float = 2.0,
    once: bool = False,
) -> None:
    """Watch until SIGINT or SIGTERM. Without a key everything is told and nothing is sent."""
    configure_logging("watcher")
    account = None if key is None else Account.from_key(key)
    ledger = connect(rpc, read_deployment(deployment), account)
    missing = [run for run in run_ids if not 1 <= run <= ledger.num_runs()]
    if missing:
        raise UserError(f"there is no run {missing[0]} on the ledger in {deployment}")
    reader = Reader(url)
    runs = Served(reader, named=run_ids)
    policy = Policy(
        sends=key is not None,
        demands=demands,
        escalates=escalates,
        answers=answers,
        run_ids=runs.seen,
    )
    try:
        watcher = Watcher(
            ledger,
            folder,
            address=account.address if account else None,
            files=lambda posted: fetch(reader, posted),
            policy=policy,
        )
    except LedgerError as error:
        raise UserError(str(error)) from error
    who = f"as {account.address}" if account else "and sending nothing"
    listed = ", ".join(map(str, sorted(runs.seen))) or "none yet"
    console.print(f"watching the runs that {url} serves ({listed}), {who}")
    with reader, stopped_by_signals() as stop:
        while not stop.is_set():
            runs.look()
            step(watcher)
            if once:
                return
            stop.wait(poll_seconds)


class Served:
    """The runs to watch: those that were named, else every one that the orchestrator ever served.

    A ledger has others' runs too, whose files are elsewhere: not finding them here says nothing. One
    that was served is watched from then on, whatever its orchestrator says later.
    """

    def __init__(self, reader: Reader, *, named: Collection[int]) -> None:
        self._reader = reader
        self._is_named = bool(named)
        self._looked_at = time.monotonic()
        self.seen = set(named)
        if not self._is_named:
            self.seen |= {info.run_id for info in reader.runs()}

    def look(self) -> None:
        """Add what is served newly, from time to time."""
        if self._is_named or time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        try:
            self.seen |= {info.run_id for info in self._reader.runs()}
        except (MarketError, UserError) as error:
            structlog.get_logger().warning("runs not listed", error=str(error))


def step(watcher: Watcher) -> None:
    """One round; what keeps the chain or the files away costs that round only."""
    log = structlog.get_logger()
    try:
        watcher.step()
    except ChainUnreachable as error:
        log.warning("chain does not answer", error=str(error))
    except LedgerError as error:
        log.error("round ended early", error=str(error))


def fetch(reader: Reader, posted: Posted) -> bytes | None:
    """Return a posting's file from the orchestrator, or None where it gives none.

    The URI is unsigned: whoever posts first may write any. So the orchestrator's own record of the
    epoch is asked first, and the bytes that hash to what was signed count, wherever they are from.
    """
    for digest in (_recorded(reader, posted), _named(posted)):
        data = None if digest is None else _asked(posted, partial(reader.blob, digest))
        if data is not None and keccak256(data) == posted.data_hash:
            return data
    return None


def _recorded(reader: Reader, posted: Posted) -> bytes | None:
    info = _asked(posted, lambda: reader.epoch(posted.run_id, posted.epoch))
    return info.file if info is not None and any(info.file) else None


def _named(posted: Posted) -> bytes | None:
    try:
        return bytes.fromhex(posted.uri.removeprefix(BLOB_URI))
    except ValueError:
        return None


def _asked(posted: Posted, question: Callable[[], Answer]) -> Answer | None:
    try:
        return question()
    except NotFound:
        return None
    except (MarketError, UserError) as error:
        # Silence of the publisher is what a watcher is for: it counts as a file that has not come.
        structlog.get_logger().warning("file not fetched", epoch=posted.epoch, error=str(error))
        return None


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set, and put their handlers back."""
    stop = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
