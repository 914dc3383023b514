"""Sample honest groups and replay them: what `protocol.checks.calibration` sets bounds from.

Sampling and replaying are apart, because another machine does each: `rollcall/machine/calibrate.py` runs them
in processes that compute as different machines do. Left out: the bounds themselves.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.model_folder import CONFIG, end_tokens, require_model
from protocol import canonical
from protocol.architectures import why_unknown
from protocol.canonical import keccak256
from protocol.constants import MICRO
from protocol.environments.base import Environment
from protocol.policies.manifest import Weights
from protocol.rollout import Lease, Rollout, lease_id, rollout_seed
from protocol.user_error import UserError
from protocol.verdict import ReplayStats
from rollout_worker.engines.base import Engine
from rollout_worker.generate import generate_groups
from rollout_worker.replay.measure import Replayer, stats_of
from rollout_worker.verify.recheck import REPLAYED_TOGETHER

_WORKER = "0x" + "00" * 20
Groups = Sequence[tuple[Lease, Sequence[Rollout]]]


@dataclass(frozen=True, slots=True)
class Workload:
    """What is sampled in order to calibrate.

    Example: 512 prompts of an environment, groups of 8, at most 64 tokens at T = 1.
    """

    prompts: tuple[tuple[int, ...], ...]
    group_size: int
    max_tokens: int
    eos_token_ids: tuple[int, ...]
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


def sample(engine: Engine, policy: Weights, workload: Workload, *, salt: int = 0) -> Groups:
    """Sample the workload from `policy` as `engine` loads it."""
    leases = list(workload.leases(salt=salt))
    engine.load(policy)
    groups = generate_groups(engine, leases, eos_token_ids=workload.eos_token_ids)
    return list(zip(leases, groups, strict=True))


def replay(model: Replayer, policy: Weights, groups: Groups) -> list[ReplayStats]:
    """Replay groups with the exact weights, as many at a time as a verifier does.

    How passes are filled moves low bits.
    """
    model.load(policy)
    parts = (groups[i : i + REPLAYED_TOGETHER] for i in range(0, len(groups), REPLAYED_TOGETHER))
    return [stats_of(found) for part in parts for found in model.findings(part)]


def to_file(groups: Groups, path: Path) -> None:
    """Keep the rollouts of sampled groups; their leases follow from the workload and the salt."""
    rollouts = [[rollout.model_dump() for rollout in group] for _, group in groups]
    path.write_bytes(canonical.encode(rollouts))


def from_file(path: Path, workload: Workload, *, salt: int) -> Groups:
    """Read what `to_file` kept of the same workload and salt."""
    found = canonical.decode(path.read_bytes())
    groups = [[Rollout.model_validate(rollout) for rollout in group] for group in found]
    return list(zip(workload.leases(salt=salt), groups, strict=True))


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

    require_model(model_dir)
    tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    texts = (environment.problem(index).prompt for index in range(num_groups))
    prompts = tuple(tuple(tokenizer.encode(t, add_special_tokens=False).ids) for t in texts)
    if reason := why_unknown(
        (model_dir / CONFIG).read_bytes(),
        max_prompt_tokens=max(map(len, prompts)),
        max_tokens=max_tokens,
    ):
        raise UserError(f"{model_dir}: {reason}")
    return Workload(
        prompts=prompts,
        group_size=group_size,
        max_tokens=max_tokens,
        eos_token_ids=end_tokens(model_dir),
    )
