"""The `rollcall` command: mounts every command of `rollcall/cli/`.

Heavy libraries are imported inside the command that needs them, so `rollcall --help` is quick and a
worker needs no orchestrator installed.
"""

import sys
from contextlib import suppress
from inspect import cleandoc
from io import TextIOWrapper

import typer

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
    model,
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
from rollcall.frame.ending import PAGE, run_to_its_end

app = typer.Typer(
    name="rollcall",
    help="A market for RL post-training: strangers sample, a model learns, workers are paid.",
    epilog="Start with [bold]rollcall demo[/]. Every role takes --config FILE; "
    f"--print-config writes one with each setting explained. {PAGE} explains every ✗ line and exit code.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
for part in (demo, doctor, calibrate, roles, verify, launch, status):
    app.add_typer(part.commands)
app.add_typer(run.commands, name="run", rich_help_panel=RUNS)
app.add_typer(model.commands, name="model", rich_help_panel=RUNS)
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
    """Run a command and end with its exit code; `rollcall/frame/ending.py` lists them."""
    from client.surroundings import reach_loopback_directly

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # none where it is closed
            with suppress(OSError):  # one that was a file and is a pipe
                # An old locale lacks letters, and must not end a command.
                stream.reconfigure(errors="replace")
    reach_loopback_directly()
    sys.exit(run_to_its_end(lambda: app(prog_name="rollcall", standalone_mode=False)))


if __name__ == "__main__":
    main()
