"""The `rollcall` command: one process per role, each from its TOML config.

Heavy libraries are imported inside the command that needs them, so `rollcall --help` is quick and a
worker needs no orchestrator installed.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from protocol.user_error import UserError, one_line
from rollcall.cli.commands import council, disputes, money, provenance, runs, stakes
from rollcall.cli.commands.options import (
    DEPLOYMENT,
    MACHINE,
    MONEY,
    ROLES,
    RUNS,
    DeploymentFile,
    Rpc,
    desk,
    example,
)
from rollcall.frame.logs import quiet_libraries
from rollcall.frame.roles import Role, settings_of

app = typer.Typer(
    name="rollcall",
    help="A market for RL post-training: strangers sample, a model learns, workers are paid.",
    epilog="Start with [bold]rollcall demo[/]. Every role takes --config FILE; "
    "--print-config writes one with each setting explained.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
errors = Console(stderr=True, highlight=False, soft_wrap=True)
MEASURE = "With --calibrate"
EXPLAIN = "Explain a verdict"
"""Panel of `rollcall verify --help`."""
STOPPED = 130
"""Exit code after Ctrl-C, as shells give it (128 + SIGINT)."""

ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file of this role.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="a.b=value", help="Override one setting; may be repeated."),
]
PrintConfig = Annotated[
    bool, typer.Option("--print-config", help="Print the settings as TOML and end.")
]


@app.command(rich_help_panel=MACHINE, epilog=example("rollcall demo --steps 60 --report out/"))
def demo(
    steps: Annotated[int, typer.Option(help="Optimizer steps of the trainer.", min=2)] = 30,
    report: Annotated[
        Path, typer.Option(help="Folder for report.json, report.png and the logs.")
    ] = Path("out"),
    plain: Annotated[bool, typer.Option(help="Lines instead of the live view.")] = False,
    seed: Annotated[int, typer.Option(help="Seeds the trainer's evaluation.")] = 0,
) -> None:
    """Run a whole market on this machine and check what it claims.

    Starts Redis, a chain, the orchestrator, a verifier, the trainer and three workers: one on vLLM,
    one on transformers, one that cheats. Ends by itself; exits 0 only if every claim holds.
    """
    from rollcall.demo.run import run_demo

    try:
        all_hold = run_demo(steps=steps, folder=report, plain=plain, seed=seed)
    except KeyboardInterrupt as stopped:
        errors.print("stopped; every process that was started has ended")
        raise typer.Exit(STOPPED) from stopped
    raise typer.Exit(0 if all_hold else 1)


@app.command(
    rich_help_panel=MACHINE,
    epilog=example(
        "rollcall doctor --orchestrator http://market:8100 --rpc http://node:8545",
        "rollcall doctor --calibrate --orchestrator http://market:8100 --run 1",
    ),
)
def doctor(
    orchestrator: Annotated[str | None, typer.Option(help="Orchestrator to ask.")] = None,
    rpc: Annotated[str | None, typer.Option(help="Chain node to ask.")] = None,
    deployment: Annotated[Path | None, typer.Option(help="Ledger to ask there.")] = None,
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
        typer.Option(help="Model folder, where no orchestrator is.", rich_help_panel=MEASURE),
    ] = Path("models/start"),
    thresholds: Annotated[
        Path | None,
        typer.Option(help="Bounds; default: in the model folder.", rich_help_panel=MEASURE),
    ] = None,
    environment: Annotated[
        str, typer.Option(help="Whose prompts, with --model.", rich_help_panel=MEASURE)
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
    """Check this machine and the market, one line each with the remedy.

    With --calibrate: whether a run would pay for what this machine samples, and by how much it passes,
    before anything is at stake. Exits 1 where it would not.
    """
    from rollcall.frame.console import open_console
    from rollcall.machine.doctor import State, examine

    console = open_console()
    if calibrate:
        quiet_libraries()
        from rollcall.machine.checkup import Machine, check_up

        machine = Machine(
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
        try:
            earns = check_up(machine, as_json=as_json, console=console)
        except KeyboardInterrupt as stopped:
            errors.print("stopped; nothing was sent and nothing is kept")
            raise typer.Exit(STOPPED) from stopped
        raise typer.Exit(0 if earns else 1)
    marks = {State.OK: "[green]✓[/]", State.NOTE: "[yellow]·[/]", State.FAIL: "[red]✗[/]"}
    failed = False
    for check in examine(orchestrator=orchestrator, rpc=rpc, deployment=deployment, folder=folder):
        remedy = f"  [dim]→ {escape(check.remedy)}[/]" if check.remedy else ""
        console.print(f"{marks[check.state]} {check.name:<13}{escape(check.found)}{remedy}")
        failed |= check.state is State.FAIL
    raise typer.Exit(1 if failed else 0)


@app.command(rich_help_panel=ROLES, epilog=example("rollcall serve --config orchestrator.toml"))
def serve(
    config: ConfigFile = None, assign: Assignments = None, print_config: PrintConfig = False
) -> None:
    """Run the orchestrator: leases, intake, queues, settlement."""
    Role("orchestrator", "orchestrator.config:Config", "orchestrator.main:main").start(
        config, assign, print_config
    )


@app.command(rich_help_panel=ROLES, epilog=example("rollcall join --print-config > worker.toml"))
def join(
    config: ConfigFile = None, assign: Assignments = None, print_config: PrintConfig = False
) -> None:
    """Work: lease tasks, sample them, submit, be paid."""
    Role("worker", "rollout_worker.config:WorkerConfig", "rollout_worker.main:main").start(
        config, assign, print_config
    )


@app.command(
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
        bool, typer.Option(help="Not only the worst.", rich_help_panel=EXPLAIN)
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

    With --explain: replay one submission from public data, position by position, say what was done, and hold
    its signed verdicts against that. Needs no key; exits 1 where a verdict is not reproduced.
    """
    if explain is not None:
        quiet_libraries()
        from rollcall.cli.commands.explaining import explain_one

        holds = explain_one(
            explain,
            *(orchestrator, run_id, device),
            all_positions=all_positions,
            as_json=as_json,
            rpc=rpc,
            deployment=deployment,
        )
        raise typer.Exit(0 if holds else 1)
    Role(
        "verifier", "rollout_worker.config:VerifierConfig", "rollout_worker.verify.main:main"
    ).start(config, assign, print_config)


@app.command(
    rich_help_panel=ROLES, epilog=example("rollcall train --config trainer.toml --set steps=200")
)
def train(
    config: ConfigFile = None, assign: Assignments = None, print_config: PrintConfig = False
) -> None:
    """Train: take batches, make optimizer steps, publish policies."""
    Role("trainer", "trainer.config:Config", "trainer.main:main").start(
        config, assign, print_config
    )


@app.command(rich_help_panel=RUNS, epilog=example("rollcall launch --print-config > launch.toml"))
def launch(
    config: ConfigFile = None,
    assign: Assignments = None,
    print_config: PrintConfig = False,
    register: Annotated[
        int | None, typer.Option(help="Only tell the orchestrator about this run again.")
    ] = None,
) -> None:
    """Put a run on chain with its budget in escrow, and tell the orchestrator."""
    from rollcall.cli import launch as launching
    from rollcall.cli.spec import spec_of
    from rollcall.frame.keys import key_from_environment

    settings = settings_of("rollcall.cli.launch_config:LaunchConfig", config, assign, print_config)
    if register is not None:
        spec = spec_of(
            settings.plan,
            orchestrator=settings.orchestrator_address,
            trainer=settings.trainer_address,
        )
        launching.register(settings.orchestrator, register, spec, typer.echo)
        typer.echo(f"{settings.orchestrator} serves run {register}")
        return
    launching.launch(settings, key_from_environment(), typer.echo)


@app.command(
    rich_help_panel=RUNS,
    epilog=example("rollcall status --orchestrator http://market:8100 --worker 0xWORKER…"),
)
def status(
    orchestrator: Annotated[str, typer.Option(help="Orchestrator to ask.")],
    worker: Annotated[str | None, typer.Option(help="Also show this worker's standing.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show the runs an orchestrator serves, and a worker's standing in them."""
    from rollcall.cli.status import show
    from rollcall.frame.console import open_console

    show(orchestrator, worker=worker, as_json=as_json, console=open_console())


@app.command(
    rich_help_panel=MACHINE,
    epilog=example("rollcall calibrate --model DIR --dtype float16 --policy LAST.safetensors"),
)
def calibrate(
    model: Annotated[Path, typer.Option(help="Model folder.")] = Path("models/start"),
    dtype: Annotated[
        str | None,
        typer.Option(
            help="What the run computes in: float32, float16 or bfloat16; default: float32 on a CPU, "
            "float16 on a GPU."
        ),
    ] = None,
    engine: Annotated[
        list[str] | None, typer.Option(help="Engines to measure; default: vllm and transformers.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    environment: Annotated[str, typer.Option(help="Whose prompts to sample.")] = "arithmetic",
    groups: Annotated[
        int, typer.Option(help="Honest groups per policy and machine.", min=100)
    ] = 512,
    max_tokens: Annotated[int, typer.Option(help="Longest completion.")] = 64,
    temperature: Annotated[float, typer.Option(help="The run's temperature.")] = 1.0,
    policy: Annotated[
        list[Path] | None,
        typer.Option(help="Further weights to measure: a run's later policies, its last one."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Thresholds to write; default: in the model folder.")
    ] = None,
    blind: Annotated[
        bool, typer.Option("--blind", help="Also write bounds that int8 weights would pass.")
    ] = False,
    check: Annotated[
        Path | None,
        typer.Option(help="Write nothing: hold fresh honest groups to these thresholds."),
    ] = None,
) -> None:
    """Measure honest replay across machines and write the thresholds that a run needs.

    Samples and replays as older processors do, with more threads and other batches, on every engine, and
    shows how far the bounds are from the faintest cheat.
    """
    quiet_libraries()
    from protocol.precision import ComputeDtype
    from protocol.verdict import Thresholds
    from rollcall.machine.calibrate import calibrate_to_file, hold_to
    from rollcall.machine.variation import Bench

    dtype = dtype or ("float16" if device.startswith("cuda") else "float32")
    if dtype not in list(ComputeDtype):
        raise UserError(f"dtype {dtype!r} is unknown; choose one of {', '.join(ComputeDtype)}")
    bench = Bench(
        model=model,
        policies=(model / "model.safetensors", *(policy or ())),
        dtype=dtype,
        engines=tuple(engine or ("vllm", "transformers")),
        device=device,
        environment=environment,
        num_groups=groups,
        max_tokens=max_tokens,
        temperature_millionths=round(temperature * 1_000_000),
    )
    if check is not None:
        bounds = Thresholds.from_json(check.read_bytes())
        raise typer.Exit(0 if hold_to(bounds, bench, say=typer.echo) else 1)
    calibrate_to_file(
        bench,
        out=out or model / "thresholds.json",
        accepts_blind=blind,
        say=typer.echo,
    )


@app.command(rich_help_panel=MACHINE, epilog=example("rollcall containers --steps 50"))
def containers(
    folder: Annotated[Path, typer.Option(help="Checkout with compose.yaml.")] = Path(),
    steps: Annotated[int, typer.Option(help="Optimizer steps of the trainer.")] = 50,
) -> None:
    """Write the keys (.env) and configs (compose/) that compose.yaml mounts."""
    from rollcall.demo.containers import write_containers

    for path in write_containers(folder, steps=steps):
        typer.echo(path)


@app.command(rich_help_panel=MACHINE, epilog=example("rollcall key"))
def key(
    private_only: Annotated[bool, typer.Option(help="Print only the private key.")] = False,
) -> None:
    """Make a new key. Keep the private part in the environment, never in a file you share."""
    from protocol.signing import address_of
    from rollcall.frame.keys import KEY_VARIABLE, new_key

    made = new_key()
    typer.echo(
        f"0x{made.hex()}"
        if private_only
        else f"{KEY_VARIABLE}=0x{made.hex()}  # {address_of(made)}"
    )


@app.command(rich_help_panel=MONEY, epilog=example("rollcall consent --owner 0xCOLD…"))
def consent(
    owner: Annotated[str, typer.Option(help="The cold account this hot key will work for.")],
    rpc: Rpc = None,
    deployment: DeploymentFile = DEPLOYMENT,
) -> None:
    """Print this hot key's signed consent to act for a cold account."""
    from eth_account import Account

    from rollcall.cli.desk import address_of_text
    from rollcall.frame.keys import key_from_environment

    account = Account.from_key(key_from_environment())
    with desk(rpc, deployment) as at:
        typer.echo("0x" + at.ledger.sign_consent(account, address_of_text(owner)).hex())


for group in (runs, stakes, money, disputes, council, provenance):
    group.register(app)


def main() -> None:
    """Run a command; a mistake is one line and exit code 1, Ctrl-C is exit code 130."""
    from protocol.errors import MarketError

    try:
        app()
    except UserError as error:
        errors.print(f"[red]✗[/] {escape(str(error))}")
        sys.exit(1)
    except MarketError as error:
        errors.print(f"[red]✗[/] {error.code}: {escape(error.message)}")
        sys.exit(1)
    except _ledger_errors() as error:
        errors.print(f"[red]✗[/] {escape(one_line(error))}")
        sys.exit(1)


def _ledger_errors() -> tuple[type[Exception], ...]:
    """Return what a role may raise about the chain. Nothing where web3 was never loaded."""
    loaded = sys.modules.get("ledger.errors")
    return (loaded.LedgerError,) if loaded is not None else ()


if __name__ == "__main__":
    main()
