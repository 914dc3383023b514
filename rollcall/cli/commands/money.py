"""`rollcall claim`: have the chain pay what a worker earned."""

from pathlib import Path
from typing import Annotated

import typer

from protocol.user_error import UserError
from rollcall.cli.commands.options import (
    DEPLOYMENT,
    MONEY,
    DeploymentFile,
    DryRun,
    Rpc,
    Worker,
    Yes,
    desk,
    example,
)

KEPT = "epochs"
"""Folder in a worker's data_dir where it keeps the files of final epochs."""


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(
        rich_help_panel=MONEY,
        epilog=example(
            "rollcall claim --orchestrator http://market:8100 --rpc http://node:8545",
            "with the market gone rollcall claim --file worker/epochs --rpc http://node:8545",
        ).replace(", then", ";"),
    )(claim)


def claim(
    orchestrator: Annotated[
        str | None, typer.Option(help="Whose epoch files to claim from.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="An epoch file, or a folder of them; needs no orchestrator."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", help="Take orchestrator, chain and kept files from rollcall join's."
        ),
    ] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="a.b=value", help="Override one setting of it."),
    ] = None,
    run: Annotated[int | None, typer.Option("--run", help="This run only.")] = None,
    worker: Worker = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """Show what a worker earned, was paid and can claim, what that costs, and claim it.

    Claims never expire and need nobody's help: an epoch file is enough. Any key may pay the gas; the
    money goes to the worker's payout address.
    """
    from rollcall.cli.claim import claim as claim_from
    from rollcall.cli.claim import from_files, from_market
    from rollcall.frame.roles import settings_of

    kept: Path | None = None
    if config is not None or assign:
        settings = settings_of("rollout_worker.config:WorkerConfig", config, assign, False)
        rpc, deployment = rpc or settings.chain.rpc_url, settings.chain.deployment
        orchestrator, kept = orchestrator or settings.orchestrator, settings.data_dir / KEPT
    if file is None and orchestrator is None:
        raise UserError(
            "say where epoch files are: --orchestrator URL, --file PATH or --config FILE"
        )
    with desk(rpc, deployment, dry_run=dry_run, yes=yes) as at:
        files = from_files(at, file) if file else from_market(at, str(orchestrator), kept)
        claim_from(at, worker, files, only=run)
