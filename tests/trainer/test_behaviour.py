"""Ratios start from the policies that sampled, whatever workers claim of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import zstandard

from protocol.canonical import content_digest
from protocol.messages import Batch
from protocol.rollout import Rollout, Submission
from tests.stage import work
from tests.stage.desk import Desk, serving
from tests.trainer.test_loop import config, live
from trainer.batch import pack
from trainer.behaviour import recompute

pytestmark = pytest.mark.usefixtures("deterministic")


def lying(desk: Desk) -> Desk:
    """Have every worker claim its tokens one nat less likely where the rollout is worse than others."""
    batches = []
    for batch in desk.batches:
        entries = []
        for entry in batch.groups:
            body = desk.blobs[entry.body]
            told = Submission.from_canonical(zstandard.ZstdDecompressor().decompress(body))
            rollouts = tuple(
                r if reward else Rollout.of(r.token_ids(), r.worker_logprobs() - 0.6)
                for r, reward in zip(told.rollouts, entry.rewards, strict=True)
            )
            changed = told.model_copy(update={"rollouts": rollouts})
            data = zstandard.ZstdCompressor().compress(changed.canonical())
            desk.blobs[content_digest(data)] = data
            entries.append(entry.model_copy(update={"body": content_digest(data)}))
        batches.append(Batch(run_id=batch.run_id, step=batch.step, groups=tuple(entries)))
    desk.batches = batches
    return desk


def trained(folder: Path, behaviour: str, *, with_lies: bool) -> bytes:
    """The policy after two steps: of fresh groups, then of stale ones."""
    with serving(lying(work.desk(2)) if with_lies else work.desk(2)) as desk:
        live(desk, config(desk, folder, steps=2, evaluate_every=0, behaviour=behaviour))
        return desk.policies[-1].manifest.policy_digest


def test_false_claims_move_the_policy_only_where_they_are_believed(tmp_path: Path) -> None:
    believed = [trained(tmp_path / f"w{i}", "worker", with_lies=bool(i)) for i in range(2)]
    assert believed[0] != believed[1], "the attack, with the defence off"
    recomputed = [trained(tmp_path / f"r{i}", "recomputed", with_lies=bool(i)) for i in range(2)]
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
