"""What the sampling attacks share: a cheat's bench with the real model, admission and replay.

Each attack makes rollouts for honest leases. Admission, which is all that stands in the way with
replay off, must take them; replay under the calibrated thresholds must not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from orchestrator.rules.admission import AdmissionTerms, admit
from protocol.checks.sequential import Drift, crossed, folded
from protocol.environments.arithmetic import Arithmetic
from protocol.policies.manifest import HostTensor
from protocol.rollout import Lease, Rollout, Submission
from protocol.verdict import Rejection, ReplayStats, Thresholds, judge
from rollout_worker.engines.base import Engine, Request
from rollout_worker.engines.causal import read_weights
from rollout_worker.engines.registry import open_engine
from rollout_worker.generate import finish_group, requests_of
from rollout_worker.replay.calibrate import Workload, workload_of
from rollout_worker.replay.measure import Findings, ReplayModel, stats_of
from tests.stage.bounds import COMMITTED

MODEL = Path(__file__).parents[2] / "models" / "start"
EOS = 2
TERMS = AdmissionTerms(vocabulary_size=128, eos_token_ids=(EOS,), max_staleness=0)


@dataclass(frozen=True, slots=True)
class Lab:
    """An engine to cheat with, a verifier to be caught by."""

    engine: Engine
    model: ReplayModel
    policy: dict[str, HostTensor]
    thresholds: Thresholds
    workload: Workload

    def leases(self, num_groups: int, *, salt: int = 0) -> list[Lease]:
        return list(self.workload.leases(salt=salt))[:num_groups]

    def sample(
        self, leases: Sequence[Lease], change: Callable[[Request], Request] = lambda r: r
    ) -> list[tuple[Rollout, ...]]:
        """Sample every lease from what the engine holds, with each request changed by the cheat."""
        asked = [requests_of(lease, eos_token_ids=(EOS,)) for lease in leases]
        done = iter(self.engine.generate([change(r) for requests in asked for r in requests]))
        return [finish_group(lease, [next(done) for _ in lease.seeds]) for lease in leases]

    def continued(self, lease: Lease, starts: Sequence[Rollout]) -> tuple[Rollout, ...]:
        """Let the engine go on after tokens that it was given, under the leased seeds."""
        requests = [
            replace(
                request,
                prompt=(*request.prompt, *map(int, start.token_ids())),
                max_tokens=request.max_tokens - len(start.token_ids()),
            )
            for request, start in zip(requests_of(lease, eos_token_ids=(EOS,)), starts, strict=True)
        ]
        return tuple(
            Rollout.of(
                np.concatenate([start.token_ids(), more.tokens]),
                np.concatenate([start.worker_logprobs(), more.logprobs]),
            )
            for start, more in zip(starts, self.engine.generate(requests), strict=True)
        )

    def caught(
        self, leases: Sequence[Lease], groups: Sequence[Sequence[Rollout]]
    ) -> list[Rejection | None]:
        """Return what replay under the exact policy finds; every group must pass admission first."""
        findings = [judge(stats, self.thresholds) for stats in self.measured(leases, groups)]
        return [finding and finding[0] for finding in findings]

    def measured(
        self, leases: Sequence[Lease], groups: Sequence[Sequence[Rollout]]
    ) -> list[ReplayStats]:
        """Replay every group under the exact policy; every group must pass admission first."""
        for lease, group in zip(leases, groups, strict=True):
            submission = submission_of(lease, group)
            assert admit(lease, submission, TERMS, newest_version=lease.policy_version) is None
        return [stats_of(found) for found in self.findings(leases, groups)]

    def findings(
        self, leases: Sequence[Lease], groups: Sequence[Sequence[Rollout]]
    ) -> list[list[Findings]]:
        """Replay every group under the exact policy, position by position."""
        return self.model.findings(list(zip(leases, groups, strict=True)))

    def groups_until_drift(self, measured: Sequence[ReplayStats]) -> int | None:
        """Return after how many groups the worker's sequential test crosses, None for not at all."""
        drift = Drift()
        for count, stats in enumerate(measured, 1):
            drift = folded(drift, stats, self.thresholds)
            if crossed(drift, self.thresholds):
                return count
        return None


@cache
def lab() -> Lab:
    """Open the bench with the exact policy loaded, once per process."""
    workload = workload_of(MODEL, Arithmetic({}), num_groups=64, group_size=8, max_tokens=64)
    engine = open_engine("transformers", MODEL, max_model_len=128)
    return Lab(
        engine=engine,
        model=ReplayModel(MODEL),
        policy=read_weights(MODEL / "model.safetensors"),
        thresholds=COMMITTED,
        workload=workload,
    )


def exact() -> Lab:
    """Return the bench with the engine back on the exact policy."""
    bench = lab()
    bench.engine.load(bench.policy)
    bench.model.load(bench.policy)
    return bench


def submission_of(lease: Lease, rollouts: Sequence[Rollout]) -> Submission:
    return Submission(
        lease_id=lease.lease_id,
        engine="transformers-cpu",
        prompt=lease.prompt,
        rollouts=tuple(rollouts),
        submitted_at=0,
        signature=bytes(65),
    )


def share(findings: Sequence[Rejection | None]) -> float:
    """Return the share of groups that were caught."""
    return sum(finding is not None for finding in findings) / len(findings)
