"""Ratios start from the policies that sampled, whatever workers claim of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from protocol.rollout import Rollout
from tests.stage import work
from tests.stage.training import Opening
from tests.trainer.test_loop import config, live
from trainer.batch import pack
from trainer.behaviour import recompute

pytestmark = pytest.mark.usefixtures("deterministic")


def lie(rollout: Rollout, reward: int) -> Rollout:
    """Claim tokens 0.6 nats less likely if the rollout is worse than others."""
    if reward:
        return rollout
    return Rollout.of(rollout.token_ids(), rollout.worker_logprobs() - 0.6)


def trained(opening: Opening, folder: Path, behaviour: str, *, with_lies: bool) -> bytes:
    """Return the policy after two steps: of fresh groups, then of stale ones."""
    with opening(2, telling=lie if with_lies else None) as market:
        live(market, config(market, folder, steps=2, evaluate_every=0, behaviour=behaviour))
        return market.policies[-1].manifest.policy_digest


def test_false_claims_move_the_policy_only_where_they_are_believed(
    opening: Opening, tmp_path: Path
) -> None:
    believed = [trained(opening, tmp_path / f"w{i}", "worker", with_lies=bool(i)) for i in range(2)]
    assert believed[0] != believed[1], "the attack, with the defence off"
    recomputed = [
        trained(opening, tmp_path / f"r{i}", "recomputed", with_lies=bool(i)) for i in range(2)
    ]
    assert recomputed[0] == recomputed[1]


def test_stale_groups_are_recomputed_under_their_own_version() -> None:
    """Under the weights that sampled them log-probabilities are the claims, under later ones not."""
    policy = work.policy()
    sampled = policy.host_weights()
    with torch.no_grad():
        for master in policy.masters.values():
            master.mul_(1.01)
    policy.refresh()
    groups = [replace(group, policy_version=1) for group in work.groups(4)]
    (microbatch,) = pack(groups, max_tokens=10_000, device="cpu")
    logprobs_N = policy.logprobs(microbatch)[0]
    stale = recompute(policy, groups, step=2, weights_of=lambda _: sampled, max_tokens=100)
    behaviour_N = stale.of(microbatch, logprobs_N)
    assert not behaviour_N.requires_grad
    assert (behaviour_N - microbatch.worker_logprobs_N).abs().max() < 1e-4
    assert (logprobs_N - microbatch.worker_logprobs_N).abs().max() > 0.01
    assert torch.equal(policy.logprobs(microbatch)[0], logprobs_N), "the policy is as it was"
    fresh = recompute(policy, groups, step=1, weights_of=lambda _: {}, max_tokens=100)
    assert torch.equal(fresh.of(microbatch, logprobs_N), logprobs_N)
