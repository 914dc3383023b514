"""`rollcall model`: look at a model folder before a run is made of it."""

from pathlib import Path
from typing import Annotated

import typer

from protocol.user_error import UserError
from rollcall.cli.options import example, group
from rollcall.frame.logs import quiet_libraries

commands = group("Model folders: whether a run can be made of one.")


@commands.callback()
def _model() -> None:
    """Keep the group a group while it has one command."""


@commands.command(
    "check", epilog=example("rollcall model check DIR --max-prompt-tokens 256 --max-tokens 256")
)
def check(
    folder: Annotated[Path, typer.Argument(help="Model folder.")],
    dtype: Annotated[
        str, typer.Option(help="The run's dtype: float32, float16 or bfloat16.")
    ] = "float32",
    max_prompt_tokens: Annotated[int, typer.Option(help="The run's longest prompt.", min=1)] = 64,
    max_tokens: Annotated[int, typer.Option(help="The run's longest completion.", min=1)] = 64,
) -> None:
    """Open a model folder as trainer, worker and verifier do; print one line per finding, with the remedy.

    Exits 1 if no run can be made of it.
    """
    quiet_libraries()
    from protocol.precision import ComputeDtype
    from rollcall.rehearsal.folder import Candidate, look_at_folder

    if dtype not in list(ComputeDtype):
        raise UserError(f"dtype {dtype!r} is unknown; choose one of {', '.join(ComputeDtype)}")
    asked = Candidate(folder, ComputeDtype(dtype), max_prompt_tokens, max_tokens)
    found = list(look_at_folder(asked))
    for finding in found:
        typer.echo(f"{'✗' if finding.is_fatal else '·'} {finding.text}")
    if any(finding.is_fatal for finding in found):
        raise typer.Exit(1)
    typer.echo(f"✓ a run of {asked.longest} tokens a rollout can be made of {folder}")
