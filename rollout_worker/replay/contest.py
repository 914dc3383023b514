"""Decide which token wins each position, fed with logits by blocks of the vocabulary.

Running values stand for what was seen: the best `logits / T + g` and its token, the claimed token's
own value, and the logarithm of the softmax's sum (the online softmax of arXiv:1805.02867) over all tokens
but the claimed one, which keeps its surprisal exact near probability 1 (`likelihood.py`). Nothing as wide
as the vocabulary exists at once, and on a CPU noise is drawn only for tokens that can beat what was already
seen (`candidates.py`). The winner and its margin are to the bit those of the whole vocabulary at once.

Suffixes: N positions, V tokens of a block, K single tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rollout_worker.engines.gumbel import BYTES_PER_VALUE, context, gumbel, gumbel_at
from rollout_worker.engines.likelihood import surprisals

_BYTES_PER_LOGIT = 12 + BYTES_PER_VALUE
"""Peak of one block for each logit: up to float32 as computed, float32 scaled, float32 exponentials,
noise."""

_MAX_BLOCK_WIDTH = 2_048
"""Tokens of a block. Wider ones leave fewer positions to share the head's rows that are read."""

LogitsOf = Callable[[slice, slice], Tensor]
"""Slices of the positions and of the token ids to their logits, N × V."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What is claimed of N positions. All tensors are on the model's device."""

    tokens_N: Tensor
    """Claimed ids, int64."""
    seeds_N: Tensor
    """Leased seeds, int64."""
    positions_N: Tensor
    """Of the last context token; the prompt's first token is 0."""
    temperatures_N: Tensor
    """float32."""

    def __len__(self) -> int:
        return len(self.tokens_N)

    def at(self, where: slice) -> "Claims":
        return Claims(
            self.tokens_N[where],
            self.seeds_N[where],
            self.positions_N[where],
            self.temperatures_N[where],
        )


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of N positions."""

    winners_N: Tensor
    margins_N: Tensor
    """The winner's value less the claimed token's, in nats; NaN where the logits are no numbers."""
    logprobs_N: Tensor
    """Of the claimed tokens under softmax(logits / T)."""

    @classmethod
    def of(cls, parts: list["Decided"]) -> "Decided":
        return cls(
            torch.cat([part.winners_N for part in parts]),
            torch.cat([part.margins_N for part in parts]),
            torch.cat([part.logprobs_N for part in parts]),
        )


def decide(
    claims: Claims, logits_of: LogitsOf, vocabulary_size: int, *, buffer_bytes: int
) -> Decided:
    """Hold the contest at all the claims' positions, `buffer_bytes` at most for logits and noise.

    `ValueError` where that is too small for the logits of one position over one block.
    """
    width = min(vocabulary_size, _MAX_BLOCK_WIDTH)
    height = buffer_bytes // (width * _BYTES_PER_LOGIT)
    if height < 1:
        raise ValueError(
            f"a buffer of {buffer_bytes} bytes does not hold one position's block of {width} logits: "
            f"give it {width * _BYTES_PER_LOGIT} or more"
        )
    parts = []
    for start in range(0, len(claims), height):
        rows = slice(start, start + height)
        contest = Contest(claims.at(rows))
        for first in range(0, vocabulary_size, width):
            block = slice(first, min(first + width, vocabulary_size))
            contest.take(logits_of(rows, block), first)
        parts.append(contest.decided())
    return Decided.of(parts)


class Contest:
    """The running state at N positions. Blocks come in the order of their token ids."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._contexts_N = context(claims.seeds_N, claims.positions_N)
        self._best_N = torch.full_like(claims.temperatures_N, -torch.inf)
        self._winners_N = torch.zeros_like(claims.tokens_N)
        self._winning_N = torch.full_like(claims.temperatures_N, torch.nan)
        """The winner's logit over T; NaN until a block has a winner."""
        self._claimed_N = torch.full_like(claims.temperatures_N, torch.nan)
        self._peak_N = torch.full_like(claims.temperatures_N, -torch.inf)
        self._total_N = torch.zeros_like(claims.temperatures_N)
        """The sum of exp(logit / T − peak) over all tokens but the claimed one."""

    def take(self, logits_NV: Tensor, first_token: int) -> None:
        """Add the logits of the V tokens from `first_token` on."""
        scaled_NV = logits_NV.to(torch.float32, copy=True)
        scaled_NV.div_(self._claims.temperatures_N[:, None])
        top_N, leaders_N = scaled_NV.max(dim=1)
        places_N, is_here_N = self._take_claims(scaled_NV, first_token)
        self._add_to_total(scaled_NV, top_N, places_N, is_here_N)
        floor_N = torch.maximum(self._best_N, top_N + self._noise(leaders_N + first_token))
        few = self._candidates(scaled_NV, floor_N, first_token)
        if few is not None:
            values_N, tokens_N = self._best_of(few, scaled_NV, first_token)
        else:
            noise_NV = gumbel(
                self._claims.seeds_N,
                self._claims.positions_N,
                scaled_NV.shape[1],
                first_token=first_token,
            )
            values_N, tokens_N = noise_NV.add_(scaled_NV).max(dim=1)
        # On a tie the earlier token wins, as an argmax has it.
        leads_N = values_N > self._best_N
        self._best_N = torch.where(leads_N, values_N, self._best_N)
        self._winners_N = torch.where(leads_N, tokens_N + first_token, self._winners_N)
        logits_N = scaled_NV.gather(1, tokens_N[:, None])[:, 0]
        self._winning_N = torch.where(leads_N, logits_N, self._winning_N)

    def decided(self) -> Decided:
        """Return the outcome over the blocks taken."""
        # Both values by the same way, so that the winner's own margin is exactly 0.
        winning_N = self._winning_N + self._noise(self._winners_N)
        claimed_N = self._claimed_N + self._noise(self._claims.tokens_N)
        has_nan_N = self._total_N.isnan()
        return Decided(
            winners_N=self._winners_N,
            margins_N=(winning_N - claimed_N).masked_fill_(has_nan_N, torch.nan),
            logprobs_N=-surprisals(self._total_N.log() + (self._peak_N - self._claimed_N)),
        )

    def _take_claims(self, scaled_NV: Tensor, first_token: int) -> tuple[Tensor, Tensor]:
        """Note the claimed tokens' logits; return their places in the block, and which lie in it."""
        places_N = self._claims.tokens_N - first_token
        is_here_N = (places_N >= 0) & (places_N < scaled_NV.shape[1])
        places_N = places_N.clamp(0, scaled_NV.shape[1] - 1)
        logits_N = scaled_NV.gather(1, places_N[:, None])[:, 0]
        self._claimed_N = torch.where(is_here_N, logits_N, self._claimed_N)
        return places_N, is_here_N

    def _add_to_total(
        self, scaled_NV: Tensor, top_N: Tensor, places_N: Tensor, is_here_N: Tensor
    ) -> None:
        peak_N = torch.maximum(self._peak_N, top_N)
        # What is too small to count is kept out of the denormal numbers, which are slow.
        weights_NV = (scaled_NV - peak_N[:, None]).clamp_(min=-80.0).exp_()
        own_N = weights_NV.gather(1, places_N[:, None])[:, 0].masked_fill_(is_here_N, 0.0)
        block_N = weights_NV.scatter_(1, places_N[:, None], own_N[:, None]).sum(dim=1)
        self._total_N = self._total_N * (self._peak_N - peak_N).exp() + block_N
        self._peak_N = peak_N

    def _candidates(
        self, scaled_NV: Tensor, floor_N: Tensor, first_token: int
    ) -> tuple[Tensor, Tensor] | None:
        if scaled_NV.device.type != "cpu":
            return None
        from rollout_worker.replay.candidates import candidates  # numba takes a second to import

        return candidates(scaled_NV, floor_N, self._contexts_N, first_token)

    def _best_of(
        self, few: tuple[Tensor, Tensor], scaled_NV: Tensor, first_token: int
    ) -> tuple[Tensor, Tensor]:
        """Return the best value and its place in the block; −inf where a row has no candidate."""
        rows_K, places_K = few
        noise_K = gumbel_at(self._contexts_N[rows_K], places_K + first_token)
        values_K = scaled_NV[rows_K, places_K] + noise_K
        best_N = torch.full_like(self._best_N, -torch.inf).scatter_reduce_(
            0, rows_K, values_K, reduce="amax"
        )
        is_best_K = values_K == best_N[rows_K]
        past_the_end = scaled_NV.shape[1]
        places_N = torch.full_like(self._winners_N, past_the_end).scatter_reduce_(
            0, rows_K[is_best_K], places_K[is_best_K], reduce="amin"
        )
        return best_N, places_N.clamp_(max=past_the_end - 1)

    def _noise(self, tokens_N: Tensor) -> Tensor:
        return gumbel_at(self._contexts_N, tokens_N)
