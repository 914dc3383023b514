"""`rollcall watch`: anyone's own watcher, with files over HTTP and its state in a folder."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    from local.voice import Voice

POLL_SECONDS = 2.0
"""Between two rounds."""

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

    ROLLCALL_KEY pays gas; bonds only with --demand and --escalate. A dry run needs no key, tells everything and
    sends nothing.
    """
    from eth_account import Account

    from audit.served import Served, fetch, verdicts
    from audit.watcher import Mandate, Watcher
    from client.public import Reader
    from ledger.errors import LedgerError
    from local.voice import Voice, stop_on_signals
    from rollcall.frame.keys import key_from_environment

    rpc, named = require_rpc(rpc), tuple(run or ())
    account = None if dry_run else Account.from_key(key_from_environment())
    configure_logging("watcher")
    ledger = connect(rpc, read_deployment(deployment), account)
    missing = [number for number in named if not 1 <= number <= ledger.num_runs()]
    if missing:
        raise UserError(
            f"there is no run {missing[0]} on the ledger in {deployment}: see `rollcall run list`"
        )
    with hold_folder(state, "--state"), Reader(url) as reader:
        runs = Served(reader, named=named, must_answer=once)
        policy = Mandate(
            sends=account is not None,
            demands=demand,
            escalates=escalate,
            answers=answer,
            run_ids=runs.seen,
        )
        try:
            watcher = Watcher(
                ledger,
                state,
                address=account.address if account else None,
                files=partial(fetch, reader),
                policy=policy,
                verdicts=partial(verdicts, reader),
            )
        except LedgerError as error:
            raise UserError(str(error)) from error
        who = f"as {account.address}" if account else "and sending nothing"
        listed = ", ".join(map(str, sorted(runs.seen))) or "none yet"
        open_console().print(f"watching the runs at {url} ({listed}), {who}")
        voice = Voice("chain", at=hosts_only(rpc))
        stop = threading.Event()
        stop_on_signals(stop, "finishing the round in hand")
        while not stop.is_set():
            runs.look()
            step(watcher, voice)
            if once:
                return
            stop.wait(POLL_SECONDS)


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
