"""The `rollcall` command: mounts every command of `rollcall/cli/`.

Heavy libraries are imported inside the command that needs them, so `rollcall --help` is quick and a
worker needs no orchestrator installed.
"""

import sys
import time
from inspect import cleandoc

import typer
from rich.markup import escape

from protocol.user_error import UserError, one_line
from rollcall.cli import (
    appeal,
    audit,
    calibrate,
    claim,
    council,
    demo,
    doctor,
    keys,
    launch,
    owed,
    provenance,
    roles,
    run,
    stake,
    status,
    verify,
    watch,
)
from rollcall.cli.options import MONEY, RUNS, TRUST
from rollcall.frame.console import errors

app = typer.Typer(
    name="rollcall",
    help="A market for RL post-training: strangers sample, a model learns, workers are paid.",
    epilog="Start with [bold]rollcall demo[/]. Every role takes --config FILE; "
    "--print-config writes one with each setting explained.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
for part in (demo, doctor, calibrate, roles, verify, launch, status):
    app.add_typer(part.commands)
app.add_typer(run.commands, name="run", rich_help_panel=RUNS)
for part in (keys, stake, claim, owed):
    app.add_typer(part.commands)
app.add_typer(keys.signers, name="signer", rich_help_panel=MONEY)
for part in (appeal, audit, watch, provenance):
    app.add_typer(part.commands)
app.add_typer(council.commands, name="council", rich_help_panel=TRUST)


def _unwrap(part: typer.Typer) -> None:
    """Let the terminal wrap the paragraphs of `--help`, not the source."""
    for command in part.registered_commands:
        paragraphs = cleandoc((command.callback and command.callback.__doc__) or "").split("\n\n")
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for group in part.registered_groups:
        if group.typer_instance is not None:
            _unwrap(group.typer_instance)


_unwrap(app)


def main() -> None:
    """Run a command; a mistake is one line and exit code 1, Ctrl-C is exit code 130."""
    from client.surroundings import reach_loopback_directly
    from protocol.errors import MarketError

    reach_loopback_directly()
    try:
        app()
    except UserError as error:
        errors.print(f"[red]✗[/] {escape(str(error))}")
        sys.exit(1)
    except MarketError as error:
        errors.print(f"[red]✗[/] {error.code}: {escape(error.message)}")
        sys.exit(1)
    except _ledger_errors() as error:
        errors.print(f"[red]✗[/] {escape(_of_ledger(error))}")
        sys.exit(1)


def _ledger_errors() -> tuple[type[Exception], ...]:
    """Return what a role may raise about the chain; nothing if web3 was never loaded."""
    loaded = sys.modules.get("ledger.errors")
    return (loaded.LedgerError,) if loaded is not None else ()


def _of_ledger(error: Exception) -> str:
    """Return what a role met at the chain in one line; amounts by the decimals that most tokens have."""
    from ledger.amounts import Token
    from ledger.errors import ContractError
    from rollcall.cli.refusals import explain

    if isinstance(error, ContractError):
        return explain(error, Token("", "tokens", 18), int(time.time()))
    return one_line(error)


if __name__ == "__main__":
    main()
