"""Sample honest groups with this machine's engine and replay them here, for `rollcall doctor`.

The figures are a verifier's, before anything is at stake: the run's newest policy (or a model
folder), the run's own problems, this machine's engine, and the verifiers' replay. `fitness.py` says
what they mean. Left out: the verifiers' hardware, which is not here. The policy and its signature are
checked; `rollcall join`, not this file, checks that the orchestrator's spec is the one on chain.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from client.policies import PolicyCache, PolicyUnreachable, bring_model_folder, bring_tokenizer
from client.public import BlobMismatch, Reader
from protocol.environments.registry import environment
from protocol.messages import RunInfo
from protocol.policies.manifest import Weights, entries, policy_digest
from protocol.signing import Domain
from protocol.user_error import UserError
from protocol.verdict import Thresholds
from rollcall.cli.options import served_run
from rollcall.cli.spec import read_thresholds
from rollout_worker.engines.causal import read_weights
from rollout_worker.replay.calibrate import Workload, workload_of
from rollout_worker.replay.self_check import run_workload


@dataclass(frozen=True, slots=True)
class Subject:
    """A policy with its problems, and the bounds for work from it."""

    label: str
    folder: Path
    """config.json, tokenizer.json and model.safetensors."""
    policy: Weights
    workload: Workload
    bounds: Thresholds

    @property
    def max_model_len(self) -> int:
        """Return the longest context of the workload, in tokens."""
        return max(map(len, self.workload.prompts)) + self.workload.max_tokens


def from_folder(
    model: Path, thresholds: Path | None, *, problems: str, num_groups: int, max_tokens: int
) -> Subject:
    """Take a model folder, an environment's first problems, and a file of calibrated bounds."""
    workload = workload_of(
        model, environment(problems, {}), num_groups=num_groups, group_size=8, max_tokens=max_tokens
    )
    policy = read_weights(model)
    bounds = read_thresholds(
        thresholds or model / "thresholds.json", model_digest=policy_digest(entries(policy))
    )
    return Subject(str(model), model, policy, workload, bounds)


def from_run(
    url: str, run_id: int | None, scratch: Path, *, num_groups: int, say: Callable[[str], None]
) -> Subject:
    """Fetch a run's newest policy into `scratch`, every tensor checked, and its first problems."""
    with Reader(url) as reader:
        info = served_run(reader, run_id)
        if info.newest_version < 0:
            raise UserError(
                f"run {info.run_id}'s trainer has published nothing yet: try again later"
            )
        say(f"fetching policy version {info.newest_version} of run {info.run_id}")
        policy = _brought(reader, info, scratch)
    workload = run_workload(info.spec, scratch, num_groups=num_groups)
    return Subject(
        f"run {info.run_id} ({info.spec.name}) at policy version {info.newest_version}",
        scratch,
        policy,
        workload,
        info.spec.thresholds,
    )


def _brought(reader: Reader, info: RunInfo, folder: Path) -> Weights:
    """Write the model folder for an engine, with the tokenizer; return the verified weights."""
    spec, domain = info.spec, Domain(info.chain_id, info.ledger)
    store = PolicyCache(reader, run_id=info.run_id, spec=spec, domain=domain)
    try:
        policy = store.version(info.newest_version)
        bring_model_folder(reader, spec, policy.weights, folder)
        bring_tokenizer(reader, spec, folder)
    except (PolicyUnreachable, BlobMismatch) as error:
        raise UserError(f"run {info.run_id}'s policy cannot be fetched: {error}") from error
    return policy.weights
