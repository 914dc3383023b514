"""`rollcall watch`: anyone's own watcher, with files over HTTP and its state in a folder."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from protocol.user_error import UserError, hosts_only
from rollcall.cli.audit import OrchestratorUrl
from rollcall.cli.desk import connect, read_deployment
from rollcall.cli.options import (
    DEPLOYMENT,
    TRUST,
    DeploymentFile,
    DryRun,
    Rpc,
    example,
    require_rpc,
)
from rollcall.frame.console import open_console
from rollcall.frame.folder import hold_folder
from rollcall.frame.logs import configure_logging

if TYPE_CHECKING:
    from audit.watcher import Watcher
    from client.voice import Voice

commands = typer.Typer()


@commands.command(
    "watch",
    rich_help_panel=TRUST,
    epilog=example("rollcall watch http://market:8100 --rpc http://node:8545 --dry-run --once"),
)
def watch(
    url: OrchestratorUrl,
    state: Annotated[Path, typer.Option(help="Folder for the cursor and the files seen.")] = Path(
        "watch"
    ),
    run: Annotated[list[int] | None, typer.Option(help="Only these runs; may be repeated.")] = None,
    demand: Annotated[
        bool,
        typer.Option("--demand", help="Ask for leaves under a bond if no proof can be made yet."),
    ] = False,
    escalate: Annotated[
        bool,
        typer.Option("--escalate", help="Call the arbiter under a bond if data is withheld."),
    ] = False,
    answer: Annotated[bool, typer.Option(help="Answer others' demands about files seen.")] = True,
    once: Annotated[bool, typer.Option("--once", help="One round, then end.")] = False,
    dry_run: DryRun = False,
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """Watch every epoch, prove fraud as it is posted, and answer demands.

    ROLLCALL_KEY pays gas; bonds only with --demand and --escalate.
    """
    from rollcall.frame.keys import key_from_environment

    watch_market(
        url,
        rpc=require_rpc(rpc),
        deployment=deployment,
        folder=state,
        console=open_console(),
        run_ids=tuple(run or ()),
        key=None if dry_run else key_from_environment(),
        demands=demand,
        escalates=escalate,
        answers=answer,
        once=once,
    )


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
    """Watch until SIGINT or SIGTERM. Without a key, tell everything and send nothing."""
    from eth_account import Account

    from audit.served import Served, fetch, verdicts
    from audit.watcher import Mandate, Watcher
    from client.public import Reader
    from client.voice import Voice
    from ledger.errors import LedgerError

    configure_logging("watcher")
    held = hold_folder(folder, "state")
    account = None if key is None else Account.from_key(key)
    ledger = connect(rpc, read_deployment(deployment), account)
    missing = [run for run in run_ids if not 1 <= run <= ledger.num_runs()]
    if missing:
        raise UserError(f"there is no run {missing[0]} on the ledger in {deployment}")
    reader = Reader(url)
    runs = Served(reader, named=run_ids)
    policy = Mandate(
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
            verdicts=lambda run, digest: verdicts(reader, run, digest),
        )
    except LedgerError as error:
        raise UserError(str(error)) from error
    who = f"as {account.address}" if account else "and sending nothing"
    listed = ", ".join(map(str, sorted(runs.seen))) or "none yet"
    console.print(f"watching the runs that {url} serves ({listed}), {who}")
    voice = Voice("chain", at=hosts_only(rpc))
    with held, reader, stopped_by_signals() as stop:
        while not stop.is_set():
            runs.look()
            step(watcher, voice)
            if once:
                return
            stop.wait(poll_seconds)


def step(watcher: Watcher, voice: Voice) -> None:
    """Do one round; if the chain or the files are away, only that round is lost."""
    import structlog

    from ledger.errors import ChainUnreachable, LedgerError

    log = structlog.get_logger()
    try:
        with voice.hears(ChainUnreachable):
            watcher.step()
    except ChainUnreachable:
        pass
    except LedgerError as error:
        log.error("round ended early", error=str(error))


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set; restore their handlers afterwards."""
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
