"""`rollcall verify`: the verifier's process, or with `--explain` one verdict explained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from protocol.user_error import UserError
from rollcall.cli.desk import word_of
from rollcall.cli.options import (
    DEPLOYMENT,
    ROLES,
    Assignments,
    ConfigFile,
    DeploymentFile,
    PrintConfig,
    Rpc,
    example,
)
from rollcall.frame.console import errors, open_console
from rollcall.frame.logs import quiet_libraries
from rollcall.frame.roles import Role

if TYPE_CHECKING:
    from client.public import Reader
    from protocol.commitment import SpokeFor

KINDS = ("anchor", "patch", "skip_patch")
"""The kind under which weights are fetched."""
EXPLAIN = "Explain a verdict"
"""Panel of `rollcall verify --help`."""

commands = typer.Typer()


@commands.command(
    "verify",
    rich_help_panel=ROLES,
    epilog=example(
        "rollcall verify --config verifier.toml",
        "rollcall verify --explain 0xDIGEST… --orchestrator http://market:8100",
    ),
)
def verify(
    config: ConfigFile = None,
    assign: Assignments = None,
    print_config: PrintConfig = False,
    explain: Annotated[
        str | None,
        typer.Option(metavar="DIGEST", help="Replay this submission.", rich_help_panel=EXPLAIN),
    ] = None,
    orchestrator: Annotated[
        str | None, typer.Option(help="Orchestrator to ask.", rich_help_panel=EXPLAIN)
    ] = None,
    run_id: Annotated[
        int | None, typer.Option("--run", help="Default: all.", rich_help_panel=EXPLAIN)
    ] = None,
    all_positions: Annotated[
        bool,
        typer.Option("--all-positions", help="Not only the worst.", rich_help_panel=EXPLAIN),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="For programs.", rich_help_panel=EXPLAIN)
    ] = False,
    device: Annotated[
        str, typer.Option(help="cpu, cuda or cuda:N.", rich_help_panel=EXPLAIN)
    ] = "cpu",
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """Verify: replay what workers sampled, sign verdicts and epochs.

    With --explain: replay one submission from public data, position by position, say what was done, and check
    its signed verdicts. With a node, the run's terms are held to the chain and hot keys are looked up. Needs no key;
    exits 1 if a verdict is not reproduced.
    """
    if explain is None:
        if orchestrator or run_id is not None or as_json or all_positions:
            raise UserError(
                "--orchestrator, --run, --json and --all-positions go with --explain; a verifier itself "
                "takes its settings from --config and --set, as --set orchestrator=URL"
            )
        Role(
            "verifier",
            "rollout_worker.config:VerifierConfig",
            "rollout_worker.verify.opening:main",
            has_duties=True,
        ).start(config, assign, print_config)
        return
    quiet_libraries()
    # Before what takes seconds to load.
    if orchestrator is None:
        raise UserError("--explain needs --orchestrator URL: whose public data is read")
    work_digest = word_of(explain, "a submission's digest")
    with errors.status("loading torch"):
        from client.public import Reader
        from rollcall.explain.explain import explain as explained
        from rollcall.explain.view import show, to_json
    reader = Reader(orchestrator)
    spoke_for = None if rpc is None else on_chain(reader, rpc, deployment, run_id)
    if rpc is None:
        errors.print("[dim]the terms are the orchestrator's word: --rpc holds them to the chain[/]")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with reader, Progress(*columns, console=errors, transient=True) as progress:
        bars = {kind: progress.add_task(kind, total=None, visible=False) for kind in KINDS}

        def fetched(kind: str, done: int, size: int) -> None:
            progress.update(bars[kind], completed=done, total=size, visible=True)

        found = explained(
            *(reader, work_digest),
            run_id=run_id,
            device=device,
            fetched=fetched,
            spoke_for=spoke_for,
        )
    if as_json:
        typer.echo(to_json(found, all_positions=all_positions))
    else:
        show(found, open_console(), all_positions=all_positions)
    raise typer.Exit(0 if found.holds else 1)


def on_chain(reader: Reader, rpc: str, deployment: Path, run_id: int | None) -> SpokeFor:
    """Compare the runs' terms with the chain; return who spoke for whom there."""
    from audit.chain_facts import Keys
    from audit.record import require_agreed
    from rollcall.cli.desk import connect, read_deployment

    ledger = connect(rpc, read_deployment(deployment), None)
    for info in reader.runs() if run_id is None else (reader.run(run_id),):
        require_agreed(reader.url, info.run_id, info.spec, ledger)
    return Keys(ledger).spoke_for
