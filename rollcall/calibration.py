"""`rollcall calibrate`: measure honest replay here, write the bounds, and show what they would catch.

The method is `rollout_worker/calibrate.py`'s. Beside honest work the same engine samples from int8
and int4 weights, so that whoever reads the bounds sees how far apart the two are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from protocol.calibration import thresholds_of
from protocol.constants import MICRO
from protocol.environments.registry import environment
from protocol.policy import entries, policy_digest
from protocol.precision import ComputeDtype
from protocol.verdict import ReplayStats, Thresholds
from rollcall.user_error import UserError
from rollout_worker.calibrate import caught, measure, workload_of, write
from rollout_worker.config import ReplayConfig
from rollout_worker.engines.causal import read_weights
from rollout_worker.engines.registry import NAMES, open_engine
from rollout_worker.engines.rounded import RoundedEngine
from rollout_worker.replayers import open_replayer

COMPUTE_DTYPE = ComputeDtype.BFLOAT16
"""What every engine computes in."""
GROUP_SIZE = 8
FALSE_REJECTS_PER_MILLION = 100
FALSE_ALARMS_PER_MILLION = 10
CHEAT_SALT = 1_000
CHEAT_GROUPS = 256
"""Of each cheat and policy: they are shown, not fitted."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What to measure: a model on an engine, over an environment's prompts."""

    model: Path
    engine: str
    device: str
    environment: str
    num_groups: int
    max_tokens: int
    policies: tuple[Path, ...]
    replay: str = "transformers"
    """The engine that replays."""


def calibrate_to_file(what: Measured, *, out: Path, say: Callable[[str], None]) -> Thresholds:
    """Write the bounds into `out`, in place of any before."""
    for name in (what.engine, what.replay):
        if name not in NAMES:
            raise UserError(f"engine {name!r} is unknown; choose one of {', '.join(NAMES)}")
    workload = workload_of(
        what.model,
        environment(what.environment, {}),
        num_groups=what.num_groups,
        group_size=GROUP_SIZE,
        max_tokens=what.max_tokens,
    )
    paths = [what.model / "model.safetensors", *what.policies]
    policies = [read_weights(path) for path in paths]
    say(f"opening {what.engine} on {what.device}")
    longest = max(map(len, workload.prompts)) + what.max_tokens
    engine = open_engine(what.engine, what.model, device=what.device, max_model_len=longest)
    model = open_replayer(
        ReplayConfig.model_validate({"engine": what.replay, "device": what.device}),
        what.model,
        max_model_len=longest,
    )
    honest = []
    for salt, policy in enumerate(policies):
        say(f"sampling and replaying {what.num_groups} groups of {paths[salt]}")
        honest.append(measure(engine, model, policy, workload, salt=salt))
    bounds = thresholds_of(
        honest,
        compute_dtype=COMPUTE_DTYPE,
        model_digest=policy_digest(entries(policies[0])),
        false_rejects_per_million=FALSE_REJECTS_PER_MILLION,
        false_alarms_per_million=FALSE_ALARMS_PER_MILLION,
    )
    write(bounds, out)
    few = replace(workload, prompts=workload.prompts[:CHEAT_GROUPS])
    say(bounds.model_dump_json(indent=2))
    for path, policy, stats in zip(paths, policies, honest, strict=True):
        say(row(f"{path} exact", stats, bounds))
        for bits in (8, 4):
            cheat = RoundedEngine(engine, bits=bits)
            found = measure(cheat, model, policy, few, salt=CHEAT_SALT)
            say(row(f"{path} int{bits}", found, bounds))
    engine.close()
    say(f"wrote bounds in {bounds.compute_dtype} to {out}")
    return bounds


def row(label: str, stats: Sequence[ReplayStats], bounds: Thresholds) -> str:
    """Return one line: what was measured and what share of groups the bounds reject."""
    num_tokens = sum(group.num_tokens for group in stats)
    match = sum(group.num_matched for group in stats) / num_tokens
    margins = [group.mean_margin_micronats / MICRO for group in stats]
    gaps = [group.mean_logprob_gap_micronats / MICRO for group in stats]
    return (
        f"{label}: match {match:.5f}; mean margin {sum(margins) / len(margins):.6f}, "
        f"worst {max(margins):.6f}; mean gap {sum(gaps) / len(gaps):.4f}, from {min(gaps):.4f} to "
        f"{max(gaps):.4f}; rejected {caught(stats, bounds):.4f} of {len(stats)}"
    )
