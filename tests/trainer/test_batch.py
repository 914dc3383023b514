"""Groups in, microbatches out: what may be trained on, and that packing changes no gradient."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import zstandard
from torch import Tensor
from transformers import AutoModelForCausalLM

from protocol import canonical
from protocol.errors import Malformed, TooLarge
from protocol.messages import BatchGroup
from protocol.rollout import Rollout, Submission
from tests.stage import work
from tests.stage.terms import MODEL
from trainer.batch import BatchRollout, Group, count, pack, select
from trainer.loss import Clip, Tokens, Whole, grpo

CLIP = Clip(0.2, 0.28, 4.0)


def packed_gradients(groups: list[Group], *, max_tokens: int, chunk: int) -> dict[str, Tensor]:
    policy = work.policy(chunk=chunk)
    whole = Whole(*count(groups), 32)
    for m in pack(groups, max_tokens=max_tokens, device="cpu"):
        logprobs_N, _ = policy.logprobs(m)
        tokens = Tokens(
            logprobs_N, m.worker_logprobs_N, m.advantages_N, m.mask_N, m.sequence_N, m.num_sequences
        )
        grpo(tokens, CLIP, whole).backward()
        policy.collect_gradients()
    return {name: master.grad for name, master in policy.masters.items() if master.grad is not None}


def reference_gradients(groups: list[Group]) -> dict[str, Tensor]:
    """One sample at a time through the library's own forward."""
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    num_tokens = count(groups)[0]
    for group in groups:
        for one in group.completions:
            ids = torch.tensor(np.concatenate([group.prompt, one.tokens]))
            logits = model(ids[None]).logits[0, len(group.prompt) - 1 : -1]
            all_logprobs = torch.log_softmax(logits, -1)
            logprobs = all_logprobs.gather(1, torch.tensor(one.tokens)[:, None])[:, 0]
            ratio = torch.exp(logprobs - torch.tensor(one.worker_logprobs))
            free = ratio.clamp(max=4.0) * one.advantage
            objective = torch.min(free, ratio.clamp(0.8, 1.28) * one.advantage)
            if not one.is_masked:
                (-objective.sum() / num_tokens).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def unequal_groups() -> list[Group]:
    """Real groups, with prompts of several lengths, a one-token completion, a masked one, stale ratios."""
    draws = np.random.default_rng(3)
    found = []
    for i, group in enumerate(work.groups(5)):
        completions = [
            replace(
                one,
                worker_logprobs=one.worker_logprobs
                + draws.normal(0, 0.3, len(one.tokens)).astype(np.float32),
            )
            for one in group.completions
        ]
        if i == 1:
            first = completions[0]
            completions[0] = replace(
                first, tokens=first.tokens[:1], worker_logprobs=first.worker_logprobs[:1]
            )
            completions[1] = replace(completions[1], is_masked=True)
        prompt = group.prompt[: len(group.prompt) - i] if i > 2 else group.prompt
        found.append(replace(group, prompt=prompt, completions=tuple(completions)))
    return found


@pytest.mark.parametrize(("max_tokens", "chunk"), [(10_000, 10_000), (200, 10_000), (20, 16)])
def test_packing_gives_the_gradients_of_single_samples(max_tokens: int, chunk: int) -> None:
    groups = unequal_groups()
    expected = reference_gradients(groups)
    found = packed_gradients(groups, max_tokens=max_tokens, chunk=chunk)
    assert found.keys() == expected.keys()
    norm = torch.stack([g.norm() for g in expected.values()]).norm()
    assert norm > 0.01
    for name, wanted in expected.items():
        assert (found[name] - wanted).abs().max() < 1e-5, name


def test_a_completion_does_not_see_its_siblings_or_other_groups() -> None:
    group, other = work.groups(2)
    policy = work.policy()
    with torch.no_grad():
        alone = policy.logprobs(pack([group], max_tokens=10_000, device="cpu")[0])[0]
        spoiled = replace(group.completions[0], tokens=(group.completions[0].tokens + 1) % 100)
        changed = replace(group, completions=(spoiled, *group.completions[1:]))
        length = len(spoiled.tokens)
        (together,) = pack([changed, other], max_tokens=10_000, device="cpu")
        found = policy.logprobs(together)[0]
    # Packing orders groups by length: find ours by its targets.
    targets = torch.tensor(np.concatenate([one.tokens for one in group.completions[1:]]))
    starts = together.targets_N.unfold(0, len(targets), 1).eq(targets).all(1).nonzero()
    begin = int(starts[0])
    assert (found[begin : begin + len(targets)] - alone[length:]).abs().max() < 1e-5


def test_worker_logprobs_of_honest_fresh_work_are_the_trainers_own() -> None:
    (microbatch,) = pack(work.groups(4), max_tokens=10_000, device="cpu")
    with torch.no_grad():
        exact, entropy = work.policy().logprobs(microbatch)
    assert (exact - microbatch.worker_logprobs_N).abs().max() < 1e-4
    assert 0 <= float(entropy.min()) <= float(entropy.max()) < np.log(128)


def test_prompts_are_forwarded_once_a_group() -> None:
    groups = work.groups(3)
    (microbatch,) = pack(groups, max_tokens=10_000, device="cpu")
    completions = sum(len(c.tokens) for g in groups for c in g.completions)
    assert len(microbatch.tokens_T) == completions + sum(len(g.prompt) for g in groups)


def test_no_microbatch_exceeds_its_tokens_unless_one_rollout_does() -> None:
    groups = work.groups(6)
    for limit in (30, 100, 400):
        packed = pack(groups, max_tokens=limit, device="cpu")
        assert all(len(m.tokens_T) <= limit or m.num_sequences == 1 for m in packed)
        assert sum(m.num_sequences for m in packed) == 24


def group(**changes: object) -> Group:
    one = BatchRollout(np.array([5, 2]), np.zeros(2, np.float32), 0.5, False, 0)
    base = Group(b"a" * 32, b"l" * 32, 3, np.array([4]), (one, one), (0, 10_000))
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"policy_version": 1}, None),
        ({"policy_version": 0}, "stale_policy"),
        ({"policy_version": 5}, None),
        ({"policy_version": 6}, "future_policy"),
        ({"rewards": (10_000, 10_000)}, "equal_rewards"),
        ({"lease_id": b"s" * 32}, "already_trained"),
        (
            {"completions": tuple(replace(group().completions[0], is_masked=True) for _ in "ab")},
            "all_truncated",
        ),
    ],
)
def test_what_may_be_trained_on_at_step_five(
    changes: dict[str, object], reason: str | None
) -> None:
    found = select([group(**changes)], step=5, max_staleness=4, spent={b"s" * 32})
    assert dict(found.dropped) == ({} if reason is None else {reason: 1})
    assert len(found.groups) == (reason is None)


def test_a_group_twice_in_one_batch_counts_once() -> None:
    found = select([group(), group()], step=5, max_staleness=4, spent=set())
    assert (len(found.groups), found.dropped["already_trained"]) == (1, 1)


def test_truncated_completions_are_masked_by_setting() -> None:
    entry, body = work.sampled(1)[0]
    cut = rewritten(
        body,
        lambda s: {
            "rollouts": tuple(
                Rollout.of(r.token_ids()[:-1], r.worker_logprobs()[:-1]) for r in s.rollouts
            )
        },
    )
    for setting in (True, False):
        found = work.made(entry, cut, work.spec(), mask_truncated=setting)
        assert [one.is_masked for one in found.completions] == [setting] * 4


def rewritten(body: bytes, change: Callable[[Submission], dict[str, object]]) -> bytes:
    submission = Submission.from_canonical(zstandard.ZstdDecompressor().decompress(body))
    changed = submission.model_copy(update=change(submission))
    return zstandard.ZstdCompressor().compress(changed.canonical())


def bad_rollout(
    tokens: list[int], logprobs: list[float]
) -> Callable[[Submission], dict[str, object]]:
    return lambda s: {"rollouts": (*s.rollouts[:-1], Rollout.of(tokens, logprobs))}


@pytest.mark.parametrize(
    "change",
    [
        lambda s: {"rollouts": s.rollouts[:-1]},
        lambda _: {"prompt": ()},
        lambda _: {"prompt": (128,)},
        lambda _: {"prompt": (5,) * 33},
        bad_rollout([], []),
        bad_rollout([5, 128], [0.0, 0.0]),
        bad_rollout([5] * 33, [0.0] * 33),
        bad_rollout([5, 2], [0.0]),
        bad_rollout([5, 2], [0.0, float("nan")]),
        bad_rollout([5, 2], [0.0, float("-inf")]),
        lambda s: {"rollouts": (*s.rollouts[:-1], Rollout(tokens=b"abc", logprobs=b"abc"))},
    ],
)
def test_bodies_that_cannot_be_trained_on_are_malformed(
    change: Callable[[Submission], dict[str, object]],
) -> None:
    entry, body = work.sampled(1)[0]
    assert work.made(entry, rewritten(body, lambda _: {}), work.spec(), mask_truncated=True)
    with pytest.raises(Malformed):
        work.made(entry, rewritten(body, change), work.spec(), mask_truncated=True)


def test_missing_rewards_are_malformed() -> None:
    entry, body = work.sampled(1)[0]
    short = BatchGroup.model_validate(entry.model_dump() | {"rewards": entry.rewards[:-1]})
    with pytest.raises(Malformed, match="3 rewards"):
        work.made(short, body, work.spec(), mask_truncated=True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not zstd",
        zstandard.ZstdCompressor().compress(bytes(65 << 20)),
        zstandard.ZstdCompressor(write_content_size=False).compress(canonical.encode({})),
        zstandard.ZstdCompressor().compress(b"\xc1"),
    ],
    ids=["empty", "other", "bomb", "sizeless", "junk"],
)
def test_bodies_that_do_not_inflate_to_a_submission_are_refused(body: bytes) -> None:
    entry, _ = work.sampled(1)[0]
    with pytest.raises((Malformed, TooLarge)):
        work.made(entry, body, work.spec(), mask_truncated=True)
