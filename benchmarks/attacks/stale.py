"""Train a policy some GRPO steps on, so that the one it started from can be served as stale.

The trainer's own model, loss and packing, without the market around them. Left out: everything about
who sampled what.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.attacks.models import Reinforcement
from protocol.advantage import group_advantages, has_signal
from protocol.environments.arithmetic import Arithmetic
from protocol.policies.manifest import HostTensor
from protocol.policies.patch import anchor_bytes, from_anchor
from protocol.precision import ComputeDtype
from protocol.rollout import Lease, Rollout
from rollout_worker.engines.registry import open_engine
from rollout_worker.generate import generate_groups
from rollout_worker.replay.calibrate import workload_of
from trainer import loss as losses
from trainer.batch import BatchRollout, Group, count, pack
from trainer.config import TrainerConfig
from trainer.model import Policy, open_policy

GROUP_SIZE = 8
MAX_TOKENS = 64
EOS = 2


def policy_after(
    folder: Path, how: Reinforcement, *, num_steps: int, seed: int, cache: Path
) -> dict[str, HostTensor]:
    """Return the policy `num_steps` GRPO steps on; made once, then read from the cache."""
    path = cache / "policies" / f"{folder.name}-{num_steps}-{seed}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_bytes(anchor_bytes(_train(folder, how, num_steps=num_steps, seed=seed)))
        new.rename(path)
    return from_anchor(path.read_bytes())


def _train(folder: Path, how: Reinforcement, *, num_steps: int, seed: int) -> dict[str, HostTensor]:
    from tokenizers import Tokenizer

    config = TrainerConfig()
    environment, tokenizer = Arithmetic({}), Tokenizer.from_file(str(folder / "tokenizer.json"))
    workload = workload_of(
        folder,
        environment,
        num_groups=num_steps * how.groups_per_step,
        group_size=GROUP_SIZE,
        max_tokens=MAX_TOKENS,
    )
    engine = open_engine("transformers", folder, max_model_len=128)
    policy, _ = open_policy(
        folder,
        device="cpu",
        compute_dtype=ComputeDtype.FLOAT32,
        temperature=1.0,
        logits_chunk=1 << 20,
    )
    optimizer = torch.optim.AdamW(
        policy.masters.values(),
        lr=how.learning_rate,
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
    )
    leases = list(workload.leases(salt=seed))
    for step in range(num_steps):
        chosen = leases[step * how.groups_per_step : (step + 1) * how.groups_per_step]
        groups = generate_groups(engine, chosen, eos_token_ids=(EOS,))
        rewarded = [
            _group(lease, group, [_score(environment, tokenizer, lease, r) for r in group])
            for lease, group in zip(chosen, groups, strict=True)
        ]
        _step(policy, [g for g in rewarded if has_signal(g.rewards)], config)
        torch.nn.utils.clip_grad_norm_(list(policy.masters.values()), config.max_gradient_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        policy.refresh()
        engine.load(policy.host_weights())
    engine.close()
    return policy.host_weights()


def _score(environment: Arithmetic, tokenizer: Any, lease: Lease, rollout: Rollout) -> int:
    text = tokenizer.decode(rollout.token_ids().tolist(), skip_special_tokens=True)
    return environment.score(environment.problem(lease.index), text)


def _group(lease: Lease, rollouts: Sequence[Rollout], rewards: Sequence[int]) -> Group:
    completions = tuple(
        BatchRollout(
            tokens=rollout.token_ids().astype("int64"),
            worker_logprobs=rollout.worker_logprobs(),
            advantage=float(advantage),
            is_masked=False,
            rollout=i,
        )
        for i, (rollout, advantage) in enumerate(
            zip(rollouts, group_advantages(rewards), strict=True)
        )
    )
    prompt = torch.tensor(lease.prompt).numpy()
    return Group(lease.lease_id, lease.lease_id, 0, prompt, completions, tuple(rewards))


def _step(policy: Policy, groups: Sequence[Group], config: TrainerConfig) -> None:
    """Add the gradients of one GRPO step."""
    whole = losses.Whole(*count(groups), MAX_TOKENS)
    clip = losses.Clip(config.clip_low, config.clip_high, config.ratio_cap)
    for m in pack(groups, max_tokens=config.microbatch_tokens, device="cpu"):
        logprobs_N, _ = policy.logprobs(m)
        tokens = losses.Tokens(
            logprobs_N,
            m.worker_logprobs_N,
            m.advantages_N,
            m.mask_N,
            m.sequence_N,
            m.num_sequences,
        )
        losses.grpo(tokens, clip, whole).backward()
        policy.collect_gradients()
