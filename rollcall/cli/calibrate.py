"""`rollcall calibrate`: measure honest replay and write the bounds that a run needs."""

from pathlib import Path
from typing import Annotated

import typer

from protocol.user_error import UserError
from rollcall.cli.options import MACHINE, example
from rollcall.frame.logs import quiet_libraries

commands = typer.Typer()


@commands.command(
    rich_help_panel=MACHINE,
    epilog=example("rollcall calibrate --model DIR --dtype float16 --policy LAST.safetensors"),
)
def calibrate(
    model: Annotated[Path, typer.Option(help="Model folder.")] = Path("models/start"),
    dtype: Annotated[
        str | None,
        typer.Option(
            help="The run's dtype: float32, float16 or bfloat16; default: float32 on a CPU, "
            "float16 on a GPU."
        ),
    ] = None,
    engine: Annotated[
        list[str] | None, typer.Option(help="Engines to measure; default: vllm and transformers.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    environment: Annotated[str, typer.Option(help="Environment of the prompts.")] = "arithmetic",
    groups: Annotated[
        int, typer.Option(help="Honest groups per policy and machine.", min=100)
    ] = 512,
    max_tokens: Annotated[int, typer.Option(help="Longest completion.")] = 64,
    temperature: Annotated[float, typer.Option(help="The run's temperature.")] = 1.0,
    policy: Annotated[
        list[Path] | None,
        typer.Option(help="More weights to measure, such as a run's later policies and its last."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Thresholds to write; default: in the model folder.")
    ] = None,
    blind: Annotated[
        bool, typer.Option("--blind", help="Also write bounds that int8 weights would pass.")
    ] = False,
    check: Annotated[
        Path | None,
        typer.Option(help="Write nothing; test fresh honest groups against these thresholds."),
    ] = None,
) -> None:
    """Measure honest replay across machines and write the thresholds that a run needs.

    Samples and replays on every engine, also as older processors do, with more threads and other batches.
    Shows how far the bounds are from the faintest cheat.
    """
    quiet_libraries()
    from protocol.errors import Malformed
    from protocol.precision import ComputeDtype
    from protocol.verdict import Thresholds
    from rollcall.machine.calibrate import calibrate_to_file, hold_to
    from rollcall.machine.variation import Bench

    dtype = dtype or ("float16" if device.startswith("cuda") else "float32")
    if dtype not in list(ComputeDtype):
        raise UserError(f"dtype {dtype!r} is unknown; choose one of {', '.join(ComputeDtype)}")
    bench = Bench(
        model=model,
        policies=(model, *(policy or ())),
        dtype=dtype,
        engines=tuple(engine or ("vllm", "transformers")),
        device=device,
        environment=environment,
        num_groups=groups,
        max_tokens=max_tokens,
        temperature_millionths=round(temperature * 1_000_000),
    )
    bench.workload(1)  # refuses a folder that is none, and one that no run may have
    if check is not None:
        if not check.is_file():
            raise UserError(f"no thresholds at {check}: rollcall calibrate --out writes them")
        try:
            bounds = Thresholds.from_json(check.read_bytes())
        except Malformed as error:
            raise UserError(f"{check} is not one set of bounds: {error.message}") from error
        raise typer.Exit(0 if hold_to(bounds, bench, say=typer.echo) else 1)
    calibrate_to_file(
        bench,
        out=out or model / "thresholds.json",
        accepts_blind=blind,
        say=typer.echo,
    )
