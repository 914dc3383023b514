"""Measure honest replay of one engine class, and set the bounds that `judge` holds work to.

Bounds are extrapolated from groups, since groups are what is judged and tokens of one group err
together (one cache, one problem). Above the 90th percentile the excess is taken as exponential
(peaks over a threshold: Pickands 1975, Balkema and de Haan 1974, with shape 0), which is
conservative for means of bounded errors; the bound is where it leaves a third of the false-reject
rate, one third per test of `judge`. Every test's bound is then widened by `HEADROOM`, because the
policy moves on after calibration, and the loosest over all calibrated policies counts.
Left out: other hardware (another engine class) and slow cheats that only a sequence of groups shows.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protocol.canonical import keccak256
from protocol.constants import MICRO
from protocol.environments.base import Environment
from protocol.policy import Weights
from protocol.rollout import Lease, lease_id, rollout_seed
from protocol.verdict import ReplayStats, Thresholds, judge
from rollout_worker.engines.base import Engine
from rollout_worker.generate import generate_groups
from rollout_worker.replay import ReplayModel, stats_of

HEADROOM = 1.5
"""Over the extrapolated bound. Starting model on vLLM's CPU build, 1,024 groups each: the worst honest
mean gap is 0.049, after 60 steps of training 0.063, after 200 0.052; the best int4 group has 0.158,
0.130 and 0.128. A bound near 0.1 leaves both sides room."""

TAIL_QUANTILE = 0.9
NUM_TESTS = 3
_WORKER = "0x" + "00" * 20


@dataclass(frozen=True, slots=True)
class Workload:
    """What is sampled in order to calibrate.

    Example: 512 prompts of an environment, groups of 8, at most 64 tokens at T = 1.
    """

    prompts: tuple[tuple[int, ...], ...]
    group_size: int
    max_tokens: int
    eos_token_id: int
    temperature_millionths: int = MICRO

    def leases(self, *, salt: int) -> Iterator[Lease]:
        """Yield one lease per prompt; another `salt` draws other seeds."""
        secret = keccak256(b"calibration" + salt.to_bytes(8, "big"))
        for i, prompt in enumerate(self.prompts):
            identity = lease_id(0, _WORKER, i + 1)
            yield Lease(
                lease_id=identity,
                run_id=0,
                worker=_WORKER,
                nonce=i + 1,
                epoch=0,
                environment="calibration",
                index=i,
                prompt=prompt,
                policy_version=0,
                policy_digest=bytes(32),
                temperature_millionths=self.temperature_millionths,
                max_tokens=self.max_tokens,
                seeds=tuple(rollout_seed(0, identity, secret, k) for k in range(self.group_size)),
                rate=1,
                deadline=0,
            )


def measure(
    engine: Engine, model: ReplayModel, policy: Weights, workload: Workload, *, salt: int = 0
) -> list[ReplayStats]:
    """Sample the workload from `policy` as `engine` loads it, and replay it with the exact weights."""
    leases = list(workload.leases(salt=salt))
    engine.load(policy)
    model.load(policy)
    groups = generate_groups(engine, leases, eos_token_id=workload.eos_token_id)
    return [stats_of(found) for found in model.findings(list(zip(leases, groups, strict=True)))]


def thresholds_of(
    honest: Sequence[Sequence[ReplayStats]],
    *,
    engine_class: str,
    false_rejects_per_million: int,
) -> Thresholds:
    """Set the bounds from honest groups, one sequence per policy. Pure."""
    rate = false_rejects_per_million / MICRO / NUM_TESTS

    def bound(name: str) -> int:
        return round(max(HEADROOM * tail_bound(_column(stats, name), rate) for stats in honest))

    every = [stats for policy in honest for stats in policy]
    num_tokens = sum(stats.num_tokens for stats in every)
    matched = sum(stats.num_matched for stats in every)
    margin = sum(stats.mean_margin_micronats * stats.num_tokens for stats in every) / num_tokens
    return Thresholds(
        engine_class=engine_class,
        min_match_millionths=max(0, MICRO - bound("mismatch_millionths")),
        max_mean_margin_micronats=bound("mean_margin_micronats"),
        max_mean_logprob_gap_micronats=bound("mean_logprob_gap_micronats"),
        num_honest_groups=len(every),
        num_honest_tokens=num_tokens,
        honest_match_millionths=matched * MICRO // num_tokens,
        honest_mean_margin_micronats=round(margin),
        false_rejects_per_million_groups=false_rejects_per_million,
    )


def tail_bound(values: NDArray[np.float64], rate: float) -> float:
    """Return the value that a share `rate` of groups exceeds, by an exponential tail; ≥ the largest.

    Raises `ValueError` below 100 values: ten excesses are the least that give their mean a meaning.
    """
    if len(values) < 100:
        raise ValueError(f"{len(values)} groups are too few to calibrate on: measure at least 100")
    start = float(np.quantile(values, TAIL_QUANTILE))
    excess = values[values > start] - start
    share = len(excess) / len(values)
    if share <= rate:
        return float(values.max())
    return max(float(values.max()), start + float(excess.mean()) * math.log(share / rate))


def caught(stats: Sequence[ReplayStats], thresholds: Thresholds) -> float:
    """Return the share of groups that `judge` rejects."""
    return sum(judge(group, thresholds) is not None for group in stats) / len(stats)


def _column(stats: Sequence[ReplayStats], name: str) -> NDArray[np.float64]:
    if name == "mismatch_millionths":
        return np.array([MICRO - group.match_millionths for group in stats], dtype=np.float64)
    return np.array([getattr(group, name) for group in stats], dtype=np.float64)


def write(thresholds: Thresholds, path: Path) -> None:
    """Put the bounds into a JSON list, in place of those of the same engine class."""
    known = json.loads(path.read_text()) if path.exists() else []
    kept = [entry for entry in known if entry["engine_class"] != thresholds.engine_class]
    entries = sorted(
        [*kept, thresholds.model_dump(mode="json")], key=lambda entry: str(entry["engine_class"])
    )
    path.write_text(json.dumps(entries, indent=2) + "\n")


def workload_of(
    model_dir: Path,
    environment: Environment,
    *,
    num_groups: int,
    group_size: int,
    max_tokens: int,
) -> Workload:
    """Take an environment's first prompts, encoded by the model's own tokenizer."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    texts = (environment.problem(index).prompt for index in range(num_groups))
    config = json.loads((model_dir / "config.json").read_text())
    return Workload(
        prompts=tuple(tuple(tokenizer.encode(t, add_special_tokens=False).ids) for t in texts),
        group_size=group_size,
        max_tokens=max_tokens,
        eos_token_id=int(config["eos_token_id"]),
    )
