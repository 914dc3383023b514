"""Held-out accuracy: the same for the same weights, and truthful."""

from dataclasses import asdict

import pytest
import torch

from protocol.environments.arithmetic import Arithmetic
from protocol.user_error import UserError
from tests.stage import work
from tests.stage.terms import MODEL
from trainer.evaluate import HeldOut, draw, held_out


def problems(count: int, *, batch: int = 64, seed: int = 3, **changes: object) -> HeldOut:
    return held_out(
        work.spec(**changes),
        MODEL / "tokenizer.json",
        num_problems=count,
        batch=batch,
        seed=seed,
    )


def test_problems_are_the_runs_held_out_ones_and_no_more_than_there_are() -> None:
    found = problems(512).problems
    environment = Arithmetic({})
    assert found == tuple(environment.problem((1 << 32) + i) for i in range(64))


def test_the_same_weights_and_seed_give_the_same_accuracy_and_leave_random_state_alone() -> None:
    network, source = work.network(), problems(64)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = source.evaluate(network)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert source.evaluate(network) == first
    assert problems(64, seed=4).evaluate(network) != first


def test_who_shares_a_batch_changes_no_ones_completion() -> None:
    network = work.network()
    assert problems(64, batch=7).evaluate(network) == problems(64, batch=64).evaluate(network)


def test_completions_have_the_probabilities_of_the_model() -> None:
    """Each token is drawn from the softmax: counts of 100,000 draws lie within five deviations."""
    logits_V = torch.tensor([0.0, 1.0, -30.0, 2.0])
    uniform_R = torch.rand(100_000, generator=torch.Generator().manual_seed(5))
    counts_V = draw(logits_V.expand(len(uniform_R), -1), uniform_R).bincount(minlength=4)
    expected_V = torch.softmax(logits_V, -1) * len(uniform_R)
    assert ((counts_V - expected_V).abs() <= 5 * expected_V.sqrt()).all()
    assert draw(torch.tensor([[-1e9, 0.0, -1e9]]), torch.zeros(1)).tolist() == [1]


def test_a_completion_is_what_the_library_generates_greedily() -> None:
    """With the noise out of it (T = 0.01) both must walk the same path."""
    network, source = work.network(), problems(16, temperature_millionths=10_000)
    prompts = [source.tokenizer.encode(problem.prompt).ids for problem in source.problems]
    with torch.no_grad():
        for prompt, own in zip(prompts, source.sample(network, prompts), strict=True):
            output = network.generate(
                torch.tensor([prompt]), do_sample=False, max_new_tokens=32, eos_token_id=2
            )
            assert own == output[0, len(prompt) :].tolist()


def test_the_starting_model_is_about_as_good_as_its_card_says() -> None:
    found = problems(512, batch=256, num_held_out=512).evaluate(work.network())
    assert found.num_held_out == 512
    assert 0.40 < found.accuracy < 0.62
    assert found.held_out_reward == pytest.approx(found.accuracy)  # all or nothing
    assert 5 < found.held_out_mean_tokens < 32
    assert asdict(found).keys().isdisjoint({"version", "evaluate_seconds"})


def test_a_broken_model_scores_nothing() -> None:
    network = work.network()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(0.01)
    assert problems(64).evaluate(network).accuracy == 0.0


def test_another_environment_than_the_runs_is_refused() -> None:
    with pytest.raises(UserError, match="install the release"):
        problems(8, environment_digest=bytes(32))
