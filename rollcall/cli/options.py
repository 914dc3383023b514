"""What commands share: the panels of `rollcall --help`, common options, and `at_ledger`.

`rollcall --help` imports every command's file, so heavy imports wait until the command runs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.markup import escape

from protocol.user_error import UserError
from rollcall.cli.desk import Desk, open_desk

if TYPE_CHECKING:
    from client.public import Reader
    from protocol.messages import RunInfo

Deed = TypeVar("Deed", bound=Callable[..., object])

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
MaybeDeploymentFile = Annotated[
    Path | None,
    typer.Option(
        "--deployment",
        envvar="ROLLCALL_DEPLOYMENT",
        help="The contracts' addresses; default: deployment.json, or what --config says.",
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
BooksConfig = Annotated[
    Path | None,
    typer.Option("--config", help="Take chain, receipts and kept files from rollcall join's."),
]
EpochFiles = Annotated[
    Path | None,
    typer.Option("--file", help="An epoch file or a folder of them; default: those kept."),
]
OnlyRun = Annotated[int | None, typer.Option("--run", help="This run only.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Reason = Annotated[
    str, typer.Option(help="A text, whose digest goes on chain, or a digest in hex.")
]
RunConfig = Annotated[
    Path | None, typer.Option("--config", help="TOML file, as of rollcall launch.")
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file of this role.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="a.b=value", help="Override one setting; may be repeated."),
]
PrintConfig = Annotated[
    bool, typer.Option("--print-config", help="Print the settings as TOML and end.")
]
DEPLOYMENT = Path("deployment.json")


def example(*commands: str) -> str:
    """Return the epilog that teaches a command."""
    return "Example: " + ", then ".join(f"[bold]{escape(command)}[/]" for command in commands)


def group(help: str) -> typer.Typer:
    """Return commands under a name of their own: `rollcall NAME COMMAND`."""
    return typer.Typer(help=help, no_args_is_help=True, rich_markup_mode="rich")


def at_ledger(
    commands: typer.Typer,
    name: str,
    *examples: str,
    panel: str | None = None,
    sends: bool = True,
    asks: bool = False,
) -> Callable[[Deed], Deed]:
    """Make a command of a function that takes a `Desk` and then its own options.

    The command has these, `--dry-run` if it sends, `--yes` if it asks, and the options that name the
    chain. The function itself stays as it is, for other programs.

    Example:
        @at_ledger(commands, "fund", "rollcall run fund 1 250.5")
        def fund(desk: Desk, run_id: RunId, amount: Amount) -> None: ...
    """
    shared = [
        *([_option("yes", Yes, False)] if asks else []),
        *([_option("dry_run", DryRun, False)] if sends else []),
        _option("rpc", Rpc, None),
        _option("deployment", DeploymentFile, DEPLOYMENT),
    ]

    def run(deed: Deed, shared: dict[str, Any], own: dict[str, Any]) -> None:
        with desk(**shared) as at:
            deed(at, **own)

    return _command(commands, name, panel, example(*examples), shared, run)


@dataclass(frozen=True, slots=True)
class Books:
    """What a worker knows of its pay: its settings if any are named, and what the command line says over them."""

    settings: Any | None
    file: Path | None
    run: int | None
    worker: str | None
    place: dict[str, Any]

    @property
    def data_dir(self) -> Path | None:
        """Where the worker keeps receipts and files."""
        return self.settings.data_dir if self.settings else None

    def desk(self) -> AbstractContextManager[Desk]:
        """Open the ledger."""
        return desk(**self.place)


def at_books(
    commands: typer.Typer, name: str, epilog: str, *, needs_config: bool = False
) -> Callable[[Deed], Deed]:
    """Make a command of a function that takes a worker's `Books` and then its own options."""
    shared = [
        _option("config", BooksConfig, None),
        _option("assign", Assignments, None),
        _option("file", EpochFiles, None),
        _option("run", OnlyRun, None),
        _option("worker", Worker, None),
        _option("yes", Yes, False),
        _option("dry_run", DryRun, False),
        _option("rpc", Rpc, None),
        _option("deployment", MaybeDeploymentFile, None),
    ]

    def run(deed: Deed, shared: dict[str, Any], own: dict[str, Any]) -> None:
        from rollcall.frame.roles import settings_of

        config, assign = shared.pop("config"), shared.pop("assign")
        settings = None
        if needs_config or config is not None or assign:
            settings = settings_of("rollout_worker.config:WorkerConfig", config, assign, False)
            shared["rpc"] = shared["rpc"] or settings.chain.rpc_url
            shared["deployment"] = shared["deployment"] or settings.chain.deployment
        shared["deployment"] = shared["deployment"] or DEPLOYMENT
        named = {name: shared.pop(name) for name in ("file", "run", "worker")}
        deed(Books(settings=settings, place=shared, **named), **own)

    return _command(commands, name, MONEY, epilog, shared, run)


def _command(
    commands: typer.Typer,
    name: str,
    panel: str | None,
    epilog: str,
    shared: list[Parameter],
    run: Callable[[Any, dict[str, Any], dict[str, Any]], None],
) -> Callable[[Deed], Deed]:
    """Make a command of a function whose first argument is made of the shared options."""

    def decorate(deed: Deed) -> Deed:
        def command(**given: Any) -> None:
            run(deed, {option.name: given.pop(option.name) for option in shared}, given)

        _, *own = signature(deed, eval_str=True).parameters.values()
        keywords = [option.replace(kind=Parameter.KEYWORD_ONLY) for option in own]
        command.__signature__ = Signature([*keywords, *shared])  # type: ignore[attr-defined]
        command.__doc__ = deed.__doc__
        commands.command(name, rich_help_panel=panel, epilog=epilog)(command)
        return deed

    return decorate


def desk(
    rpc: str | None, deployment: Path, *, dry_run: bool = False, yes: bool = False
) -> AbstractContextManager[Desk]:
    """Open the ledger for one command, with the key in ROLLCALL_KEY if there is one."""
    from rollcall.frame.keys import key_if_any

    return open_desk(
        require_rpc(rpc), deployment, key_if_any(), say=typer.echo, dry_run=dry_run, yes=yes
    )


def require_rpc(rpc: str | None) -> str:
    """Return the node's URL; raise `UserError` if none is named."""
    if rpc is None or not rpc.strip():
        raise UserError("name a node with --rpc URL, or set ROLLCALL_RPC")
    return rpc.strip()


def served_run(reader: Reader, asked: int | None) -> RunInfo:
    """Return the run that is meant, the only one if none is named; raise `UserError` if that is not clear."""
    served = reader.runs()
    meant = [info for info in served if asked in (None, info.run_id)]
    if len(meant) == 1:
        return meant[0]
    listed = ", ".join(str(info.run_id) for info in served) or "none"
    raise UserError(f"{reader.url} serves runs: {listed}; name one of them with --run")


def _option(name: str, annotation: Any, default: Any) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
