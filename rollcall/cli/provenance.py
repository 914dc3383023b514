"""`rollcall provenance`: which groups and workers shaped a policy."""

from typing import Annotated

import typer

from rollcall.cli.options import DEPLOYMENT, TRUST, DeploymentFile, Rpc, example, served_run
from rollcall.cli.verify import on_chain

OrchestratorUrl = Annotated[
    str, typer.Argument(help="Orchestrator whose published records are read.")
]


commands = typer.Typer()


@commands.command(
    "provenance",
    rich_help_panel=TRUST,
    epilog=example("rollcall provenance http://market:8100 --version 40 --check 100"),
)
def provenance(
    orchestrator: OrchestratorUrl,
    version: Annotated[
        int | None, typer.Option("--version", help="Version to trace; default: the newest.", min=0)
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", help="How many steps back; default: all.", min=1)
    ] = None,
    run: Annotated[
        int | None, typer.Option("--run", help="Which run; default: the only one.")
    ] = None,
    groups: Annotated[
        bool, typer.Option("--groups", help="List the groups of every step, not of the last.")
    ] = False,
    check: Annotated[
        int,
        typer.Option("--check", help="Check so many groups against their submissions.", min=0),
    ] = 0,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="For programs; with the versions that each worker touched."),
    ] = False,
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """Show which groups and workers shaped a policy version, as its trainer signed it.

    Counts each worker's part of the tokens and of the absolute advantage, step by step back to the
    starting weights. Checks the trainer's signature and the chain of records; with --check also
    workers' signatures, token counts and rewards, from the submissions, and with --rpc that a hot key
    was its worker's. Exits 1 if one is wrong.
    """
    from audit.lineage import read_lineage
    from client.public import Reader
    from rollcall.explain.provenance import as_json as json_of
    from rollcall.explain.provenance import show_back
    from rollcall.frame.console import open_console

    with Reader(orchestrator) as reader:
        info = served_run(reader, run)
        run_id = info.run_id
        lineage = read_lineage(reader, run_id, version=version, num_steps=steps)
        excluded = {
            address
            for address in lineage.workers()
            for info in reader.worker(address).runs
            if info.run_id == run_id and info.is_excluded
        }
        if as_json:
            typer.echo(json_of(lineage, excluded))
        else:
            show_back(open_console(), lineage, excluded, all_groups=groups)
        if check:
            from audit.group import check_groups  # loads the ledger's code

            spoke_for = None if rpc is None else on_chain(reader, rpc, deployment, run_id)
            wrong = check_groups(
                *(reader, info, lineage), count=check, say=_say, spoke_for=spoke_for
            )
            _report(wrong, check)


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _report(wrong: list[str], count: int) -> None:
    for line in wrong:
        _say(f"wrong: {line}")
    if wrong:
        raise typer.Exit(1)
    _say(f"up to {count} groups were held against their submissions: all as recorded")
