"""`rollcall serve | join | train`: a party's process, from one TOML file; `verify` has a file of its own."""

from typing import Annotated

import typer

from rollcall.cli.options import ROLES, Assignments, ConfigFile, PrintConfig, example
from rollcall.frame.roles import Role

commands = typer.Typer()

Processes = Annotated[
    int | None, typer.Option("--processes", help="How many share the port; default: the config's.")
]


@commands.command(
    rich_help_panel=ROLES, epilog=example("rollcall serve --config orchestrator.toml")
)
def serve(
    config: ConfigFile = None,
    assign: Assignments = None,
    print_config: PrintConfig = False,
    processes: Processes = None,
) -> None:
    """Run the orchestrator: leases, intake, queues, settlement."""
    chosen = [] if processes is None else [f"processes={processes}"]
    Role(
        "orchestrator",
        "orchestrator.config:OrchestratorConfig",
        "orchestrator.main:main",
        has_processes=True,
    ).start(config, [*(assign or ()), *chosen], print_config)


@commands.command(
    rich_help_panel=ROLES, epilog=example("rollcall join --print-config > worker.toml")
)
def join(
    config: ConfigFile = None, assign: Assignments = None, print_config: PrintConfig = False
) -> None:
    """Work: lease tasks, sample them, submit, be paid.

    ROLLCALL_KEY signs; joining a run costs gas and holds chain.stake tokens, of which a cheat loses some.
    `rollcall doctor --calibrate` says before whether this machine would earn.
    """
    Role("worker", "rollout_worker.config:WorkerConfig", "rollout_worker.main:main").start(
        config, assign, print_config
    )


@commands.command(
    rich_help_panel=ROLES, epilog=example("rollcall train --config trainer.toml --set steps=200")
)
def train(
    config: ConfigFile = None, assign: Assignments = None, print_config: PrintConfig = False
) -> None:
    """Train: take batches, make optimizer steps, publish policies."""
    Role("trainer", "trainer.config:TrainerConfig", "trainer.main:main").start(
        config, assign, print_config
    )
