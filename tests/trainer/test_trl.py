"""Loss and gradients against TRL's GRPOTrainer on the same batch, where its formulas are ours."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.trainer import Trl, padded
from tests.stage import work
from trainer.batch import Group, count, pack
from trainer.loss import Clip, Tokens, Whole, losses

MAX_TOKENS = 256


@pytest.fixture(scope="module")
def groups() -> Iterator[list[Group]]:
    """Real groups with the ratios of stale work, so that every clip is reached.

    None is masked: TRL still counts a masked sequence among those it divides by, and we do not.
    """
    torch.set_num_threads(1)
    draws = np.random.default_rng(5)
    stale = []
    for group in work.groups(6):
        completions = [
            replace(
                one,
                is_masked=False,
                worker_logprobs=one.worker_logprobs
                + draws.normal(0, 0.6, len(one.tokens)).astype(np.float32),
            )
            for one in group.completions
        ]
        stale.append(replace(group, completions=tuple(completions)))
    yield stale


def ours(groups: list[Group], name: str, clip: Clip) -> tuple[float, dict[str, Tensor], Tensor]:
    policy, total, ratios = work.policy(), 0.0, []
    whole = Whole(*count(groups), MAX_TOKENS)
    for m in pack(groups, max_tokens=300, device="cpu"):
        logprobs_N, _ = policy.logprobs(m)
        tokens = Tokens(
            logprobs_N, m.worker_logprobs_N, m.advantages_N, m.mask_N, m.sequence_N, m.num_sequences
        )
        loss = losses()[name](tokens, clip, whole)
        loss.backward()
        policy.collect_gradients()
        total += float(loss.detach())
        ratios.append(tokens.ratio.detach())
    found = {name: m.grad for name, m in policy.masters.items() if m.grad is not None}
    return total, found, torch.cat(ratios)


@pytest.mark.parametrize(
    ("name", "clip", "settings"),
    [
        ("grpo", Clip(0.2, 0.28, 1.6), {"delta": 1.6}),
        ("dapo", Clip(0.2, 0.28, 1.6), {"delta": None}),
        ("dr_grpo", Clip(0.2, 0.28, 1.6), {"delta": None, "loss_type": "dr_grpo"}),
        ("cispo", Clip(0.2, 0.28, 1.6), {"loss_type": "cispo", "epsilon_high": 1.6, "delta": None}),
        (
            "gspo",
            Clip(0.05, 0.06, 1.6),
            {
                "loss_type": "grpo",
                "importance_sampling_level": "sequence",
                "epsilon": 0.05,
                "epsilon_high": 0.06,
                "delta": None,
            },
        ),
    ],
)
def test_loss_and_gradients_are_those_of_trl(
    name: str, clip: Clip, settings: dict[str, Any], groups: list[Group]
) -> None:
    loss, gradients, ratios = ours(groups, name, clip)
    assert float(ratios.min()) < 0.8 and float(ratios.max()) > 1.6
    trl = Trl(groups, recompute=False, sequences=24, **settings)
    theirs = trl.trainer.compute_loss(trl.model, padded(groups))
    assert loss == pytest.approx(float(theirs.detach()), abs=2e-6)
    expected = trl.gradients()
    assert gradients.keys() == expected.keys()
    scale = max(float(g.abs().max()) for g in expected.values())
    assert scale > 1e-3
    for tensor, wanted in expected.items():
        assert float((gradients[tensor] - wanted).abs().max()) < 2e-5 * scale, tensor
