"""`rollcall calibrate`: measure honest replay across machines, and write the bounds that follow.

Bounds must hold on machines that are not here. So every engine samples honest groups of every given policy,
under older instruction sets, with two threads and with other batches, and several of these machines replay
each group (`variation.py`, one process each). The loosest sets the bounds (`protocol.checks.calibration`).
Beside them int8, int4 and a temperature 3 % off are sampled, to show readers how far the bounds are from the
faintest cheat; bounds that int8 would pass are not written.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median

from local.files import write_whole
from protocol.checks.calibration import INT8_CAUGHT, run_length, share_caught, thresholds_of
from protocol.checks.sequential import check
from protocol.constants import MICRO
from protocol.policies.manifest import Weights, entries, policy_digest
from protocol.precision import ComputeDtype
from protocol.user_error import UserError
from protocol.verdict import ReplayStats, Statistic, Thresholds, excess, judge
from rollcall.demo.processes import Command, Processes
from rollcall.machine.variation import GROUP_SIZE, Bench, ChildJob, Setting, read_stats, stats_file
from rollout_worker.engines.causal import read_weights
from rollout_worker.engines.overflow import require_range
from rollout_worker.engines.registry import NAMES

FALSE_REJECTS_PER_MILLION = 100
FALSE_ALARMS_PER_MILLION = 10
CHEAT_GROUPS = 128
"""Groups of each cheat and policy, which are shown, not fitted."""
FRESH = 1_000
"""The first of the salts whose seeds no calibration draws."""
CHEATS = {"int8 weights": (8, 1.0), "int4 weights": (4, 1.0), "temperature 3 % lower": (0, 0.97)}
"""For each cheat: bits of the weights, and the factor on the temperature."""

BLIND = {
    ComputeDtype.BFLOAT16: (
        "bfloat16 rounds to 1 in 256: int8 weights, an fp8 cache and temperatures a few per cent off look like "
        "rounding in one group and often in hundreds; float32 on CPUs and float16 on GPUs tell them in one"
    ),
    ComputeDtype.FLOAT16: (
        "float16 rounds to 1 in 2,048: near ties up to about 0.004 nats can be forked without a trace in one "
        "group"
    ),
}
"""The cheats that a dtype cannot see, printed with its bounds."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sample:
    """Groups of one policy by one sampler, with each replaying machine's figures."""

    label: str
    stats: tuple[tuple[ReplayStats, ...], ...]


def calibrate_to_file(bench: Bench, *, out: Path, accepts_blind: bool, say: Say) -> Thresholds:
    """Write the bounds to `out`, replacing older ones; raise `UserError` if they would be blind."""
    policies = _policies(bench)
    _require_range(bench, say)
    honest, cheats = _measured(bench, 0, say)
    bounds = thresholds_of(
        [stats for sample in honest for stats in sample.stats],
        compute_dtype=bench.compute_dtype,
        model_digest=policy_digest(entries(policies[0])),
        varied=[sample.label for sample in honest],
        int8=[stats for sample in cheats["int8 weights"] for stats in sample.stats],
        false_rejects_per_million=FALSE_REJECTS_PER_MILLION,
        false_alarms_per_million=FALSE_ALARMS_PER_MILLION,
    )
    for line in report(honest, cheats, bounds):
        say(line)
    caught = bounds.int8_caught_millionths / MICRO
    if caught < INT8_CAUGHT and not accepts_blind:
        raise UserError(
            f"these bounds would let {1 - caught:.0%} of int8 groups pass: calibrate in float32 (or float16 on "
            "GPUs), or say --blind to write them all the same"
        )
    write_whole(out, bounds.model_dump_json(indent=2) + "\n")
    say(f"wrote {out}")
    return bounds


def hold_to(bounds: Thresholds, bench: Bench, *, say: Say) -> bool:
    """Measure fresh groups and return whether honest ones keep within these earlier bounds.

    The sequential test takes every sample as one worker, on every machine that replays.
    """
    digest = policy_digest(entries(_policies(bench)[0]))
    if misfit := bounds.misfit(model_digest=digest, compute_dtype=bench.compute_dtype):
        raise UserError(misfit)
    honest, cheats = _measured(bench, FRESH, say)
    for line in report(honest, cheats, bounds):
        say(line)
    every = [stats for sample in honest for stats in sample.stats]
    rejected = sum(judge(group, bounds) is not None for stats in every for group in stats)
    alarms = [broken for stats in every if (broken := check(stats, bounds)) is not None]
    num_groups = sum(len(sample.stats[0]) for sample in honest)
    say(
        f"{num_groups:,} honest groups, {sum(map(len, every)):,} replays: {rejected} rejected, "
        f"{len(alarms)} of {len(every)} sequential tests alarmed"
    )
    return not rejected and not alarms


def _policies(bench: Bench) -> list[Weights]:
    for name in bench.engines:
        if name not in NAMES:
            raise UserError(f"engine {name!r} is unknown; choose from {', '.join(NAMES)}")
    return [read_weights(path) for path in bench.policies]


def _require_range(bench: Bench, say: Say) -> None:
    if bench.compute_dtype is ComputeDtype.FLOAT32:
        return
    workload = bench.workload(min(bench.num_groups, 16))
    try:
        say(require_range(bench.model, bench.policies, workload.prompts, bench.compute_dtype))
    except ValueError as error:
        raise UserError(str(error)) from error


def samplers(engines: Sequence[str]) -> list[Setting]:
    """Return the machines that sample: as many kinds as this one can imitate."""
    found = []
    for engine in engines:
        found += [Setting(engine), Setting(engine, threads=2)]
        found.append(Setting(engine, sequences=GROUP_SIZE))
        found += [
            Setting(engine, instructions)
            for instructions in older_instructions()
            if (engine, instructions) != ("vllm", "default")  # vLLM 0.32 does not open there
        ]
    return found


def replayers(engines: Sequence[str]) -> list[Setting]:
    """Return the machines that replay: this one, the oldest, and every engine."""
    oldest = [Setting("transformers", instructions) for instructions in older_instructions()[-1:]]
    own = [Setting(engine) for engine in dict.fromkeys(("transformers", *engines))]
    return [*own, *oldest]


def older_instructions() -> list[str]:
    """Return the instruction sets below this machine's, newest first."""
    import torch

    order = ["avx512", "avx2", "default"]
    own = torch.backends.cpu.get_cpu_capability().lower().replace("_", "")
    return order[order.index(own) + 1 :] if own in order else []


def _measured(
    bench: Bench, first_salt: int, say: Say
) -> tuple[list[Sample], dict[str, list[Sample]]]:
    with tempfile.TemporaryDirectory(prefix="rollcall-calibrate-") as folder:
        return _measure(bench, Path(folder), first_salt, say)


def _measure(
    bench: Bench, folder: Path, first_salt: int, say: Say
) -> tuple[list[Sample], dict[str, list[Sample]]]:
    on = replayers(bench.engines)
    honest: list[tuple[str, tuple[str, int, int]]] = []
    cheats: dict[str, list[tuple[str, tuple[str, int, int]]]] = {}
    counter = count(first_salt)

    def files(num_groups: int) -> tuple[tuple[str, int, int], ...]:
        return tuple(
            (str(folder / f"groups-{next(counter)}"), policy, num_groups)
            for policy in range(len(bench.policies))
        )

    with Processes(folder / "logs") as processes:
        for setting in samplers(bench.engines):
            job = ChildJob(bench, setting, files(bench.num_groups))
            _run(processes, folder, f"sampling on {setting.label}", job, say)
            honest += [(f"{setting.label} policy {file[1]}", file) for file in job.samples]
        for name, (bits, factor) in CHEATS.items():
            setting = Setting("transformers", quantise_bits=bits)
            job = ChildJob(bench, setting, files(CHEAT_GROUPS), temperature_factor=factor)
            _run(processes, folder, f"sampling with {name}", job, say)
            cheats[name] = [(f"{name} policy {file[1]}", file) for file in job.samples]
        wanted = [*honest, *(entry for entries in cheats.values() for entry in entries)]
        for setting in on:
            job = ChildJob(bench, setting, tuple(file for _, file in wanted), replays=True)
            _run(processes, folder, f"replaying on {setting.label}", job, say)
    shown = {name: [_sample(e, on) for e in entries] for name, entries in cheats.items()}
    return [_sample(entry, on) for entry in honest], shown


def _sample(entry: tuple[str, tuple[str, int, int]], on: Sequence[Setting]) -> Sample:
    label, (file, _, _) = entry
    return Sample(label, tuple(tuple(read_stats(stats_file(file, setting))) for setting in on))


def _run(processes: Processes, folder: Path, what: str, job: ChildJob, say: Say) -> None:
    """Run one job to its end; Ctrl-C ends the job with this process."""
    say(what)
    path = folder / "job.json"
    path.write_text(job.to_json())
    argv = (sys.executable, "-m", "rollcall.machine.variation", str(path))
    processes.start(Command("variation", argv, job.setting.environment())).process.wait()
    processes.check(may_end=("variation",))
    processes.stop(["variation"])


def report(
    honest: Sequence[Sample], cheats: dict[str, list[Sample]], bounds: Thresholds
) -> Iterator[str]:
    """Yield the figures, how near honest work comes to the bounds, and how far cheats are."""
    for sample in honest:
        lengths = [run_length(stats, bounds) for stats in sample.stats]
        yield (
            f"honest: {sample.label}: {_figures(sample)}; a false alarm after {min(lengths):.3g} groups or more"
        )
    for samples in cheats.values():
        for sample in samples:
            share = min(share_caught(stats, bounds) for stats in sample.stats)
            yield f"cheat:  {sample.label}: {_figures(sample)}; one group's bounds reject {share:.1%}"
    for statistic in Statistic:
        worst = max(_uses(sample, statistic, bounds)[-1] for sample in honest)
        faintest = min(
            (median(_uses(sample, statistic, bounds)), sample.label)
            for samples in cheats.values()
            for sample in samples
        )
        yield (
            f"{statistic.label}: the worst honest group uses {worst:.3g} of its bound; half of the groups of the "
            f"faintest cheat ({faintest[1]}) use {faintest[0]:.3g} or more"
        )
    if blind := BLIND.get(bounds.compute_dtype):
        yield f"note: {blind}"


def _figures(sample: Sample) -> str:
    every = [group for stats in sample.stats for group in stats]
    num_tokens = sum(group.num_tokens for group in every)
    match = sum(group.num_matched for group in every) / num_tokens
    gap = sum(group.total(Statistic.GAP) for group in every) / num_tokens / Statistic.GAP.unit
    return f"match {match:.6f}, gap {gap:.3g} nats a token"


def _uses(sample: Sample, statistic: Statistic, bounds: Thresholds) -> list[float]:
    """Return each group's excess as a share of its bound, in order; at least 0."""
    held = bounds.bounds(statistic)
    every = (group for stats in sample.stats for group in stats)
    return sorted(max(0.0, excess(group, statistic, held) / held.group) for group in every)
