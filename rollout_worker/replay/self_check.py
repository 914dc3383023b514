"""Sample fresh groups with an open engine and replay them here: what a verifier would measure of it.

After an alarm of its sequential test a worker does this before it leases again; `rollcall doctor --calibrate`
does it before anything is at stake. Left out: the verifiers' hardware, which is not here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from protocol.environments.registry import environment
from protocol.messages import SELF_CHECK_GROUPS, SelfCheck
from protocol.policies.manifest import Weights
from protocol.run import RunSpec
from protocol.verdict import ReplayStats
from rollout_worker.engines.base import Engine
from rollout_worker.generate import generate_groups
from rollout_worker.replay.calibrate import Workload, workload_of
from rollout_worker.replay.measure import Replayer, ReplayModel, stats_of

GROUPS_PER_ROUND = 16
"""As many as a worker generates together by default: what an engine batches changes its rounding."""


def run_workload(spec: RunSpec, folder: Path, *, num_groups: int) -> Workload:
    """Take a run's first problems as its leases put them; `folder` has the run's tokenizer."""
    found = workload_of(
        folder,
        environment(spec.environment, spec.environment_config),
        num_groups=num_groups,
        group_size=spec.group_size,
        max_tokens=spec.max_tokens,
    )
    return replace(
        found,
        temperature_millionths=spec.temperature_millionths,
        eos_token_ids=spec.eos_token_ids,
    )


def sampled(
    engine: Engine, model: Replayer, policy: Weights, workload: Workload, *, salt: int
) -> Iterator[Sequence[ReplayStats]]:
    """Yield what the replay measures, one round of groups at a time; `salt` draws the seeds."""
    leases = list(workload.leases(salt=salt))
    engine.load(policy)
    model.load(policy)
    for start in range(0, len(leases), GROUPS_PER_ROUND):
        part = leases[start : start + GROUPS_PER_ROUND]
        groups = generate_groups(engine, part, eos_token_ids=workload.eos_token_ids)
        yield [stats_of(found) for found in model.findings(list(zip(part, groups, strict=True)))]


def self_check(
    engine: Engine, spec: RunSpec, folder: Path, policy: Weights, *, version: int, salt: int
) -> SelfCheck:
    """Measure this machine under a run's terms; `folder` is the model's, with its tokenizer."""
    workload = run_workload(spec, folder, num_groups=SELF_CHECK_GROUPS)
    model = ReplayModel(folder, dtype=spec.compute_dtype)
    rounds = sampled(engine, model, policy, workload, salt=salt)
    return SelfCheck(policy_version=version, stats=tuple(s for part in rounds for s in part))
