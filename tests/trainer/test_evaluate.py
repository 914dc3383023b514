"""Held-out accuracy: the same for the same weights, and truthful."""

import pytest
import torch

from protocol.environments.arithmetic import Arithmetic
from tests.trainer import work
from trainer.evaluate import HeldOut, held_out


def problems(count: int, *, batch: int = 64, seed: int = 3, **changes: object) -> HeldOut:
    return held_out(
        work.spec(**changes),
        work.MODEL / "tokenizer.json",
        num_problems=count,
        batch=batch,
        seed=seed,
    )


def test_problems_are_the_runs_held_out_ones_and_no_more_than_there_are() -> None:
    found = problems(512).problems
    environment = Arithmetic({})
    assert found == tuple(environment.problem((1 << 32) + i) for i in range(64))


def test_the_same_weights_and_seed_give_the_same_accuracy_and_leave_random_state_alone() -> None:
    policy, source = work.policy(), problems(64)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = source.evaluate(policy)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert source.evaluate(policy) == first
    assert problems(64, seed=4).evaluate(policy) != first


def test_the_starting_model_is_about_as_good_as_its_card_says() -> None:
    found = problems(512, batch=256, num_held_out=512).evaluate(work.policy("bfloat16"))
    assert found.num_problems == 512
    assert 0.40 < found.accuracy < 0.62
    assert found.reward == pytest.approx(found.accuracy)  # this environment pays all or nothing
    assert 5 < found.mean_tokens < 32


def test_a_broken_model_scores_nothing() -> None:
    policy = work.policy()
    with torch.no_grad():
        for master in policy.masters.values():
            master.mul_(0.01)
    policy.refresh()
    assert problems(64).evaluate(policy).accuracy == 0.0


def test_another_environment_than_the_runs_is_refused() -> None:
    with pytest.raises(ValueError, match="install the release"):
        problems(8, environment_digest=bytes(32))
