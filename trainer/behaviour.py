"""Recompute each token's log-probability at sampling, so that no worker's word enters a gradient.

Ratios start from the policy that sampled. Workers claim its log-probabilities, and replay bounds a lie
about them only loosely (`benchmarks/distortion.py`). The trainer has those policies itself: for a group
sampled by the version under training the forward pass gives the log-probabilities anyway, and for a stale
group a second pass under its version's published weights does. The newest weights would be wrong: every
ratio would be 1 and clipping inert.

It costs a quarter of a step whose groups are all stale, and next to nothing if they are fresh (32 to 47
ms beside 136 to 188 ms for 24 groups of the demo model on one core). Its price: claims also carry the rounding of the worker's engine, which ratios to claims correct for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from protocol.policies.manifest import Weights
from trainer.batch import Group, Microbatch, Origin, pack
from trainer.model import Policy


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Recomputed log-probabilities of a step's stale completions, by work digest and rollout."""

    stale: Mapping[tuple[bytes, int], Tensor]

    def of(self, microbatch: Microbatch, logprobs_N: Tensor) -> Tensor:
        """Return the tokens' log-probabilities under their own versions, without a gradient.

        `logprobs_N` are those under the version being trained; groups that it sampled take them.
        """
        own = logprobs_N.detach().split(_lengths(microbatch))
        parts = [
            self.stale.get(_key(origin), part)
            for origin, part in zip(microbatch.origins, own, strict=True)
        ]
        return torch.cat(parts)


def recompute(
    policy: Policy,
    groups: Sequence[Group],
    *,
    step: int,
    weights_of: Callable[[int], Weights],
    max_tokens: int,
) -> Behaviour:
    """Run every group older than `step` under its version's weights, one version after another."""
    found: dict[tuple[bytes, int], Tensor] = {}
    for version in sorted({group.policy_version for group in groups} - {step}):
        own = [group for group in groups if group.policy_version == version]
        with policy.holding(weights_of(version)), torch.no_grad():
            for microbatch in pack(own, max_tokens=max_tokens, device=str(policy.device)):
                parts = policy.logprobs(microbatch)[0].split(_lengths(microbatch))
                found |= {_key(o): p for o, p in zip(microbatch.origins, parts, strict=True)}
    return Behaviour(found)


def _lengths(microbatch: Microbatch) -> list[int]:
    counts: list[int] = torch.bincount(
        microbatch.sequence_N.cpu(), minlength=microbatch.num_sequences
    ).tolist()
    return counts


def _key(origin: Origin) -> tuple[bytes, int]:
    return origin.work_digest, origin.rollout
