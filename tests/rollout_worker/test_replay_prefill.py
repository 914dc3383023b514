"""Prompts are prefilled once where that pays, and no cut of the work changes what is measured."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from rollout_worker.engines.causal import CausalModel
from rollout_worker.replay.prefill import Completed, hidden_states, passes

MODEL = Path(__file__).parents[2] / "models" / "start"


@cache
def model() -> CausalModel:
    return CausalModel(MODEL, device="cpu")


def work(prompts: list[int], siblings: int, lengths: list[int]) -> list[Completed]:
    """Draw `siblings` completions, of lengths in turn, for a prompt of each length."""
    draw = np.random.default_rng(8)
    made = []
    for prompt_length in prompts:
        prompt = tuple(int(token) for token in draw.integers(4, 100, size=prompt_length))
        for i in range(siblings):
            tokens = draw.integers(4, 100, size=lengths[i % len(lengths)])
            made.append(Completed(prompt, tokens.astype(np.uint32)))
    return made


def alone(row: Completed) -> torch.Tensor:
    """Run one sequence as plainly as can be."""
    ids = torch.tensor([[*row.prompt, *row.tokens[:-1].tolist()]])
    return model().decoder(input_ids=ids, use_cache=False).last_hidden_state[0, -len(row.tokens) :]


@pytest.mark.parametrize("shares_prompts", [True, False])
@pytest.mark.parametrize("max_positions", [10_000, 24])
@torch.inference_mode()
def test_hidden_states_are_those_of_each_sequence_alone(
    shares_prompts: bool, max_positions: int
) -> None:
    rows = work([1, 5, 30], siblings=3, lengths=[1, 9, 40])
    found = hidden_states(model(), rows, shares_prompts=shares_prompts, max_positions=max_positions)
    for row, hidden_NH in zip(rows, found, strict=True):
        expected_NH = alone(row)
        assert hidden_NH.shape == expected_NH.shape == (len(row.tokens), 128)
        difference = (model().logits(hidden_NH) - model().logits(expected_NH)).abs()
        assert difference.mean() < 0.05  # bfloat16 logits near 20 are 1/8 apart
        assert difference.max() < 1.0


@torch.inference_mode()
def test_completions_of_one_token_need_only_their_prompt() -> None:
    rows = work([6, 9], siblings=4, lengths=[1])
    found = hidden_states(model(), rows, shares_prompts=True, max_positions=1_000)
    assert [tuple(hidden_NH.shape) for hidden_NH in found] == [(1, 128)] * 8


def test_siblings_with_a_long_prompt_share_its_prefill() -> None:
    rows = work([200, 200], siblings=8, lengths=[50])
    [one] = passes(rows, 100_000)
    assert one.shares_prompts
    assert one.num_prompts == 2
    assert one.num_shared == 2 * 200 + 16 * 49
    [each, other] = passes(rows, 2_000)  # one group fits
    assert {rows[i].prompt for i in each.rows} & {rows[i].prompt for i in other.rows} == set()


def test_short_prompts_are_not_worth_a_mask() -> None:
    [one] = passes(work([10], siblings=8, lengths=[500]), 100_000)
    assert not one.shares_prompts


def test_like_lengths_run_together_where_that_saves_more() -> None:
    rows = work([4] * 20, siblings=8, lengths=[2, 2, 2, 2, 100, 100, 100, 100])
    cut = passes(rows, 1_000)
    widths = [{rows[i].num_context for i in part.rows} for part in cut]
    assert len([lengths for lengths in widths if len(lengths) > 1]) <= 1
    assert sum(part.num_held for part in cut) < 1.3 * sum(4 + row.num_context for row in rows)


def test_every_row_runs_once_and_a_pass_holds_no_more_than_asked() -> None:
    rows = work([3, 50, 7, 20], siblings=6, lengths=[1, 30, 77, 200])
    for most in (1, 100, 300, 5_000):
        cut = passes(rows, most)
        assert sorted(i for part in cut for i in part.rows) == list(range(len(rows)))
        assert all(part.num_held <= most or len(part.rows) == 1 for part in cut)
    assert passes([], 100) == []
