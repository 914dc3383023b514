"""`rollcall status`: the runs of an orchestrator, and one worker's standing in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from protocol.constants import NUM_TOKENS_PER_UNIT
from rollcall.cli.desk import address_of_text
from rollcall.cli.options import RUNS, AsJson, example
from rollcall.frame.console import open_console, show, table

if TYPE_CHECKING:
    from protocol.messages import RunInfo, VerifierInfo, WorkerInfo

commands = typer.Typer()


@commands.command(
    "status",
    rich_help_panel=RUNS,
    epilog=example("rollcall status --orchestrator http://market:8100 --worker 0xWORKER…"),
)
def status(
    orchestrator: Annotated[str, typer.Option(help="Orchestrator to ask.")],
    worker: Annotated[str | None, typer.Option(help="Also show this worker's standing.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the runs an orchestrator serves, and a worker's standing in them."""
    show_status(orchestrator, worker=worker, as_json=as_json, console=open_console())


def show_status(orchestrator: str, *, worker: str | None, as_json: bool, console: Console) -> None:
    """Print what is public; `as_json` prints one JSON object for programs."""
    from client.look import look
    from client.public import Reader

    runs = look(orchestrator)
    with Reader(orchestrator) as reader:
        standings = reader.worker(address_of_text(worker)).runs if worker else ()
        verifiers = {run.run_id: reader.verifiers(run.run_id) for run in runs}
    body = {
        "runs": [run.model_dump(mode="json") for run in runs],
        "verifiers": {
            run_id: [verifier.model_dump(mode="json") for verifier in found]
            for run_id, found in verifiers.items()
        },
        "worker": [standing.model_dump(mode="json") for standing in standings],
    }
    tables = [_runs_table(runs), _verifiers_table(verifiers)]
    if worker:
        tables.append(_standings_table(standings))
    none = f"{orchestrator} serves no run yet: `rollcall launch` makes one"
    show(console, *(tables if runs else [none]), body=body if as_json else None)


def _runs_table(runs: tuple[RunInfo, ...]) -> Table:
    rows = (
        (
            str(run.run_id),
            run.spec.name,
            run.spec.environment,
            run.status.value,
            str(run.newest_version),
            str(run.epoch),
            f"{run.spec.rate / 10**18:g}/token",
            f"{run.budget_left_units:,} tokens",
        )
        for run in runs
    )
    columns = ("run", "name", "environment", "status", "policy", "epoch", "price", "runway")
    return table("runs", columns, rows)


def _verifiers_table(verifiers: Mapping[int, tuple[VerifierInfo, ...]]) -> Table:
    rows = (
        (
            str(run_id),
            item.verifier,
            *map("{:,}".format, _counts(item)),
            ", ".join(f"{n:,} with {other}" for other, n in sorted(item.splits.items())) or "none",
            "counts" if item.has_vote else f"[red]lost[/]: {item.reason}",
        )
        for run_id, found in verifiers.items()
        for item in found
    )
    columns = (
        "run",
        "verifier",
        "accepted",
        "rejected",
        "undecided",
        "overruled",
        "splits",
        "vote",
    )
    return table("verifiers", columns, rows)


def _counts(item: VerifierInfo) -> tuple[int, ...]:
    return item.num_accepted, item.num_rejected, item.num_undecided, item.num_odd


def _standings_table(standings: tuple[WorkerInfo, ...]) -> Table:
    """Earned is what final epochs pay; owed, what was taken and no final epoch has, by the orchestrator's word."""
    rows = (
        (
            str(item.run_id),
            f"{item.accepted_groups:,} groups",
            f"{item.accepted_tokens:,}",
            ", ".join(f"{n} {why}" for why, n in sorted(item.rejected_by_reason.items())) or "none",
            f"{item.earned:,} units",
            f"{max(0, item.accepted_tokens // NUM_TOKENS_PER_UNIT - item.earned):,} units",
            _standing(item),
        )
        for item in standings
    )
    columns = ("run", "accepted", "tokens", "rejected", "earned", "owed", "standing")
    return table("worker", columns, rows)


def _standing(item: WorkerInfo) -> str:
    if item.is_excluded:
        return f"[red]excluded[/]: {item.exclusion}"
    if item.paused:
        return (
            f"[yellow]paused[/]: {escape(item.paused)}; no leases until its machine passes a self-check, which "
            "`rollcall join` makes by itself"
        )
    return f"[yellow]lowered[/]: {item.notice}" if item.notice else "good"
