"""Describe one step: sums over its tokens, a line of JSON, TensorBoard scalars.

Owns `metrics.jsonl`: one line per policy version, appended and flushed before the checkpoint that
remembers its end. A resumed trainer cuts the file there, so no version has two lines. Held-out accuracy
comes later than its version's line and has a file of its own (`evaluations.py`). Keys that end in
`_seconds`, `_per_second` or `_at` depend on the machine; every other one is the same in every life.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from protocol.environments.base import FULL_SCORE
from protocol.user_error import UserError
from trainer.batch import Group
from trainer.loss import Clip, Tokens


@dataclass(slots=True)
class TokenSums:
    """Sums over the unmasked completion tokens of a step, one microbatch after another."""

    count: int = 0
    ratio: float = 0.0
    ratio_squared: float = 0.0
    ratio_max: float = 0.0
    kl: float = 0.0
    claim_gap: float = 0.0
    entropy: float = 0.0
    clipped_low: int = 0
    clipped_high: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    @torch.no_grad()
    def add(
        self,
        tokens: Tokens,
        entropy_N: torch.Tensor,
        clip: Clip,
        worker_logprobs_N: torch.Tensor,
    ) -> None:
        """Count one microbatch, after its outlying sequences were masked."""
        mask_N = tokens.mask_N
        ratio_N = tokens.ratio[mask_N].double()
        advantage_N = tokens.advantages_N[mask_N]
        self.count += len(ratio_N)
        self.ratio += float(ratio_N.sum())
        self.ratio_squared += float((ratio_N**2).sum())
        self.ratio_max = max(self.ratio_max, float(ratio_N.max()) if len(ratio_N) else 0.0)
        # The worker drew the samples, so the mean log-ratio estimates KL(worker ‖ policy).
        worker_N = worker_logprobs_N[mask_N].double()
        self.kl += float((worker_N - tokens.logprobs_N.detach()[mask_N].double()).sum())
        self.claim_gap += float((worker_N - tokens.behaviour_N[mask_N].double()).abs().sum())
        self.entropy += float(entropy_N[mask_N].double().sum())
        self.clipped_low += int(((ratio_N < 1 - clip.low) & (advantage_N < 0)).sum())
        self.clipped_high += int(((ratio_N > 1 + clip.high) & (advantage_N > 0)).sum())

    def values(self) -> dict[str, float]:
        """Return the means that are written down."""
        count = max(1, self.count)
        squared = self.ratio_squared
        return {
            "ratio_mean": self.ratio / count,
            "ratio_max": self.ratio_max,
            "kl_worker_policy": self.kl / count,
            "claim_gap_mean": self.claim_gap / count,
            "effective_sample_share": self.ratio**2 / (count * squared) if squared else 0.0,
            "clip_low_share": self.clipped_low / count,
            "clip_high_share": self.clipped_high / count,
            "entropy": self.entropy / count,
        }


def group_values(groups: tuple[Group, ...], dropped: Counter[str], step: int) -> dict[str, Any]:
    """Describe the groups of one step."""
    rewards = [reward for group in groups for reward in group.rewards]
    lengths = [len(c.tokens) for group in groups for c in group.completions]
    staleness = Counter(step - group.policy_version for group in groups)
    return {
        "reward": sum(rewards) / FULL_SCORE / len(rewards) if rewards else 0.0,
        "num_groups": len(groups),
        "dropped": dict(sorted(dropped.items())),
        "staleness": {str(age): staleness[age] for age in sorted(staleness)},
        "mean_tokens": sum(lengths) / len(lengths) if lengths else 0.0,
    }


class MetricsFile:
    """`metrics.jsonl` and, by setting, TensorBoard events beside it."""

    def __init__(self, folder: Path, *, offset: int, version: int, tensorboard: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / "metrics.jsonl").open("ab")
        if self._file.tell() < offset:
            raise UserError(
                f"{self._file.name} has {self._file.tell()} bytes and its checkpoint says {offset}: restore it, or "
                "remove the checkpoints to make every version again"
            )
        self._file.truncate(offset)
        self._file.seek(offset)
        self._board: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=version + 1)

    @property
    def offset(self) -> int:
        return self._file.tell()

    def write(self, values: Mapping[str, Any]) -> None:
        """Append one version's line, durably."""
        self._file.write(json.dumps(values, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.show(values)

    def show(self, values: Mapping[str, Any]) -> None:
        """Add a version's numbers to the TensorBoard events, if there are any."""
        if self._board is None:
            return
        for key, value in values.items():
            parts = value.items() if isinstance(value, dict) else [("", value)]
            for part, number in parts:
                if isinstance(number, (int, float)) and key not in ("version", "at"):
                    tag = f"{key}/{part}" if part else key
                    self._board.add_scalar(tag, number, values["version"])
        self._board.flush()

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()
