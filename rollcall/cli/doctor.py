"""`rollcall doctor`: whether this machine can take part; with `--calibrate`, whether its work would pass."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from rollcall.cli.options import MACHINE, example
from rollcall.frame.console import errors, open_console
from rollcall.frame.ending import stopped_says
from rollcall.frame.logs import quiet_libraries

MEASURE = "With --calibrate"
"""Panel of `rollcall doctor --help`."""

commands = typer.Typer()


@commands.command(
    rich_help_panel=MACHINE,
    epilog=example(
        "rollcall doctor --orchestrator http://market:8100 --rpc http://node:8545",
        "rollcall doctor --calibrate --orchestrator http://market:8100 --run 1",
    ),
)
def doctor(
    orchestrator: Annotated[str | None, typer.Option(help="Orchestrator to ask.")] = None,
    rpc: Annotated[str | None, typer.Option(help="Chain node to ask.")] = None,
    deployment: Annotated[Path | None, typer.Option(help="Deployment file of its ledger.")] = None,
    redis: Annotated[
        str | None,
        typer.Option(help="Redis of your orchestrator; ROLLCALL_REDIS_PASSWORD opens it."),
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where data will be kept.")] = Path(),
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Sample, replay, and say whether its work would pass."),
    ] = False,
    run: Annotated[
        int | None, typer.Option(help="Run to measure against.", rich_help_panel=MEASURE)
    ] = None,
    model: Annotated[
        Path,
        typer.Option(help="Model folder, if there is no orchestrator.", rich_help_panel=MEASURE),
    ] = Path("models/start"),
    thresholds: Annotated[
        Path | None,
        typer.Option(help="Bounds; default: in the model folder.", rich_help_panel=MEASURE),
    ] = None,
    environment: Annotated[
        str, typer.Option(help="Environment of the prompts, with --model.", rich_help_panel=MEASURE)
    ] = "arithmetic",
    max_tokens: Annotated[
        int, typer.Option(help="Longest completion, with --model.", rich_help_panel=MEASURE)
    ] = 64,
    engine: Annotated[
        str, typer.Option(help="vllm or transformers.", rich_help_panel=MEASURE)
    ] = "vllm",
    device: Annotated[
        str, typer.Option(help="cpu, cuda or cuda:N.", rich_help_panel=MEASURE)
    ] = "cpu",
    groups: Annotated[
        int, typer.Option(help="Groups to sample.", min=1, rich_help_panel=MEASURE)
    ] = 128,
    as_json: Annotated[
        bool, typer.Option("--json", help="For programs.", rich_help_panel=MEASURE)
    ] = False,
) -> None:
    """Check this machine and the market; print one line per check, with the remedy.

    With --calibrate: whether a run would pay for this machine's samples, and by how much they pass,
    before anything is at stake. Exits 1 if it would not.
    """
    if calibrate:
        earns = _check_up(
            as_json,
            engine=engine,
            device=device,
            num_groups=groups,
            orchestrator=orchestrator,
            run_id=run,
            model=model,
            thresholds=thresholds,
            environment=environment,
            max_tokens=max_tokens,
        )
        raise typer.Exit(0 if earns else 1)
    all_well = _examine(
        orchestrator=orchestrator, rpc=rpc, deployment=deployment, folder=folder, redis=redis
    )
    raise typer.Exit(0 if all_well else 1)


def _check_up(as_json: bool, **machine: Any) -> bool:
    """Sample and replay here; return whether a run would pay for it."""
    quiet_libraries()
    with errors.status("loading torch"):
        from rollcall.machine.checkup import Machine, check_up

    with stopped_says("stopped; nothing was sent and nothing is kept"):
        return check_up(Machine(**machine), as_json=as_json, console=open_console())


def _examine(**places: Any) -> bool:
    """Print a line for each check; return whether none failed."""
    from rollcall.machine.doctor import State, examine

    console, has_failed = open_console(), False
    marks = {State.OK: "[green]✓[/]", State.NOTE: "[yellow]·[/]", State.FAIL: "[red]✗[/]"}
    for check in examine(**places):
        remedy = f"  [dim]→ {escape(check.remedy)}[/]" if check.remedy else ""
        console.print(f"{marks[check.state]} {check.name:<13}{escape(check.found)}{remedy}")
        has_failed |= check.state is State.FAIL
    return not has_failed
