"""One machine of a calibration: it samples groups, or replays those that others sampled.

`python -m rollcall.machine.variation JOB.json` is a process of its own, because an instruction set and a number of
threads are chosen when torch is loaded. `calibrate.py` chooses the jobs.
"""

import os
import sys
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from protocol.environments.registry import environment
from protocol.policies.manifest import HostTensor
from protocol.precision import ComputeDtype
from protocol.verdict import ReplayStats
from rollout_worker.replay.calibrate import Workload, from_file, sample, to_file, workload_of
from rollout_worker.replay.calibrate import replay as replayed

GROUP_SIZE = 8
INSTRUCTION_SETS = {
    "avx512": {},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "default": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
}
"""By torch's name, the settings that make torch compute as a processor of that kind does."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A machine: an engine, and the settings that its arithmetic depends on.

    Example: Setting("transformers", "avx2", threads=2, sequences=8); "" is this machine's own instruction set
    """

    engine: str
    instructions: str = ""
    threads: int = 1
    sequences: int = 128
    quantise_bits: int = 0

    @property
    def label(self) -> str:
        return (
            f"{self.engine} {self.instructions or 'native'} {self.threads} threads "
            f"{self.sequences} sequences"
        )

    def environment(self) -> dict[str, str]:
        """Return the variables that make a child process this machine."""
        return {
            "OMP_NUM_THREADS": str(self.threads),
            **INSTRUCTION_SETS.get(self.instructions, {}),
        }


@dataclass(frozen=True, slots=True)
class Bench:
    """The subject of a calibration: a model in a dtype on this machine's engines, over prompts."""

    model: Path
    policies: tuple[Path, ...]
    """Files of weights; the first is the model folder itself."""
    dtype: str
    engines: tuple[str, ...]
    device: str
    environment: str
    num_groups: int
    """Honest groups of each policy on each machine."""
    max_tokens: int
    temperature_millionths: int

    @property
    def compute_dtype(self) -> ComputeDtype:
        return ComputeDtype(self.dtype)

    def workload(self, num_groups: int) -> Workload:
        found = workload_of(
            self.model,
            environment(self.environment, {}),
            num_groups=num_groups,
            group_size=GROUP_SIZE,
            max_tokens=self.max_tokens,
        )
        return replace(found, temperature_millionths=self.temperature_millionths)

    def longest(self, workload: Workload) -> int:
        return max(map(len, workload.prompts)) + self.max_tokens


@dataclass(frozen=True, slots=True)
class ChildJob:
    """One process: sample every policy into files, or replay the files of every sampler."""

    bench: Bench
    setting: Setting
    samples: tuple[tuple[str, int, int], ...]
    """File of groups, index of the policy, how many groups. A file's index is its salt's too."""
    replays: bool = False
    temperature_factor: float = 1.0
    """An attack: sample at this multiple of the claimed temperature."""

    def to_json(self) -> str:
        return TypeAdapter(ChildJob).dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> "ChildJob":
        return TypeAdapter(cls).validate_json(text)


def run(job: ChildJob) -> None:
    """Do the job; its results stand in files beside the groups."""
    import torch

    torch.set_num_threads(job.setting.threads)
    (_replay if job.replays else _sample)(job)


def salt_of(file: str) -> int:
    """Return the salt of a file's seeds: no two samples share seeds."""
    return int(Path(file).stem.rpartition("-")[2])


def _sample(job: ChildJob) -> None:
    from rollout_worker.engines.registry import open_engine

    bench, setting = job.bench, job.setting
    longest = bench.longest(bench.workload(max(n for _, _, n in job.samples)))
    engine = open_engine(
        setting.engine,
        bench.model,
        dtype=bench.compute_dtype,
        device=bench.device,
        max_model_len=longest,
        max_sequences=setting.sequences,
        quantise_bits=setting.quantise_bits,
    )
    with closing(engine):
        for file, policy, num_groups in job.samples:
            workload = bench.workload(num_groups)
            millionths = round(workload.temperature_millionths * job.temperature_factor)
            drawn = replace(workload, temperature_millionths=millionths)
            groups = sample(engine, _weights(bench, policy), drawn, salt=salt_of(file))
            to_file(groups, Path(file))
            print(f"sampled {len(groups)} groups of {bench.policies[policy]}", flush=True)


def _replay(job: ChildJob) -> None:
    from rollout_worker.config import ReplayConfig
    from rollout_worker.replay.registry import open_replayer

    bench, setting = job.bench, job.setting
    longest = bench.longest(bench.workload(max(n for _, _, n in job.samples)))
    model = open_replayer(
        ReplayConfig.model_validate({"engine": setting.engine, "device": bench.device}),
        bench.model,
        dtype=bench.compute_dtype,
        max_model_len=longest,
    )
    for file, policy, num_groups in job.samples:
        groups = from_file(Path(file), bench.workload(num_groups), salt=salt_of(file))
        stats = replayed(model, _weights(bench, policy), groups)
        out = stats_file(file, setting)
        out.write_text("\n".join(found.model_dump_json() for found in stats))


def stats_file(file: str, setting: Setting) -> Path:
    """Return the path for a replay of a file's groups."""
    return Path(f"{file}.{setting.label.replace(' ', '-')}.jsonl")


def read_stats(path: Path) -> list[ReplayStats]:
    return [ReplayStats.from_json(line) for line in path.read_text().splitlines()]


def _weights(bench: Bench, policy: int) -> dict[str, HostTensor]:
    from rollout_worker.engines.causal import read_weights

    return read_weights(bench.policies[policy])


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    run(ChildJob.from_json(Path(sys.argv[1]).read_text()))
