"""What activation commitments cost, and what they tell apart, on one engine.

Samples the same leases with and without commitments in turns, and compares processor seconds, which
other programs on the machine do not stretch. Then every proof is compared with a prefill of the exact
policy by transformers, for honest work and for weights rounded to 8 and to 4 bits: the largest
deviations are what a run's `activation_bounds` must lie above, or below. Proofs are listed by how many
positions they cover, because few positions leave no choice among the activations.

    python -m benchmarks.activations [--engine vllm] [--groups 256] [--rounds 3]
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from protocol.activation_policy import ActivationPolicy
from protocol.activations import DECODE_BATCHING_SIZE, Deviation
from protocol.environments.arithmetic import Arithmetic
from protocol.rollout import Lease, Rollout
from rollout_worker.calibrate import workload_of
from rollout_worker.engines.base import Engine
from rollout_worker.engines.causal import read_weights
from rollout_worker.engines.registry import CAPTURING, open_engine
from rollout_worker.engines.rounded import rounded
from rollout_worker.generate import generate_groups
from rollout_worker.replay import ReplayModel

MODEL = Path("models/start")
EOS = 2
COVERED = ((1, 1), (2, 15), (16, 31), (32, 32))
"""Positions that a proof is over, from and to."""

Groups = list[tuple[Rollout, ...]]


@dataclass(frozen=True, slots=True)
class Line:
    """Deviations of the proofs over so many positions; `passing` by TOPLOC's published bounds."""

    weights: str
    positions: str
    proofs: int
    exponents_median: float
    exponents_max: int
    mean_median: float
    mean_max: float
    median_max: float
    passing: float


def seconds_of(
    engine: Engine, leases: Sequence[Lease], *, proves: bool
) -> tuple[float, float, Groups]:
    """Return the processor and the wall seconds of sampling, and what was sampled."""
    cpu, wall = time.process_time(), time.perf_counter()
    groups = generate_groups(engine, leases, eos_token_id=EOS, proves_activations=proves)
    return time.process_time() - cpu, time.perf_counter() - wall, groups


def compared(
    model: ReplayModel, leases: Sequence[Lease], groups: Groups
) -> Iterator[tuple[int, Deviation]]:
    """Yield for every proof how many positions it is over, and how far off it is."""
    found = model.findings(list(zip(leases, groups, strict=True)))
    for done in (done for group in found for done in group):
        for k, deviation in enumerate(done.deviations):
            left = len(done.claimed) - k * DECODE_BATCHING_SIZE
            yield min(left, DECODE_BATCHING_SIZE), deviation


def lines_of(weights: str, found: Sequence[tuple[int, Deviation]]) -> Iterator[Line]:
    """Summarise deviations by how many positions their proofs are over."""
    policy = ActivationPolicy()
    for first, last in COVERED:
        part = [deviation for covered, deviation in found if first <= covered <= last]
        if not part:
            continue
        yield Line(
            weights=weights,
            positions=str(first) if first == last else f"{first}-{last}",
            proofs=len(part),
            exponents_median=statistics.median(d.exponent_mismatches for d in part),
            exponents_max=max(d.exponent_mismatches for d in part),
            mean_median=round(statistics.median(d.mantissa_error_mean for d in part), 2),
            mean_max=round(max(d.mantissa_error_mean for d in part), 2),
            median_max=max(d.mantissa_error_median for d in part),
            passing=round(float(np.mean([policy.allows(d) for d in part])), 4),
        )


def main() -> None:
    """Print the tables and write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.activations")
    parser.add_argument("--engine", choices=CAPTURING, default="transformers")
    parser.add_argument("--groups", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("build/bench/activations.json"))
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    workload = workload_of(
        MODEL, Arithmetic({}), num_groups=options.groups, group_size=8, max_tokens=64
    )
    leases, exact = list(workload.leases(salt=1)), read_weights(MODEL / "model.safetensors")
    engine = open_engine(options.engine, MODEL, max_model_len=128)
    model = ReplayModel(MODEL)
    seconds_of(engine, leases[:16], proves=True)
    rounds = []
    for _ in range(options.rounds):
        plain, _, _ = seconds_of(engine, leases, proves=False)
        proving, wall, groups = seconds_of(engine, leases, proves=True)
        rounds.append((plain, proving, wall))
    tokens = sum(len(r.tokens) // 4 for group in groups for r in group)
    num_bytes = sum(len(r.activations) for group in groups for r in group)
    ratio = statistics.median(proving / plain for plain, proving, _ in rounds)
    spent = statistics.median(1e6 * (proving - plain) / tokens for plain, proving, _ in rounds)
    print(
        f"{options.engine}: {tokens} tokens, {num_bytes / tokens:.1f} bytes per token, "
        f"{ratio:.3f} times the processor time, {spent:.1f} microseconds per token"
    )
    lines = list(lines_of("exact", list(compared(model, leases, groups))))
    for bits in (8, 4):
        engine.load(rounded(exact, bits=bits))
        _, _, groups = seconds_of(engine, leases, proves=True)
        lines += lines_of(f"int{bits}", list(compared(model, leases, groups)))
    engine.close()
    print(
        f"{'weights':>8} {'positions':>10} {'proofs':>7} {'exponents':>14} {'mean':>14} "
        f"{'median':>7} {'passing':>8}"
    )
    for line in lines:
        exponents = f"{line.exponents_median:.0f} to {line.exponents_max}"
        means = f"{line.mean_median:.2f} to {line.mean_max:.2f}"
        print(
            f"{line.weights:>8} {line.positions:>10} {line.proofs:>7} {exponents:>14} {means:>14} "
            f"{line.median_max:>7.1f} {line.passing:>8.4f}"
        )
    result = {
        "engine": options.engine,
        "tokens": tokens,
        "bytes_per_token": round(num_bytes / tokens, 2),
        "processor_time_ratio": round(ratio, 4),
        "microseconds_per_token": round(spent, 2),
        "deviations": [asdict(line) for line in lines],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
