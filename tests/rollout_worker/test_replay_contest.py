"""Hold the contest by blocks to the whole vocabulary at once, and both to the consensus reference."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import sampling
from rollout_worker.engines.gumbel import context, gumbel, gumbel_at
from rollout_worker.replay.candidates import candidates
from rollout_worker.replay.contest import Claims, Contest, Decided, decide

NUM_POSITIONS = 5


def claims(seed: int, vocabulary_size: int, temperature: float = 1.0) -> Claims:
    draw = np.random.default_rng(seed)
    return Claims(
        tokens_N=torch.from_numpy(draw.integers(0, vocabulary_size, size=NUM_POSITIONS)),
        seeds_N=torch.from_numpy(draw.integers(0, 2**63 - 1, size=NUM_POSITIONS)),
        positions_N=torch.from_numpy(draw.integers(0, 9_000, size=NUM_POSITIONS)),
        temperatures_N=torch.full((NUM_POSITIONS,), temperature),
    )


def logits(seed: int, vocabulary_size: int, spread: float) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return (spread * torch.randn(NUM_POSITIONS, vocabulary_size, generator=draw)).bfloat16()


def at_once(logits_NV: torch.Tensor, claims: Claims) -> Decided:
    """Hold the contest in the plainest way: everything materialised."""
    scaled_NV = logits_NV.float() / claims.temperatures_N[:, None]
    values_NV = scaled_NV + gumbel(claims.seeds_N, claims.positions_N, scaled_NV.shape[1])
    best_N, winners_N = values_NV.max(dim=1)
    claimed_N1 = claims.tokens_N[:, None]
    return Decided(
        winners_N=winners_N,
        margins_N=best_N - values_NV.gather(1, claimed_N1)[:, 0],
        logprobs_N=scaled_NV.log_softmax(dim=1).gather(1, claimed_N1)[:, 0],
    )


def by_blocks(logits_NV: torch.Tensor, claims: Claims, cuts: list[int]) -> Decided:
    contest = Contest(claims)
    edges = [0, *sorted({cut for cut in cuts if cut < logits_NV.shape[1]}), logits_NV.shape[1]]
    for first, last in pairwise(edges):
        if first < last:
            contest.take(logits_NV[:, first:last], first)
    return contest.decided()


def same(a: Decided, b: Decided) -> bool:
    return torch.equal(a.winners_N, b.winners_N) and torch.equal(a.margins_N, b.margins_N)


# Spread 0: a good part could win, noise is drawn for all. Spread 30: for a few.
@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    vocabulary_size=st.integers(1, 700),
    spread=st.sampled_from([0.0, 1.0, 8.0, 30.0, 300.0]),
    temperature=st.sampled_from([1.0, 0.7, 1.3]),
    cuts=st.lists(st.integers(1, 699), max_size=6),
)
def test_blocks_find_to_the_bit_what_the_whole_vocabulary_does(
    seed: int, vocabulary_size: int, spread: float, temperature: float, cuts: list[int]
) -> None:
    made, claimed = (
        logits(seed, vocabulary_size, spread),
        claims(seed, vocabulary_size, temperature),
    )
    whole, blocked = at_once(made, claimed), by_blocks(made, claimed, cuts)
    assert same(whole, blocked)
    assert torch.allclose(whole.logprobs_N, blocked.logprobs_N, atol=1e-4, rtol=1e-5)
    honest = replace(claimed, tokens_N=whole.winners_N)
    assert by_blocks(made, honest, cuts).margins_N.eq(0).all()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    vocabulary_size=st.integers(2, 5_000),
    spread=st.sampled_from([0.5, 3.0, 20.0]),
    temperature=st.sampled_from([1.0, 0.5]),
)
def test_the_winner_is_the_reference_streams(
    seed: int, vocabulary_size: int, spread: float, temperature: float
) -> None:
    made, claimed = (
        logits(seed, vocabulary_size, spread),
        claims(seed, vocabulary_size, temperature),
    )
    decided = decide(
        claimed,
        lambda places, tokens: made[places, tokens],
        vocabulary_size,
        buffer_bytes=1 << 17,
    )
    values = sampling.noised(
        made.float().numpy(),
        claimed.seeds_N.numpy(),
        claimed.positions_N.numpy(),
        temperature=temperature,
    )
    best, every = values.max(axis=1), np.arange(NUM_POSITIONS)
    # The reference is float64: another winner may only be one within float32's rounding of it.
    assert np.abs(best - values[every, decided.winners_N.numpy()]).max() < 1e-4
    margins = best - values[every, claimed.tokens_N.numpy()]
    assert np.abs(decided.margins_N.numpy() - margins).max() < 1e-3


def test_no_buffer_changes_what_is_found() -> None:
    draw = torch.Generator().manual_seed(3)
    head_VH = torch.randn(6_000, 48, generator=draw).bfloat16()
    hidden_NH = torch.randn(NUM_POSITIONS, 48, generator=draw).bfloat16()
    claimed = claims(3, 6_000)
    large, small = (
        decide(
            claimed,
            lambda places, tokens: hidden_NH[places] @ head_VH[tokens].T,
            6_000,
            buffer_bytes=size,
        )
        for size in (1 << 24, 50_000)  # all positions at once; one by one
    )
    assert same(large, small)
    with pytest.raises(ValueError, match="give it 49152 or more"):
        decide(claimed, lambda places, _: hidden_NH[places], 6_000, buffer_bytes=49_151)


def test_noise_of_single_tokens_and_of_later_blocks_is_the_same_noise() -> None:
    claimed = claims(9, 1 << 17)
    whole_NV = gumbel(claimed.seeds_N, claimed.positions_N, 1 << 17)
    late = gumbel(claimed.seeds_N, claimed.positions_N, 1_001, first_token=100_003)
    assert torch.equal(late, whole_NV[:, 100_003:101_004])
    alone_N = gumbel_at(context(claimed.seeds_N, claimed.positions_N), claimed.tokens_N)
    assert torch.equal(alone_N, whole_NV.gather(1, claimed.tokens_N[:, None])[:, 0])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("spread", [1.0, 4.0, 30.0])
def test_no_token_that_reaches_the_floor_is_passed_over(spread: float, threads: int) -> None:
    draw = torch.Generator().manual_seed(5)
    scaled_NV = spread * torch.randn(60, 3_000, generator=draw)
    seeds_N = torch.randint(0, 2**62, (60,), generator=draw)
    positions_N = torch.arange(60)
    values_NV = scaled_NV + gumbel(seeds_N, positions_N, 3_000, first_token=50)
    floor_N = values_NV.sort(dim=1).values[:, -3]  # three reach it, one of them exactly
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = candidates(scaled_NV, floor_N, context(seeds_N, positions_N), 50)
    finally:
        torch.set_num_threads(before)
    assert found is not None
    is_found_NV = torch.zeros_like(scaled_NV, dtype=torch.bool)
    is_found_NV[found] = True
    assert is_found_NV[values_NV >= floor_N[:, None]].all()
    assert is_found_NV.sum() < 10 * 3 * 60  # and few others
    low_N = torch.full_like(floor_N, -100.0)
    assert candidates(scaled_NV.clamp(-5, 5), low_N, context(seeds_N, positions_N), 50) is None


def test_a_policy_of_nonsense_logits_has_no_winner_in_any_block() -> None:
    made, claimed = logits(1, 300, 3.0), claims(1, 300)
    made[2, 250] = float("nan")
    for cuts in ([], [100], [260]):
        decided = by_blocks(made, claimed, cuts)
        assert decided.margins_N.isnan().tolist() == [False, False, True, False, False]
        assert decided.logprobs_N[2].isnan()


@pytest.mark.gpu
@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_a_gpu_decides_as_a_cpu_does(spread: float) -> None:
    made, claimed = logits(4, 40_000, spread), claims(4, 40_000)
    moved = Claims(
        claimed.tokens_N.cuda(),
        claimed.seeds_N.cuda(),
        claimed.positions_N.cuda(),
        claimed.temperatures_N.cuda(),
    )
    here, there = by_blocks(made, claimed, [7_000]), by_blocks(made.cuda(), moved, [7_000])
    assert there.winners_N.cpu().equal(here.winners_N)
    assert (there.margins_N.cpu() - here.margins_N).abs().max() < 1e-5
