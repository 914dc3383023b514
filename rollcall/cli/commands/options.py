"""Options that every command at the chain takes, and how one is opened with them."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from protocol.user_error import UserError

if TYPE_CHECKING:
    from rollcall.cli.desk import Desk

ROLES = "Roles: a process each, from one TOML file"
RUNS = "Runs"
MONEY = "A worker's and a verifier's money"
TRUST = "What is wrong, and what one does about it"
MACHINE = "This machine"
"""Panels of `rollcall --help`."""

CHAIN = "The chain"

Rpc = Annotated[
    str | None,
    typer.Option("--rpc", envvar="ROLLCALL_RPC", help="A node's URL.", rich_help_panel=CHAIN),
]
DeploymentFile = Annotated[
    Path,
    typer.Option(
        "--deployment",
        envvar="ROLLCALL_DEPLOYMENT",
        help="The contracts' addresses.",
        rich_help_panel=CHAIN,
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be sent and its gas; send nothing.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
RunId = Annotated[int, typer.Argument(metavar="RUN", help="Its number: rollcall run list.")]
Worker = Annotated[
    str | None, typer.Option("--worker", help="Whose; default: the identity of ROLLCALL_KEY.")
]
DEPLOYMENT = Path("deployment.json")


def example(*commands: str) -> str:
    """Return the epilog that teaches a command."""
    return "Example: " + ", then ".join(f"[bold]{escape(command)}[/]" for command in commands)


def desk(
    rpc: str | None,
    deployment: Path,
    *,
    needs_key: bool = True,
    dry_run: bool = False,
    yes: bool = False,
) -> "AbstractContextManager[Desk]":
    """Open the ledger for one command, with the key in ROLLCALL_KEY where it needs one."""
    from rollcall.cli.desk import at_ledger
    from rollcall.frame.keys import key_from_environment

    node = require_rpc(rpc)
    key = key_from_environment() if needs_key else None
    return at_ledger(node, deployment, key, say=typer.echo, dry_run=dry_run, yes=yes)


def require_rpc(rpc: str | None) -> str:
    """Return the node's URL; raise `UserError` where none is named."""
    if not rpc:
        raise UserError("name a node with --rpc URL, or set ROLLCALL_RPC")
    return rpc
