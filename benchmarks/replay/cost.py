"""Seconds to replay groups over seconds to generate them with vLLM, on the same machine.

In each round vLLM generates the groups and every replayer replays them, so that a noisy machine burdens
all; the figure is the median of the rounds' ratios. On a CPU seconds are those of this process on
one thread, which a busy neighbour stretches less than those of the clock.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from protocol.checks.draw import Draw
from protocol.environments.arithmetic import Arithmetic
from protocol.precision import ComputeDtype
from protocol.rollout import Lease, Rollout
from protocol.run import AuditPolicy
from rollout_worker.engines.vllm import VllmEngine
from rollout_worker.generate import generate_groups
from rollout_worker.replay.calibrate import Workload, workload_of
from rollout_worker.replay.measure import Replayer, ReplayModel, only
from rollout_worker.replay.vllm import VllmReplay
from rollout_worker.verify.recheck import REPLAYED_TOGETHER

START = Path(__file__).parents[2] / "models" / "start"
GROUP_SIZE = 8

Groups = Sequence[tuple[Lease, Sequence[Rollout]]]


@dataclass(frozen=True, slots=True)
class Shape:
    """A random model of Qwen3's architecture, and what it is asked: for costs, not for sense."""

    hidden: int
    layers: int
    vocabulary: int
    prompt_tokens: int
    completion_tokens: int
    spread: float = 1.0
    """Factor on the last norm's weight: how far logits lie apart."""

    def write(self, folder: Path) -> Path:
        """Write the model, seeded, as a model folder."""
        from transformers import Qwen3Config, Qwen3ForCausalLM

        torch.manual_seed(0)
        config = Qwen3Config(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=3 * self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=max(1, self.hidden // 64),
            num_key_value_heads=max(1, self.hidden // 128),
            head_dim=64,
            max_position_embeddings=self.prompt_tokens + self.completion_tokens + 1,
            tie_word_embeddings=True,
            eos_token_ids=(2,),
            dtype="bfloat16",
        )
        model: Any = Qwen3ForCausalLM(config).bfloat16()
        model.model.norm.weight.data.mul_(self.spread)
        model.save_pretrained(folder)
        return folder

    def workload(self, num_groups: int) -> Workload:
        draw = np.random.default_rng(1)
        prompts = draw.integers(3, self.vocabulary, size=(num_groups, self.prompt_tokens))
        return Workload(
            prompts=tuple(tuple(int(token) for token in prompt) for prompt in prompts),
            group_size=GROUP_SIZE,
            max_tokens=self.completion_tokens,
            eos_token_ids=(2,),
        )


SHAPES = {
    "small": Shape(512, 8, 32_000, prompt_tokens=64, completion_tokens=128, spread=3.0),
    "wide": Shape(1_024, 4, 150_000, prompt_tokens=64, completion_tokens=64, spread=3.0),
}
"""Beside `start`, the demo's model of 0.5 M parameters: 42 M and 197 M."""


@dataclass(frozen=True, slots=True)
class Cost:
    """One replayer against vLLM's generation of the same tokens."""

    model: str
    replayer: str
    num_groups: int
    num_tokens: int
    generated_per_second: float
    replayed_per_second: float
    ratio: float
    """Of seconds, replaying every group over generating."""
    drawn_ratio: float
    """Of seconds, replaying the rollouts that a draw picks of every group over generating."""

    @property
    def groups_per_second(self) -> float:
        return self.replayed_per_second * self.num_groups / self.num_tokens


def measure(
    name: str,
    folder: Path,
    *,
    num_groups: int,
    rounds: int,
    max_sequences: int = 128,
    device: str = "cpu",
) -> list[Cost]:
    """Measure both replayers on `start` or on one of `SHAPES`, which is written into `folder`."""
    if name == "start":
        model_dir = START
        workload = workload_of(
            START, Arithmetic({}), num_groups=num_groups, group_size=GROUP_SIZE, max_tokens=64
        )
    else:
        model_dir = SHAPES[name].write(folder / name)
        workload = SHAPES[name].workload(num_groups)
    longest = max(map(len, workload.prompts)) + workload.max_tokens
    engine = VllmEngine(
        model_dir,
        device=device,
        dtype=ComputeDtype.FLOAT32,
        max_model_len=longest,
        max_sequences=max_sequences,
        kv_cache_mib=512,
    )
    try:
        replayers: dict[str, Replayer] = {
            "transformers": ReplayModel(model_dir, device=device),
            "vllm": VllmReplay(engine, model_dir),
        }
        return _compare(name, engine, replayers, workload, rounds=rounds, clock=clock_of(device))
    finally:
        engine.close()


def _compare(
    name: str,
    engine: VllmEngine,
    replayers: Mapping[str, Replayer],
    workload: Workload,
    *,
    rounds: int,
    clock: Callable[[], float],
) -> list[Cost]:
    leases = list(workload.leases(salt=0))
    generated: list[float] = []
    replayed: dict[str, list[float]] = {replayer: [] for replayer in replayers}
    drawn: dict[str, list[float]] = {replayer: [] for replayer in replayers}
    num_tokens = 0
    for _ in range(rounds + 1):  # the first warms up
        began = clock()
        groups = generate_groups(engine, leases, eos_token_ids=workload.eos_token_ids)
        generated.append(clock() - began)
        num_tokens = sum(len(rollout.token_ids()) for group in groups for rollout in group)
        work = list(zip(leases, groups, strict=True))
        parts = [_drawn(*group) for group in work]
        for replayer, model in replayers.items():
            began = clock()
            model.findings(work)
            replayed[replayer].append(clock() - began)
            began = clock()
            for i in range(0, len(parts), REPLAYED_TOGETHER):
                model.findings(parts[i : i + REPLAYED_TOGETHER])
            drawn[replayer].append(clock() - began)
    return [
        Cost(
            model=name,
            replayer=replayer,
            num_groups=len(leases),
            num_tokens=num_tokens,
            generated_per_second=num_tokens / statistics.median(generated[1:]),
            replayed_per_second=num_tokens / statistics.median(seconds[1:]),
            ratio=_median_ratio(seconds, generated),
            drawn_ratio=_median_ratio(drawn[replayer], generated),
        )
        for replayer, seconds in replayed.items()
    ]


def _drawn(lease: Lease, rollouts: Sequence[Rollout]) -> tuple[Lease, tuple[Rollout, ...]]:
    """Return what the default draw picks of a group that it selects."""
    policy = AuditPolicy()
    draw = Draw(epoch=0, rate=policy.rate_millionths)
    chosen = draw.rollouts(bytes(32), lease.lease_id, group_size=lease.group_size, policy=policy)
    return only(lease, rollouts, chosen)


def _median_ratio(seconds: Sequence[float], generated: Sequence[float]) -> float:
    pairs = zip(seconds[1:], generated[1:], strict=True)
    return statistics.median(replay / generate for replay, generate in pairs)


def clock_of(device: str) -> Callable[[], float]:
    """Return what tells seconds: this process's own on a CPU, the wall's where a GPU works."""
    return time.process_time if device == "cpu" else time.perf_counter


def table(costs: Sequence[Cost]) -> str:
    """Return the figures as a Markdown table."""
    rows = [
        "| model | replay on | tokens | generated, tokens/s | replayed, tokens/s | groups/s | cost |",
        "|---|---|---|---|---|---|---|",
    ]
    for cost in costs:
        rows.append(
            f"| {cost.model} | {cost.replayer} | {cost.num_tokens:,} | "
            f"{cost.generated_per_second:,.0f} | {cost.replayed_per_second:,.0f} | "
            f"{cost.groups_per_second:,.1f} | 1/{1 / cost.ratio:.1f} |"
        )
    return "\n".join(rows)
