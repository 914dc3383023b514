"""`rollcall appeal`, `rollcall audit`, `rollcall watch`: what is wrong, and what one does about it."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from protocol.user_error import UserError
from rollcall.cli.commands.options import (
    DEPLOYMENT,
    TRUST,
    DeploymentFile,
    DryRun,
    Rpc,
    Worker,
    desk,
    example,
    require_rpc,
)

Market = Annotated[str, typer.Argument(help="Orchestrator whose published files are read.")]


class Ruling(StrEnum):
    GUILTY = "guilty"
    INNOCENT = "innocent"


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(
        rich_help_panel=TRUST,
        epilog=example("rollcall appeal", "rollcall appeal 0x… --reason 'replay it on an A100'"),
    )(appeal)
    app.command(
        rich_help_panel=TRUST,
        epilog=example("rollcall audit http://market:8100 --rpc http://node:8545 --run 1"),
    )(audit)
    app.command(
        rich_help_panel=TRUST,
        epilog=example("rollcall watch http://market:8100 --rpc http://node:8545 --dry-run --once"),
    )(watch)


def appeal(
    accusation: Annotated[
        str | None, typer.Argument(metavar="ID", help="Which; none lists accusations.")
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option("--reason", help="Appeal with this text, whose digest goes on chain."),
    ] = None,
    rule: Annotated[
        Ruling | None,
        typer.Option("--rule", help="As the arbiter: rule on an appeal or an escalated epoch."),
    ] = None,
    settle: Annotated[
        bool,
        typer.Option("--settle", help="Close one whose time is up. Anyone may."),
    ] = False,
    everyone: Annotated[
        bool, typer.Option("--everyone", help="List all accusations, not only one's own.")
    ] = False,
    worker: Worker = None,
    dry_run: DryRun = False,
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """List accusations against a worker, appeal one, or rule on one as the arbiter.

    A quorum's report holds stake at once; it is taken only if nobody appeals in time, or the arbiter
    rules guilty. Silence of the arbiter acquits.
    """
    from rollcall.cli import appeal as appealing

    if (reason is not None) + (rule is not None) + settle != (accusation is not None):
        raise UserError(
            "give an ID with one of --reason, --rule and --settle; or none of them to list"
        )
    needs_key = accusation is not None or not (everyone or worker)
    with desk(rpc, deployment, needs_key=needs_key, dry_run=dry_run) as at:
        if accusation is None:
            appealing.show(at, worker=worker, everyone=everyone)
        elif reason is not None:
            appealing.appeal(at, accusation, reason)
        elif rule is not None:
            appealing.rule(at, accusation, rule is Ruling.GUILTY)
        else:
            appealing.settle(at, accusation)


def audit(
    url: Market,
    run: Annotated[int | None, typer.Option(help="Only this run.")] = None,
    proof: Annotated[
        Path, typer.Option(help="Where the ready fraud proof is written, if there is one.")
    ] = Path("fraud-proof.json"),
    submissions: Annotated[
        int | None,
        typer.Option(min=0, help="Submissions to look at per epoch, drawn; default: all."),
    ] = None,
    send: Annotated[
        bool, typer.Option("--send", help="Send the fraud proof. ROLLCALL_KEY pays gas only.")
    ] = False,
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """Recompute every epoch from the chain and the published files; exit 1 on any difference."""
    from rollcall.cli.audit import audit_market
    from rollcall.frame.console import open_console
    from rollcall.frame.keys import key_from_environment

    holds = audit_market(
        url,
        rpc=require_rpc(rpc),
        deployment=deployment,
        run_id=run,
        proof_file=proof,
        most_submissions=submissions,
        key=key_from_environment() if send else None,
        console=open_console(),
    )
    raise typer.Exit(0 if holds else 1)


def watch(
    url: Market,
    state: Annotated[Path, typer.Option(help="Folder for the cursor and the files seen.")] = Path(
        "watch"
    ),
    run: Annotated[list[int] | None, typer.Option(help="Only these runs; may be repeated.")] = None,
    demand: Annotated[
        bool,
        typer.Option(
            "--demand", help="Ask for leaves under a bond where no proof can be made yet."
        ),
    ] = False,
    escalate: Annotated[
        bool,
        typer.Option("--escalate", help="Call the arbiter under a bond where data is withheld."),
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
    from rollcall.cli.watch import watch_market
    from rollcall.frame.console import open_console
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
