"""`rollcall stake | unbond | signer | payout | withdraw`."""

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
    desk,
    example,
)

signers = typer.Typer(
    help="Hot keys: they sign work for an identity, and never move its stake.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(
        rich_help_panel=MONEY, epilog=example("rollcall stake 1.5 --rpc http://127.0.0.1:8545")
    )(stake)
    app.command(
        rich_help_panel=MONEY,
        epilog=example("rollcall unbond all", "a week later rollcall stake --withdraw"),
    )(unbond)
    app.add_typer(signers, name="signer", rich_help_panel=MONEY)
    app.command(rich_help_panel=MONEY, epilog=example("rollcall payout 0xCOLD…"))(payout)
    app.command(rich_help_panel=MONEY, epilog=example("rollcall withdraw --dry-run"))(withdraw)


def stake(
    amount: Annotated[
        str | None, typer.Argument(help="Tokens to add, such as 1.5; none shows the stake.")
    ] = None,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Take what has unbonded instead.")
    ] = False,
    payout: Annotated[
        str | None,
        typer.Option("--payout", help="When registering: where earnings go; default: this key."),
    ] = None,
    worker: Worker = None,
    dry_run: DryRun = False,
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """Stake tokens, registering this key where it is new; or show the stake, or take it back.

    Stake backs what a worker or verifier signs: cheating costs it. It leaves after the unbonding period.
    """
    from rollcall.cli import staking

    if withdraw and amount is not None:
        raise UserError("--withdraw takes everything that has unbonded: leave the amount out")
    if amount is None and payout is not None:
        raise UserError("--payout belongs to registering; change it with `rollcall payout ADDRESS`")
    needs_key = withdraw or amount is not None or worker is None
    with desk(rpc, deployment, needs_key=needs_key, dry_run=dry_run) as at:
        if withdraw:
            staking.withdraw_stake(at)
        elif amount is None:
            staking.show(at, worker)
        else:
            staking.stake(at, amount, payout=payout)


def unbond(
    amount: Annotated[str, typer.Argument(help="Tokens to take out, or all.")],
    dry_run: DryRun = False,
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """Start taking stake out. It waits the unbonding period, in which it can still be slashed."""
    from rollcall.cli import staking

    with desk(rpc, deployment, dry_run=dry_run) as at:
        staking.unbond(at, amount)


@signers.command(
    "add",
    epilog=example(
        "rollcall consent --owner 0xCOLD… with the hot key",
        "rollcall signer add 0xHOT… --consent 0x… with the cold one",
    ),
)
def add_signer(
    signer: Annotated[str, typer.Argument(help="The hot key's address.")],
    consent: Annotated[str, typer.Option(help="What `rollcall consent` printed with that key.")],
    dry_run: DryRun = False,
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """Let a hot key sign work for this identity."""
    from rollcall.cli import staking

    with desk(rpc, deployment, dry_run=dry_run) as at:
        staking.add_signer(at, signer, consent)


@signers.command("revoke", epilog=example("rollcall signer revoke 0xHOT…"))
def revoke_signer(
    signer: Annotated[str, typer.Argument(help="The hot key's address.")],
    dry_run: DryRun = False,
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """Withdraw a hot key, with effect after the registry's delay."""
    from rollcall.cli import staking

    with desk(rpc, deployment, dry_run=dry_run) as at:
        staking.revoke_signer(at, signer)


@signers.command("list", epilog=example("rollcall signer list --worker 0xCOLD…"))
def list_signers(
    worker: Worker = None, rpc: Rpc = None, deployment: DeploymentFile = DEPLOYMENT
) -> None:
    """Show an identity's hot keys, and until when they sign."""
    from rollcall.cli import staking

    with desk(rpc, deployment, needs_key=worker is None) as at:
        staking.list_signers(at, worker)


def payout(
    address: Annotated[
        str | None, typer.Argument(help="Where earnings shall go; none shows where they go.")
    ] = None,
    worker: Worker = None,
    dry_run: DryRun = False,
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """Change or show where an identity's earnings go."""
    from rollcall.cli import staking

    with desk(
        rpc, deployment, needs_key=address is not None or worker is None, dry_run=dry_run
    ) as at:
        if address is None:
            staking.show_payout(at, worker)
        else:
            staking.set_payout(at, address)


def withdraw(
    dry_run: DryRun = False, rpc: Rpc = None, deployment: DeploymentFile = DEPLOYMENT
) -> None:
    """Take this key's credits: refunds of closed runs, returned bonds, bounties."""
    from rollcall.cli import staking

    with desk(rpc, deployment, dry_run=dry_run) as at:
        staking.withdraw_credits(at)
