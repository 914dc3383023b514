"""`rollcall status`: the runs of an orchestrator, and one worker's standing in them."""

import json
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from client.public import Reader
from protocol.messages import RunInfo, VerifierInfo, WorkerInfo
from protocol.user_error import UserError
from protocol.wire import checksum_address


def show(orchestrator: str, *, worker: str | None, as_json: bool, console: Console) -> None:
    """Print what is public; `as_json` prints one JSON object for programs."""
    with Reader(orchestrator) as reader:
        runs = reader.runs()
        standings = reader.worker(_address(worker)).runs if worker else ()
        verifiers = {run.run_id: reader.verifiers(run.run_id) for run in runs}
    if as_json:
        body = {
            "runs": [run.model_dump(mode="json") for run in runs],
            "verifiers": {
                run_id: [verifier.model_dump(mode="json") for verifier in found]
                for run_id, found in verifiers.items()
            },
            "worker": [standing.model_dump(mode="json") for standing in standings],
        }
        console.print_json(json.dumps(body))
        return
    if not runs:
        console.print(f"{orchestrator} serves no run yet: `rollcall launch` makes one")
        return
    console.print(_runs_table(runs))
    console.print(_verifiers_table(verifiers))
    if worker:
        console.print(_standings_table(standings))


def _address(text: str) -> str:
    try:
        return checksum_address(text)
    except ValueError as error:
        raise UserError(str(error)) from error


def _runs_table(runs: tuple[RunInfo, ...]) -> Table:
    table = Table(title="runs")
    for column in ("run", "name", "environment", "status", "policy", "epoch", "price", "runway"):
        table.add_column(column)
    for run in runs:
        table.add_row(
            str(run.run_id),
            run.spec.name,
            run.spec.environment,
            run.status.value,
            str(run.newest_version),
            str(run.epoch),
            f"{run.spec.rate / 10**18:g}/token",
            f"{run.budget_left_units:,} tokens",
        )
    return table


def _verifiers_table(verifiers: Mapping[int, tuple[VerifierInfo, ...]]) -> Table:
    table = Table(title="verifiers")
    for column in ("run", "verifier", "accepted", "rejected", "undecided", "overruled", "vote"):
        table.add_column(column)
    for run_id, found in verifiers.items():
        for item in found:
            counts = (item.num_accepted, item.num_rejected, item.num_undecided, item.num_odd)
            vote = "counts" if item.has_vote else f"[red]lost[/]: {item.reason}"
            table.add_row(str(run_id), item.verifier, *(f"{n:,}" for n in counts), vote)
    return table


def _standings_table(standings: tuple[WorkerInfo, ...]) -> Table:
    table = Table(title="worker")
    for column in ("run", "accepted", "tokens", "waiting", "rejected", "earned", "standing"):
        table.add_column(column)
    for item in standings:
        rejected = ", ".join(f"{n} {why}" for why, n in sorted(item.rejected_by_reason.items()))
        table.add_row(
            str(item.run_id),
            f"{item.accepted_groups:,} groups",
            f"{item.accepted_tokens:,}",
            str(item.waiting_groups),
            rejected or "none",
            f"{item.earned:,} units",
            _standing(item),
        )
    return table


def _standing(item: WorkerInfo) -> str:
    if item.is_excluded:
        return f"[red]excluded[/]: {item.exclusion}"
    if item.paused:
        return (
            f"[yellow]paused[/]: {escape(item.paused)}; no leases until its machine passes a self-check, which "
            "`rollcall join` makes by itself"
        )
    return f"[yellow]lowered[/]: {item.notice}" if item.notice else "good"
