"""`rollcall council pause | unpause | resign`: what the holder of an office does on chain.

Appointing somebody is the timelock's, an OpenZeppelin `TimelockController`, for which there are tools.
"""

from enum import StrEnum
from typing import Annotated

import typer

from protocol.user_error import UserError
from rollcall.cli.commands.options import (
    DEPLOYMENT,
    TRUST,
    DeploymentFile,
    DryRun,
    Rpc,
    Yes,
    desk,
    example,
)

council = typer.Typer(
    help="The council's offices: a guardian pauses what brings money in, an arbiter rules on appeals.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


class Holder(StrEnum):
    GUARDIAN = "guardian"
    ARBITER = "arbiter"


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.add_typer(council, name="council", rich_help_panel=TRUST)


@council.command(
    "pause", epilog=example("rollcall council pause 24 --reason 'claims can be paid twice'")
)
def pause(
    hours: Annotated[int, typer.Argument(min=1, help="For how long: 168, a week, at most.")],
    reason: Annotated[
        str, typer.Option(help="A text, whose digest goes on chain, or a digest in hex.")
    ],
    dry_run: DryRun = False,
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """Stop stakes, runs, workers and epochs from coming in, as a guardian; once in 30 days.

    Claims, withdrawals, disputes, appeals, halts and permits go on.
    """
    from rollcall.cli.running import digest_of
    from rollcall.cli.times import moment

    digest = digest_of(reason)
    with desk(rpc, deployment, dry_run=dry_run) as at:
        at.send(f"pause the ledger for {hours} h", "pause", hours * 3_600, digest)
        if not dry_run:
            until = moment(at.ledger.paused_until(), at.now())
            at.say(
                f"the ledger is paused until {until}; `rollcall council unpause` ends it earlier"
            )
            at.say(f"the chain keeps the reason's digest 0x{digest.hex()}: publish the text itself")


@council.command("unpause", epilog=example("rollcall council unpause"))
def unpause(
    dry_run: DryRun = False, rpc: Rpc = None, deployment: DeploymentFile = DEPLOYMENT
) -> None:
    """End a pause early, as a guardian. The next one comes no sooner for it."""
    with desk(rpc, deployment, dry_run=dry_run) as at:
        at.send("end the pause", "unpause")
        if not dry_run:
            at.say("the ledger is open again")


@council.command("resign", epilog=example("rollcall council resign guardian"))
def resign(
    office: Annotated[Holder, typer.Argument(help="Which office this key gives up.")],
    yes: Yes = False,
    dry_run: DryRun = False,
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """Give this key's office up at once, as one does when the key may be known to others."""
    from ledger.state import Office

    with desk(rpc, deployment, dry_run=dry_run, yes=yes) as at:
        if not at.ledger.holds(Office[office.name], at.address):
            raise UserError(
                f"{at.address} is no {office} of this ledger: it has nothing to give up"
            )
        at.ask(f"give up the office of {office}? Only the timelock appoints another")
        at.send(f"resign as {office}", "resign", Office[office.name])
        if not dry_run:
            at.say(f"{at.address} is no {office} any more")
