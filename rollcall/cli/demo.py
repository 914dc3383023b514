"""`rollcall demo`, `rollcall containers`: a whole market on this machine, as processes or as containers."""

from pathlib import Path
from typing import Annotated

import typer

from protocol.user_error import UserError
from rollcall.cli.options import MACHINE, example
from rollcall.frame.ending import stopped_says

commands = typer.Typer()


@commands.command(rich_help_panel=MACHINE, epilog=example("rollcall demo --steps 60 --report out/"))
def demo(
    steps: Annotated[int, typer.Option(help="Optimizer steps of the trainer.", min=2)] = 30,
    report: Annotated[
        Path, typer.Option(help="Folder for the report, its picture and the logs.")
    ] = Path("out"),
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of the live view.")] = False,
    seed: Annotated[int, typer.Option(help="Seeds the trainer's evaluation.")] = 0,
) -> None:
    """Run a whole market on this machine and check what it claims.

    Starts Redis, a chain, the orchestrator, a verifier, the trainer and three workers: one on vLLM,
    one on transformers, one that cheats. Ends by itself; exits 0 only if every claim holds.
    """
    from rollcall.demo.run import run_demo

    with stopped_says("stopped; every process that was started has ended"):
        all_hold = run_demo(steps=steps, folder=report, plain=plain, seed=seed)
    raise typer.Exit(0 if all_hold else 1)


@commands.command(rich_help_panel=MACHINE, epilog=example("rollcall containers --steps 50"))
def containers(
    folder: Annotated[Path, typer.Option(help="Checkout with compose.yaml.")] = Path(),
    steps: Annotated[int, typer.Option(help="Optimizer steps of the trainer.")] = 50,
) -> None:
    """Write the secrets (.env) and configs (compose/) that compose.yaml hands out."""
    from rollcall.demo.containers import write_containers

    if not (folder / "compose.yaml").is_file():
        raise UserError(f"{folder} has no compose.yaml: name a checkout with --folder")
    for path in write_containers(folder, steps=steps):
        typer.echo(path)
