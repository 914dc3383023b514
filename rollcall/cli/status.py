"""`rollcall status`: the runs of an orchestrator, and one worker's standing in them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from ledger.amounts import USUAL
from rollcall.cli.desk import address_of_text
from rollcall.cli.options import DEPLOYMENT, RUNS, AsJson, DeploymentFile, Rpc, example
from rollcall.cli.options import desk as desk_at
from rollcall.cli.times import moment
from rollcall.frame.console import facts, open_console, show

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
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """Show the runs an orchestrator serves, and a worker's standing in them.

    With --rpc also what the worker was paid and can claim, as the chain has it.
    """
    show_status(orchestrator, worker=worker, as_json=as_json, console=open_console())
    if rpc and not as_json:
        _show_node(rpc)
    if worker and rpc and not as_json:
        _show_pay(orchestrator, address_of_text(worker), rpc, deployment)


def _show_node(rpc: str) -> None:
    """Print where the chain stands, and what this node does not give of it."""
    from rollcall.machine.doctor import check_chain

    node = check_chain(rpc)
    typer.echo(f"node: {node.found}" + (f" ({node.remedy})" if node.remedy else ""))


def _show_pay(orchestrator: str, worker: str, rpc: str, deployment: Path) -> None:
    """Print earned, claimed and claimable, and what is in its challenge window, as `rollcall claim` does."""
    from rollcall.cli.claim import newest_posted, pay_of
    from rollcall.cli.epoch_files import from_market

    with desk_at(rpc, deployment) as desk:
        for file in newest_posted(desk, from_market(desk, orchestrator, None)):
            pay_of(desk, file, worker)


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
    parts: list[RenderableType] = [_run(run, verifiers[run.run_id]) for run in runs]
    parts += map(_standing, standings)
    if not runs:
        parts = [f"{orchestrator} serves no run yet: `rollcall launch` makes one"]
    show(console, *parts, body=body if as_json else None)
    if worker and not standings and not as_json:
        console.print(f"{worker} has leased in no run here: `rollcall join` works for one")


def _run(run: RunInfo, verifiers: tuple[VerifierInfo, ...]) -> Table:
    now = int(time.time())
    policy = f"{run.newest_version}, made {moment(run.published_at, now)}"
    told = [
        ("status", f"{run.status.value}; permit until {moment(run.permit_until, now)}"),
        ("environment", escape(run.spec.environment)),
        ("policy", policy if run.newest_version >= 0 else "none published yet"),
        ("epoch", str(run.epoch)),
        ("pays", f"{USUAL.show(run.spec.rate * 10**6)} per million sampled (of 18 decimals)"),
        ("budget left", f"{run.budget_left_units:,} tokens to sample"),
        ("verifiers", f"{run.threshold} must agree, {run.num_voters} have a vote"),
        *(("", f"{item.verifier}: {_verifier(item)}") for item in verifiers),
    ]
    return facts(f"run {run.run_id}: {escape(run.spec.name)}", told)


def _verifier(item: VerifierInfo) -> str:
    splits = ", ".join(f"{n:,} with {other}" for other, n in sorted(item.splits.items()))
    vote = "its vote counts" if item.has_vote else f"its vote is [red]lost[/]: {item.reason}"
    return (
        f"{vote}; accepted {item.num_accepted:,}, rejected {item.num_rejected:,}, undecided "
        f"{item.num_undecided:,}, overruled {item.num_odd:,}, unopened {item.num_unopened:,}, splits {splits or 'none'}"
    )


def _standing(item: WorkerInfo) -> Table:
    """Final is what can be claimed or was; the rest of what was accepted is the orchestrator's word yet."""
    rejected = ", ".join(f"{n} {why}" for why, n in sorted(item.rejected_by_reason.items()))
    told = [
        ("accepted", f"{item.accepted_groups:,} groups of {item.accepted_tokens:,} tokens"),
        ("rejected", rejected or "none"),
        ("in no final epoch", f"{max(0, item.accepted_tokens - item.earned):,} tokens"),
        ("in final epochs", f"{item.earned:,} tokens: `rollcall claim` shows and pays them"),
        ("standing", _word(item)),
    ]
    return facts(f"{item.worker} in run {item.run_id}", told)


def _word(item: WorkerInfo) -> str:
    if item.is_excluded:
        return f"[red]excluded[/]: {item.exclusion}"
    if item.paused:
        return (
            f"[yellow]paused[/]: {escape(item.paused)}; no leases until its machine passes a self-check, which "
            "`rollcall join` makes by itself"
        )
    return f"[yellow]lowered[/]: {item.notice}" if item.notice else "good"
