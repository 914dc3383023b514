"""The losses, each with its paper, on flat completion tokens; and which sequences may count.

Ratios start from the policy that sampled: recomputed under that version (`behaviour.py`), or as its
worker claims. Recomputing stale work with the current model would make every ratio 1 and clipping inert.
Every loss divides by a count over the *whole* step, so any packing into microbatches sums to one batch.
Left out: a KL term against a reference, and decoupled PPO.

Suffixes: N completion tokens of a microbatch, S its sequences.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Tokens:
    """The completion tokens of one microbatch. `sequence_N` says which sequence each belongs to."""

    logprobs_N: Tensor
    behaviour_N: Tensor
    """Log-probabilities of the policy that sampled."""
    advantages_N: Tensor
    mask_N: Tensor
    sequence_N: Tensor
    num_sequences: int

    @property
    def ratio(self) -> Tensor:
        return torch.exp(self.kept(self.logprobs_N - self.behaviour_N))

    def kept(self, values_N: Tensor) -> Tensor:
        """Return the values with 0 where masked: what enters a function, never what comes out of it.

        A mask on the outcome leaves the function's slope in the graph, and 0 × inf poisons every gradient.
        """
        return torch.where(self.mask_N, values_N, 0.0)

    def sum_by_sequence(self, values_N: Tensor) -> Tensor:
        """Return the sum of unmasked values for each sequence."""
        zero_S = values_N.new_zeros(self.num_sequences)
        return zero_S.index_add(0, self.sequence_N, self.kept(values_N))


@dataclass(frozen=True, slots=True)
class Clip:
    """Bounds on the ratio: 1 − low … 1 + high, and `cap` if the advantage is negative."""

    low: float
    high: float
    cap: float


@dataclass(frozen=True, slots=True)
class Whole:
    """Counts over all microbatches of the step, before sequences are left out by their ratios."""

    num_tokens: int
    num_sequences: int
    max_tokens: int
    """The longest completion that the run allows."""


Loss = Callable[[Tokens, Clip, Whole], Tensor]


def losses() -> Mapping[str, Loss]:
    """Return every loss by its name in the config."""
    return {"grpo": grpo, "dapo": dapo, "dr_grpo": dr_grpo, "cispo": cispo, "gspo": gspo}


def grpo(tokens: Tokens, clip: Clip, whole: Whole) -> Tensor:
    """GRPO (arXiv:2402.03300) without its KL term, two-sided (arXiv:2505.07291), per token.

    One-sided clipping leaves the ratio unbounded if the advantage is negative: one unlikely token
    could carry the step.
    """
    objective_N = _clipped(tokens.ratio, tokens.advantages_N, clip, cap=clip.cap)
    return -tokens.kept(objective_N).sum() / whole.num_tokens


def dapo(tokens: Tokens, clip: Clip, whole: Whole) -> Tensor:
    """DAPO (arXiv:2503.14476): asymmetric clip, mean over the tokens of the step."""
    objective_N = _clipped(tokens.ratio, tokens.advantages_N, clip, cap=None)
    return -tokens.kept(objective_N).sum() / whole.num_tokens


def dr_grpo(tokens: Tokens, clip: Clip, whole: Whole) -> Tensor:
    """Dr. GRPO (arXiv:2503.20783): divides by a constant, so long answers are not favoured."""
    objective_N = _clipped(tokens.ratio, tokens.advantages_N, clip, cap=None)
    return -tokens.kept(objective_N).sum() / (whole.num_sequences * whole.max_tokens)


def cispo(tokens: Tokens, clip: Clip, whole: Whole) -> Tensor:
    """CISPO (arXiv:2506.13585): bounds the weight, not the token, so every token keeps a gradient."""
    weight_N = torch.clamp(tokens.ratio, max=clip.cap).detach()
    objective_N = weight_N * tokens.advantages_N * tokens.kept(tokens.logprobs_N)
    return -tokens.kept(objective_N).sum() / whole.num_tokens


def gspo(tokens: Tokens, clip: Clip, whole: Whole) -> Tensor:
    """GSPO (arXiv:2507.18071): one ratio per sequence, the geometric mean of its tokens'."""
    length_S = tokens.sum_by_sequence(torch.ones_like(tokens.logprobs_N))
    divisor_S = length_S.clamp(min=1.0)
    log_ratio_S = tokens.sum_by_sequence(tokens.logprobs_N - tokens.behaviour_N) / divisor_S
    advantage_S = tokens.sum_by_sequence(tokens.advantages_N) / divisor_S
    objective_S = _clipped(torch.exp(log_ratio_S), advantage_S, clip, cap=None)
    return -torch.where(length_S > 0, objective_S, 0.0).sum() / whole.num_sequences


@dataclass(frozen=True, slots=True)
class Band:
    """The range of ratios within which a sequence is trained on."""

    mean_low: float
    mean_high: float
    absurd: float


def outlying(tokens: Tokens, band: Band) -> Mapping[str, Tensor]:
    """Return, by reason, which sequences S are too far from the policy that sampled them.

    A worker whose work is honest and fresh never gets here; counts are a signal of fraud.
    """
    log_ratio_N = (tokens.logprobs_N - tokens.behaviour_N).detach()
    limit = torch.log(torch.tensor(band.absurd))
    length_S = tokens.sum_by_sequence(torch.ones_like(log_ratio_N))
    mean_S = torch.exp(tokens.sum_by_sequence(log_ratio_N) / length_S.clamp(min=1.0))
    # Not `>`: a NaN is absurd too.
    absurd_S = tokens.sum_by_sequence((~(log_ratio_N.abs() <= limit)).float()) > 0
    outside_S = ~((mean_S >= band.mean_low) & (mean_S <= band.mean_high)) & ~absurd_S
    return {"absurd_ratio": absurd_S, "mean_ratio": outside_S}


def _clipped(ratio: Tensor, advantage: Tensor, clip: Clip, *, cap: float | None) -> Tensor:
    bounded = torch.clamp(ratio, 1 - clip.low, 1 + clip.high)
    free = ratio if cap is None else torch.clamp(ratio, max=cap)
    return torch.min(free * advantage, bounded * advantage)
