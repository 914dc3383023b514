"""`rollcall run …`: runs on chain, without any orchestrator."""

from pathlib import Path
from typing import Annotated

import typer

from protocol.user_error import UserError
from rollcall.cli.commands.options import (
    DEPLOYMENT,
    RUNS,
    DeploymentFile,
    DryRun,
    Rpc,
    RunId,
    Yes,
    desk,
    example,
)

runs = typer.Typer(
    help="Runs on chain: list, create, fund and steer them. Needs no orchestrator.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.add_typer(runs, name="run", rich_help_panel=RUNS)


@runs.command("list", epilog=example("rollcall run list --rpc http://127.0.0.1:8545"))
def list_runs(
    as_json: AsJson = False, rpc: Rpc = None, deployment: DeploymentFile = DEPLOYMENT
) -> None:
    """Show every run of the ledger: status, permit, meter, cap, licence, use, what it goes on from."""
    from rollcall.cli.register import show_all
    from rollcall.frame.console import open_console

    with desk(rpc, deployment, needs_key=False) as at:
        show_all(at, open_console(), as_json=as_json)


@runs.command("show", epilog=example("rollcall run show 1"))
def show_run(
    run_id: RunId,
    as_json: AsJson = False,
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """Show one run: its terms, its people, its money, its epochs."""
    from rollcall.cli.register import show_one
    from rollcall.frame.console import open_console

    with desk(rpc, deployment, needs_key=False) as at:
        show_one(at, run_id, open_console(), as_json=as_json)


@runs.command("create", epilog=example("rollcall run create --config launch.toml --dry-run"))
def create_run(
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file, as of rollcall launch.")
    ] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="a.b=value", help="Override one setting; may be repeated."),
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the settings as TOML and end.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Put a run on chain with its budget in escrow; `rollcall launch` also tells its orchestrator."""
    from rollcall.cli.launch import create
    from rollcall.frame.keys import key_from_environment
    from rollcall.frame.roles import settings_of

    settings = settings_of("rollcall.cli.launch_config:LaunchConfig", config, assign, print_config)
    create(settings, key_from_environment(), typer.echo, dry_run=dry_run)


@runs.command("fund", epilog=example("rollcall run fund 1 250.5"))
def fund_run(
    run_id: RunId,
    amount: Annotated[str, typer.Argument(help="Tokens, such as 1.5.")],
    dry_run: DryRun = False,
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """Add to a run's budget. Anyone may."""
    from rollcall.cli import running

    with desk(rpc, deployment, dry_run=dry_run) as at:
        running.fund(at, run_id, amount)


@runs.command("halt", epilog=example("rollcall run halt 1 --reason 'the reward is being gamed'"))
def halt_run(
    run_id: RunId,
    reason: Annotated[
        str, typer.Option(help="A text, whose digest goes on chain, or a digest in hex.")
    ],
    dry_run: DryRun = False,
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """Halt a run at once as its operator, or vote to as a steward. Earlier work is still paid."""
    from rollcall.cli import running

    with desk(rpc, deployment, dry_run=dry_run) as at:
        running.halt(at, run_id, reason)


@runs.command("resume", epilog=example("rollcall run resume 1"))
def resume_run(
    run_id: RunId,
    dry_run: DryRun = False,
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """Resume after a halt or a lapsed permit, once the run's delay has passed."""
    from rollcall.cli import running

    with desk(rpc, deployment, dry_run=dry_run) as at:
        running.resume(at, run_id)


@runs.command("permit", epilog=example("rollcall run permit 1"))
def renew_permit(
    run_id: RunId,
    lapse: Annotated[
        bool, typer.Option("--lapse", help="Record instead that it has lapsed. Anyone may.")
    ] = False,
    dry_run: DryRun = False,
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """Renew a run's permit. Work dated past it is owed nothing: silence ends a run."""
    from rollcall.cli import running

    with desk(rpc, deployment, dry_run=dry_run) as at:
        if lapse:
            running.lapse(at, run_id)
        else:
            running.permit(at, run_id)


@runs.command("stop", epilog=example("rollcall run stop 1"))
def stop_run(
    run_id: RunId,
    yes: Yes = False,
    dry_run: DryRun = False,
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """End a run for good. What was done before is still settled and paid."""
    from rollcall.cli import running

    with desk(rpc, deployment, dry_run=dry_run, yes=yes) as at:
        running.stop(at, run_id)


@runs.command("close", epilog=example("rollcall run close 1", "rollcall withdraw"))
def close_run(
    run_id: RunId,
    dry_run: DryRun = False,
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """Close a stopped run; what no epoch took is credited to its operator. Anyone may."""
    from rollcall.cli import running

    with desk(rpc, deployment, dry_run=dry_run) as at:
        running.close(at, run_id)


@runs.command(
    "replace",
    epilog=example("rollcall run replace 1 2 0xNEW…", "rollcall run replace 1 --carry-out"),
)
def replace_verifier(
    run_id: RunId,
    verifier: Annotated[
        str | None, typer.Argument(help="Whose place: its number in `run show`, or its address.")
    ] = None,
    following: Annotated[
        str | None, typer.Argument(metavar="NEXT", help="Who shall take it.")
    ] = None,
    carry_out: Annotated[
        bool, typer.Option("--carry-out", help="Do it, once its delay has passed. Anyone may.")
    ] = False,
    dry_run: DryRun = False,
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """Replace a verifier that is short of stake, so that a run does not stall."""
    from rollcall.cli import running

    if carry_out == (verifier is not None) or (verifier is None) != (following is None):
        raise UserError("give a verifier and who follows it, or --carry-out alone")
    with desk(rpc, deployment, dry_run=dry_run) as at:
        if verifier is not None and following is not None:
            running.propose_replacement(at, run_id, verifier, following)
        else:
            running.carry_out_replacement(at, run_id)


@runs.command(
    "retract",
    epilog=example(
        "rollcall run retract 1 4 at each verifier",
        "rollcall run retract 1 4 --signature 0xV1…=0x… --signature 0xV2…=0x…",
    ),
)
def retract_epoch(
    run_id: RunId,
    epoch: Annotated[int, typer.Argument(help="The first epoch to take back.")],
    signature: Annotated[
        list[str] | None,
        typer.Option(metavar="0xVERIFIER=0xSIG", help="Send; may be repeated. None signs instead."),
    ] = None,
    dry_run: DryRun = False,
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """Take a pending epoch back as its verifiers: sign, or send a quorum's signatures."""
    from rollcall.cli import retracting
    from rollcall.frame.keys import key_from_environment

    with desk(rpc, deployment, dry_run=dry_run) as at:
        if signature:
            retracting.send_retraction(at, run_id, epoch, signature)
        else:
            retracting.sign_retraction(at, key_from_environment(), run_id, epoch)
