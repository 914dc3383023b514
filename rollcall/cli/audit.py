"""`rollcall audit`: recompute every epoch of a market from public data, and say what differs.

If the ledger can be shown a fault, the command writes the transaction that shows it to a file, and sends
it if asked to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from protocol.user_error import UserError, hosts_only
from rollcall.cli.desk import connect, read_deployment
from rollcall.cli.options import DEPLOYMENT, TRUST, DeploymentFile, Rpc, example, require_rpc
from rollcall.frame.console import open_console, table

if TYPE_CHECKING:
    from audit.epoch import EpochReport
    from audit.run import RunReport

MOST_SHOWN = 20
"""Most differences printed per epoch; the proof file and the exit code do not depend on it."""

OrchestratorUrl = Annotated[
    str, typer.Argument(help="Orchestrator whose published files are read.")
]

commands = typer.Typer()


@commands.command(
    "audit",
    rich_help_panel=TRUST,
    epilog=example("rollcall audit http://market:8100 --rpc http://node:8545 --run 1"),
)
def audit(
    url: OrchestratorUrl,
    run: Annotated[int | None, typer.Option(help="Only this run.")] = None,
    proof: Annotated[
        Path, typer.Option(help="File for the ready fraud proof, if there is one.")
    ] = Path("fraud-proof.json"),
    submissions: Annotated[
        int | None,
        typer.Option(min=0, help="Submissions to look at per epoch, drawn; default: all."),
    ] = None,
    send: Annotated[
        bool, typer.Option("--send", help="Send the fraud proof. ROLLCALL_KEY pays gas only.")
    ] = False,
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """Recompute every epoch from the chain and the published files; exit 1 on any difference."""
    from rollcall.frame.keys import key_from_environment

    reports = audit_market(
        url,
        rpc=require_rpc(rpc),
        deployment=deployment,
        run_id=run,
        proof_file=proof,
        most_submissions=submissions,
        key=key_from_environment() if send else None,
        console=open_console(),
    )
    raise typer.Exit(0 if all(report.holds for report in reports) else 1)


def audit_market(
    url: str,
    *,
    rpc: str,
    deployment: Path,
    console: Console,
    run_id: int | None = None,
    proof_file: Path = Path("fraud-proof.json"),
    most_submissions: int | None = None,
    key: bytes | None = None,
) -> list[RunReport]:
    """Audit an orchestrator's runs and show the result. A `key` sends the proof."""
    from eth_account import Account

    from audit.record import PublicRecord
    from audit.run import audit_run, first_proof
    from client.public import Reader
    from ledger.errors import LedgerError
    from rollcall.cli.fraud_proof import write_proof

    account = None if key is None else Account.from_key(key)
    ledger = connect(rpc, read_deployment(deployment), account)
    try:
        with Reader(url) as reader:
            record = PublicRecord(reader, ledger)
            reports = [
                audit_run(record, run, most_submissions=most_submissions)
                for run in record.run_ids(run_id)
            ]
            show(reports, console)
            proof = first_proof(reports)
            if proof is not None:
                write_proof(ledger, proof, proof_file)
                console.print(f"the transaction that proves it: {proof_file} ({proof.method})")
                if key is not None:
                    getattr(ledger, proof.method)(*proof.arguments)
                    console.print(
                        f"sent {proof.method}: the epoch is void, its signers are slashed"
                    )
    except LedgerError as error:
        raise UserError(f"the ledger at {hosts_only(rpc)}: {error}") from error
    return reports


def show(reports: Sequence[RunReport], console: Console) -> None:
    """Print one row per epoch, then every difference."""
    columns = "run epoch stands groups units roots signatures seeds replays paid verdict"
    rows = (_row(epoch) for report in reports for epoch in report.epochs)
    console.print(table("audit", columns.split(), rows, right=["paid"]))
    for report in reports:
        _show_differences(f"run {report.run_id}", report.differences, console)
        for epoch in report.epochs:
            name = f"run {report.run_id} epoch {epoch.posted.epoch}"
            _show_differences(name, epoch.differences[:MOST_SHOWN], console)
            more = len(epoch.differences) - MOST_SHOWN
            if more > 0:
                _show_differences(name, [f"and {more:,} more"], console)
        if not report.epochs:
            console.print(f"run {report.run_id} has posted no epoch yet")
    if all(report.holds for report in reports):
        console.print("[green]✓[/] nothing differs")


def _show_differences(where: str, differences: Iterable[str], console: Console) -> None:
    for what in differences:
        console.print(f"[red]✗[/] {where}: {escape(what)}")


def _row(epoch: EpochReport) -> tuple[str, ...]:
    share = f"{epoch.claimed / epoch.posted.cost:.0%}" if epoch.posted.cost else "–"
    return (
        str(epoch.posted.run_id),
        str(epoch.posted.epoch),
        epoch.posted.fate.value,
        f"{epoch.num_groups:,}",
        f"{epoch.units:,}",
        "ok" if epoch.roots_hold else "[red]differ[/]",
        _of(epoch.num_signed, epoch.num_groups),
        _of(epoch.num_drawn, epoch.num_looked_at),
        _of(epoch.num_replayed, epoch.num_due),
        share,
        "[green]holds[/]" if epoch.holds else "[red]differs[/]",
    )


def _of(good: int, total: int) -> str:
    text = f"{good:,}/{total:,}"
    return text if good == total else f"[red]{text}[/]"
