"""Measure trained tokens per second and peak memory against TRL's GRPOTrainer on the same groups.

Each side computes the gradients of one optimizer step (batch layout, forward, loss, its metrics,
backward) in a process of its own, in float32, and hands its gradients back: the parent compares them, so
that no side is fast by computing something else. Time is process CPU time, the best of several repeats.
Rows: this trainer; TRL as it comes (it recomputes activations); TRL without recomputation; and TRL also
without what it does on a CPU only, which is to score prompts and padding too.

    python -m benchmarks.trainer [--repeats 3] [--out build/bench/trainer.json]
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from protocol.advantage import group_advantages
from protocol.environments.arithmetic import Arithmetic, prompt, worked_solution
from protocol.precision import ComputeDtype
from trainer import loss as losses
from trainer.batch import BatchRollout, Group, count, pack
from trainer.metrics import TokenSums
from trainer.model import open_policy

MODEL = Path("models/start")
EOS, PAD, MAX_TOKENS = 2, 0, 256
CLIP = losses.Clip(0.2, 0.28, 4.0)
SIDES = ("rollcall", "trl", "trl-no-recompute", "trl-no-cpu-handicap")
TRL_SEQUENCES = 64
"""Sequences of one TRL microbatch: within 6 % of the fastest of 16, 32, 64 and 256 on both workloads."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Which groups: the demo's sums, or random tokens of longer and more unequal lengths."""

    name: str
    num_groups: int
    group_size: int
    prompt_tokens: int
    longest: int


WORKLOADS = (Workload("demo", 32, 8, 0, 0), Workload("long", 8, 8, 96, 240))


def groups_of(workload: Workload) -> list[Group]:
    """Return the same groups in every process."""
    draws = np.random.default_rng(17)
    found = []
    for index in range(workload.num_groups):
        asked, answers = (
            _sums(index, workload.group_size, draws)
            if workload.longest == 0
            else _random(workload, draws)
        )
        rewards = tuple(int(r) for r in draws.permutation([10_000] + [0] * (len(answers) - 1)))
        advantages = group_advantages(rewards)
        completions = tuple(
            BatchRollout(
                tokens=answer,
                worker_logprobs=-np.abs(draws.normal(0, 0.2, len(answer))).astype(np.float32),
                advantage=float(advantage),
                is_masked=False,
                rollout=i,
            )
            for i, (answer, advantage) in enumerate(zip(answers, advantages, strict=True))
        )
        found.append(
            Group(bytes([index]) * 32, bytes([index]) * 32, 0, asked, completions, rewards)
        )
    return found


def _sums(index: int, size: int, draws: np.random.Generator) -> tuple[Any, list[Any]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    terms = Arithmetic({}).terms(index)
    texts = [worked_solution(terms, slips={0: int(draws.integers(-1, 2))}) for _ in range(size)]
    # Rounded answers are short, as about half of the starting model's are.
    texts = [t if draws.random() < 0.5 else t[len(t) // 2 :] for t in texts]
    ids = [np.asarray([*tokenizer.encode(text).ids, EOS], np.int64) for text in texts]
    return np.asarray(tokenizer.encode(prompt(terms)).ids, np.int64), ids


def _random(workload: Workload, draws: np.random.Generator) -> tuple[Any, list[Any]]:
    lengths = draws.integers(workload.longest // 6, workload.longest, workload.group_size)
    answers = [draws.integers(4, 100, length) for length in lengths]
    return draws.integers(4, 100, workload.prompt_tokens), answers


class Rollcall:
    """This trainer's step."""

    def __init__(self, groups: Sequence[Group], *, max_tokens: int = 2048) -> None:
        self._groups = groups
        self._max_tokens = max_tokens
        self._policy, _ = open_policy(
            MODEL,
            device="cpu",
            compute_dtype=ComputeDtype.FLOAT32,
            temperature=1.0,
            logits_chunk=1 << 20,
        )

    def gradients(self) -> dict[str, Tensor]:
        whole = losses.Whole(*count(self._groups), MAX_TOKENS)
        sums = TokenSums()
        for m in pack(self._groups, max_tokens=self._max_tokens, device="cpu"):
            logprobs_N, entropy_N = self._policy.logprobs(m)
            tokens = losses.Tokens(
                logprobs_N,
                m.worker_logprobs_N,
                m.advantages_N,
                m.mask_N,
                m.sequence_N,
                m.num_sequences,
            )
            losses.grpo(tokens, CLIP, whole).backward()
            self._policy.collect_gradients()
            sums.add(tokens, entropy_N, CLIP, m.worker_logprobs_N)
        masters = self._policy.masters
        found = {name: m.grad for name, m in masters.items() if m.grad is not None}
        for master in masters.values():
            master.grad = None
        return found


class Trl:
    """TRL's padded step through its own `compute_loss`, with the settings that make formulas agree."""

    def __init__(
        self,
        groups: Sequence[Group],
        *,
        recompute: bool,
        score_everything: bool = True,
        sequences: int = TRL_SEQUENCES,
        **settings: Any,
    ) -> None:
        from datasets import Dataset
        from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
        from trl import GRPOConfig, GRPOTrainer

        self._groups = groups
        self._sequences = sequences
        num_sequences = sum(len(g.completions) for g in groups)
        accumulation = -(-num_sequences // sequences)
        self._folder = tempfile.TemporaryDirectory()
        config = GRPOConfig(
            output_dir=self._folder.name,
            use_cpu=True,
            bf16=False,
            report_to=[],
            beta=0.0,
            num_generations=len(groups[0].completions),
            per_device_train_batch_size=sequences,
            gradient_accumulation_steps=accumulation,
            max_completion_length=MAX_TOKENS,
            gradient_checkpointing=recompute,
            disable_dropout=True,
            **(
                {"loss_type": "dapo", "epsilon": 0.2, "epsilon_high": 0.28, "delta": 4.0} | settings
            ),
        )
        tokenizer = PreTrainedTokenizerFast.from_pretrained(MODEL)
        tokenizer.pad_token_id = PAD
        self.trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32),
            reward_funcs=_no_reward,
            args=config,
            train_dataset=Dataset.from_dict({"prompt": ["1+1=?"] * num_sequences}),
            processing_class=tokenizer,
        )
        self.trainer.current_gradient_accumulation_steps = accumulation
        self.model = self.trainer.model
        self.model.train()
        if recompute:
            self.model.gradient_checkpointing_enable()
        if not score_everything:
            import trl.trainer.utils

            # Only decides, here, whether positions without a label are scored.
            trl.trainer.utils._use_triton = lambda _: True

    def gradients(self) -> dict[str, Tensor]:
        inputs = padded(self._groups)
        for start in range(0, len(inputs["advantages"]), self._sequences):
            part = {
                key: value if value.dim() == 0 else value[start : start + self._sequences]
                for key, value in inputs.items()
            }
            self.trainer.compute_loss(self.model, part).backward()
        found = {n: p.grad for n, p in self.model.named_parameters() if p.grad is not None}
        self.model.zero_grad(set_to_none=True)
        return found


def _no_reward(completions: list[str], **_: Any) -> list[float]:
    return [0.0] * len(completions)


def padded(groups: Sequence[Group]) -> dict[str, Tensor]:
    """Lay groups out as TRL does: prompts padded left, completions right."""
    rows = [(group.prompt, one) for group in groups for one in group.completions]
    width = max(len(asked) for asked, _ in rows)
    length = max(len(one.tokens) for _, one in rows)
    shape = (len(rows), length)
    prompt_ids = torch.full((len(rows), width), PAD)
    prompt_mask = torch.zeros((len(rows), width), dtype=torch.long)
    completion_ids, completion_mask = torch.full(shape, PAD), torch.zeros(shape, dtype=torch.long)
    logprobs = torch.zeros(shape)
    for row, (asked, one) in enumerate(rows):
        prompt_ids[row, width - len(asked) :] = torch.from_numpy(asked)
        prompt_mask[row, width - len(asked) :] = 1
        completion_ids[row, : len(one.tokens)] = torch.from_numpy(one.tokens)
        completion_mask[row, : len(one.tokens)] = int(not one.is_masked)
        logprobs[row, : len(one.tokens)] = torch.from_numpy(one.worker_logprobs)
    return {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": completion_ids,
        "completion_mask": completion_mask,
        "old_per_token_logps": logprobs,
        "advantages": torch.tensor([one.advantage for _, one in rows]),
        "num_items_in_batch": completion_mask.sum(),
    }


def step_of(
    side: str, groups: Sequence[Group], *, sequences: int = TRL_SEQUENCES
) -> Rollcall | Trl:
    match side:
        case "rollcall":
            return Rollcall(groups)
        case "trl":
            return Trl(groups, recompute=True, sequences=sequences)
        case "trl-no-recompute":
            return Trl(groups, recompute=False, sequences=sequences)
        case "trl-no-cpu-handicap":
            return Trl(groups, recompute=False, score_everything=False, sequences=sequences)
    raise ValueError(f"no side {side!r}; there are {SIDES}")


def measure(side: str, workload: Workload, *, repeats: int, sequences: int, out: Path) -> None:
    """Child process: time one side, write its gradients and figures."""
    torch.set_num_threads(1)
    groups = groups_of(workload)
    step = step_of(side, groups, sequences=sequences)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gradients = step.gradients()  # also the warm-up
    times = []
    for _ in range(repeats):
        started_at = time.process_time()
        step.gradients()
        times.append(time.process_time() - started_at)
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tokens = count(groups)[0]
    save_file({n: g.contiguous() for n, g in gradients.items()}, out.with_suffix(".safetensors"))
    figures = {
        "workload": workload.name,
        "side": side,
        "trained_tokens": tokens,
        "cpu_seconds": min(times),
        "trained_tokens_per_cpu_second": tokens / min(times),
        "peak_mib": peak_kib / 1024,
        "peak_mib_over_start": (peak_kib - before_kib) / 1024,
    }
    out.write_text(json.dumps(figures))


def compare(workload: Workload, *, repeats: int, sequences: int) -> list[dict[str, Any]]:
    """Parent process: run every side, and hold their gradients against the first side's."""
    rows = []
    reference: Mapping[str, Tensor] = {}
    with tempfile.TemporaryDirectory() as folder:
        for side in SIDES:
            out = Path(folder) / f"{side}.json"
            options = {"side": side, "workload": workload.name, "child": out}
            options |= {"repeats": repeats, "sequences": sequences}
            arguments = [str(x) for key, value in options.items() for x in (f"--{key}", value)]
            subprocess.run(
                [sys.executable, "-m", "benchmarks.trainer", *arguments],
                check=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "TRL_EXPERIMENTAL_SILENCE": "1"},
                stderr=subprocess.DEVNULL,
            )
            row = json.loads(out.read_text())
            gradients = load_file(out.with_suffix(".safetensors"))
            reference = reference or gradients
            row["largest_gradient_difference"] = largest_difference(reference, gradients)
            rows.append(row)
    ours = rows[0]
    return [
        row
        | {
            "speedup_of_rollcall": row["cpu_seconds"] / ours["cpu_seconds"],
            "memory_share_of_rollcall": ours["peak_mib_over_start"] / row["peak_mib_over_start"],
        }
        for row in rows
    ]


def largest_difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Return the largest difference of any element, as a share of the gradient's largest element."""
    if one.keys() != other.keys():
        raise ValueError(f"gradients of other tensors: {sorted(one.keys() ^ other.keys())}")
    scale = max(float(g.abs().max()) for g in one.values())
    return max(float((one[name] - other[name]).abs().max()) for name in one) / scale


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="One optimizer step's gradients, float32, one thread, process CPU time")
    for heading in ("workload", "side", "tokens/s", "rollcall is", "peak MiB", "gradients differ"):
        table.add_column(heading, justify="left" if heading in ("workload", "side") else "right")
    for row in rows:
        table.add_row(
            row["workload"],
            row["side"],
            f"{row['trained_tokens_per_cpu_second']:,.0f}",
            f"{row['speedup_of_rollcall']:.2f}× as fast",
            f"+{row['peak_mib_over_start']:.0f}",
            f"{row['largest_gradient_difference']:.1e}",
        )
    Console(width=110).print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sequences", type=int, default=TRL_SEQUENCES)
    parser.add_argument("--out", type=Path, default=Path("build/bench/trainer.json"))
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--workload", default=WORKLOADS[0].name, help=argparse.SUPPRESS)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child is not None:
        (workload,) = (w for w in WORKLOADS if w.name == options.workload)
        measure(
            options.side,
            workload,
            repeats=options.repeats,
            sequences=options.sequences,
            out=options.child,
        )
        return
    rows = [
        row
        for workload in WORKLOADS
        for row in compare(workload, repeats=options.repeats, sequences=options.sequences)
    ]
    show(rows)
    machine = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
