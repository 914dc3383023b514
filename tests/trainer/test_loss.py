"""Every loss against its formula written out, on ratios that reach each of its branches."""

import math
from dataclasses import replace

import pytest
import torch

from trainer.loss import Band, Clip, Tokens, Whole, losses, outlying
from trainer.metrics import TokenSums
from trainer.model import _head

CLIP = Clip(low=0.2, high=0.28, cap=4.0)
LENGTHS = (3, 1, 4)
RATIOS = (0.5, 1.0, 1.2, 9.0, 1.29, 0.79, 1.0, 6.0)
ADVANTAGES = (1.0, 1.0, 1.0, -2.0, 0.5, 0.5, 0.5, 0.5)


def tokens(
    ratios: tuple[float, ...] = RATIOS,
    advantages: tuple[float, ...] = ADVANTAGES,
    lengths: tuple[int, ...] = LENGTHS,
) -> Tokens:
    worker = torch.linspace(-2.0, -0.1, len(ratios))
    return Tokens(
        logprobs_N=(worker + torch.log(torch.tensor(ratios))).requires_grad_(),
        behaviour_N=worker,
        advantages_N=torch.tensor(advantages),
        mask_N=torch.ones(len(ratios), dtype=torch.bool),
        sequence_N=torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)),
        num_sequences=len(lengths),
    )


def gradient(name: str, batch: Tokens, whole: Whole) -> tuple[float, list[float]]:
    loss = losses()[name](batch, CLIP, whole)
    (found,) = torch.autograd.grad(loss, batch.logprobs_N)
    return float(loss.detach()), found.tolist()


WHOLE = Whole(num_tokens=20, num_sequences=5, max_tokens=10)


@pytest.mark.parametrize(
    ("name", "cap", "divisor"),
    [("grpo", 4.0, 20), ("dapo", math.inf, 20), ("dr_grpo", math.inf, 50)],
)
def test_clipped_losses_are_their_formula(name: str, cap: float, divisor: int) -> None:
    expected, slopes = 0.0, []
    for ratio, advantage in zip(RATIOS, ADVANTAGES, strict=True):
        free, bounded = min(ratio, cap) * advantage, min(max(ratio, 0.8), 1.28) * advantage
        expected -= min(free, bounded) / divisor
        is_free = free <= bounded and ratio < cap
        slopes.append(-ratio * advantage / divisor if is_free else 0.0)
    loss, found = gradient(name, tokens(), WHOLE)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert found == pytest.approx(slopes, rel=1e-5)


def test_one_unlikely_token_carries_the_step_only_where_the_ratio_is_not_capped() -> None:
    batch = tokens((1e4, 1.0), (-1.0, 1.0), (1, 1))
    whole = Whole(2, 2, 10)
    assert abs(gradient("dapo", batch, whole)[1][0]) > 1e3  # the attack, defence off
    assert gradient("grpo", batch, whole)[1][0] == 0.0


def test_cispo_keeps_a_gradient_where_clipping_has_none() -> None:
    _, found = gradient("cispo", tokens(), WHOLE)
    expected = [-min(r, 4.0) * a / 20 for r, a in zip(RATIOS, ADVANTAGES, strict=True)]
    assert found == pytest.approx(expected, rel=1e-5)
    assert gradient("grpo", tokens(), WHOLE)[1][7] == 0.0


def test_gspo_clips_the_geometric_mean_of_a_sequence() -> None:
    expected, start = 0.0, 0
    for length in LENGTHS:
        ratios = RATIOS[start : start + length]
        mean = math.exp(sum(map(math.log, ratios)) / length)
        advantage = ADVANTAGES[start]
        expected -= min(mean * advantage, min(max(mean, 0.8), 1.28) * advantage) / 5
        start += length
    assert gradient("gspo", tokens(), WHOLE)[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", sorted(losses()))
def test_masked_tokens_count_for_nothing_even_where_they_are_infinite(name: str) -> None:
    batch = tokens()
    mask = torch.tensor([True] * 3 + [False] + [True] * 4)
    wild = batch.logprobs_N.detach().clone()
    wild[3] = 1e9
    masked = Tokens(
        wild.requires_grad_(),
        batch.behaviour_N,
        batch.advantages_N,
        mask,
        batch.sequence_N,
        3,
    )
    without = tokens(
        RATIOS[:3] + RATIOS[4:], ADVANTAGES[:3] + ADVANTAGES[4:], (LENGTHS[0], LENGTHS[2])
    )
    worker = torch.cat([batch.behaviour_N[:3], batch.behaviour_N[4:]])
    same = (worker + torch.log(without.ratio.detach())).requires_grad_()
    without = Tokens(same, worker, without.advantages_N, without.mask_N, without.sequence_N, 2)
    loss, _ = gradient(name, masked, WHOLE)
    assert loss == pytest.approx(gradient(name, without, WHOLE)[0], rel=1e-5)


POISONS = [
    (field, value)
    for field in ("logprobs_N", "behaviour_N", "advantages_N")
    for value in (math.nan, math.inf, -math.inf, -100.0, 1e9)
]


@pytest.mark.parametrize("name", sorted(losses()))
@pytest.mark.parametrize(("field", "value"), POISONS)
def test_a_masked_token_has_no_slope_and_leaves_the_others_theirs(
    name: str, field: str, value: float
) -> None:
    """T3: a claim of −100 nats is finite and admitted; masked, it must not end the run."""
    sound = replace(tokens(), mask_N=torch.tensor([True] * 3 + [False] + [True] * 4))
    wild = getattr(sound, field).detach().clone()
    wild[3] = value
    batch = replace(sound, **{field: wild.requires_grad_(field == "logprobs_N")})
    loss, slopes = gradient(name, batch, WHOLE)
    assert math.isfinite(loss)
    assert slopes == gradient(name, sound, WHOLE)[1]
    assert slopes[3] == 0.0


def test_a_mask_on_the_ratio_instead_of_what_it_is_of_poisons_the_step() -> None:
    """The fault that `kept` is for."""
    log_ratio = torch.tensor([0.1, 100.0], requires_grad=True)
    mask = torch.tensor([True, False])
    torch.where(mask, torch.exp(log_ratio), 0.0).sum().backward()
    assert log_ratio.grad is not None
    assert torch.isnan(log_ratio.grad[1])


@pytest.mark.parametrize("value", [math.nan, math.inf, -100.0])
def test_the_sums_of_a_step_leave_out_what_is_masked(value: float) -> None:
    wild = tokens().behaviour_N.clone()
    wild[3] = value
    mask = torch.tensor([True] * 3 + [False] + [True] * 4)
    batch = replace(tokens(), behaviour_N=wild, mask_N=mask)
    sums = TokenSums()
    entropy = torch.ones(8)
    entropy[3] = value
    sums.add(batch, entropy, CLIP, wild)
    assert all(math.isfinite(number) for number in sums.values().values())
    assert sums.count == 7


def test_a_token_that_cannot_be_drawn_adds_nothing_to_the_entropy() -> None:
    hidden = torch.tensor([[1.0]], requires_grad=True)
    weight = torch.tensor([[0.0], [0.0], [-math.inf]])
    logprobs, entropy = _head(hidden, weight, torch.tensor([0]), 1.0)
    assert entropy.item() == pytest.approx(math.log(2))
    assert logprobs.item() == pytest.approx(-math.log(2))


@pytest.mark.parametrize("name", sorted(losses()))
def test_parts_of_a_batch_sum_to_the_whole(name: str) -> None:
    whole_loss, _ = gradient(name, tokens(), WHOLE)
    first = tokens(RATIOS[:4], ADVANTAGES[:4], LENGTHS[:2])
    second = tokens(RATIOS[4:], ADVANTAGES[4:], LENGTHS[2:])
    parts = 0.0
    for part, offset in ((first, 0), (second, 4)):
        worker = tokens().behaviour_N[offset : offset + len(part.logprobs_N)]
        moved = Tokens(
            (worker + torch.log(part.ratio.detach())).requires_grad_(),
            worker,
            part.advantages_N,
            part.mask_N,
            part.sequence_N,
            part.num_sequences,
        )
        parts += gradient(name, moved, WHOLE)[0]
    assert parts == pytest.approx(whole_loss, rel=1e-5)


@pytest.mark.parametrize(
    ("ratios", "reason"),
    [
        ((1.9, 1.9), None),
        ((2.1, 2.1), "mean_ratio"),
        ((0.51, 0.51), None),
        ((0.49, 0.49), "mean_ratio"),
        ((90.0, 0.01), None),
        ((110.0, 0.01), "absurd_ratio"),
        ((1.0, 0.009), "absurd_ratio"),
        ((1.0, math.nan), "absurd_ratio"),
    ],
)
def test_sequences_far_from_their_policy_are_left_out(
    ratios: tuple[float, float], reason: str | None
) -> None:
    batch = tokens((1.0, *ratios), (1.0, 1.0, 1.0), (1, 2))
    found = outlying(batch, Band(mean_low=0.5, mean_high=2.0, absurd=100.0))
    reasons = [name for name, is_out_S in found.items() if is_out_S[1]]
    assert reasons == ([] if reason is None else [reason])
    assert not any(bool(is_out_S[0]) for is_out_S in found.values())
