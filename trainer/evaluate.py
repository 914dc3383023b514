"""Measure accuracy on held-out problems: one sample each, at the run's temperature, untruncated.

Problems and seed are the same each time, so that two versions differ by their weights and not by
luck of the draw. Scores are the environment's.
Left out: when it is done and by whom (`evaluator.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import DynamicCache

from protocol.environments.base import FULL_SCORE, Environment, Problem
from protocol.environments.decoding import Decoder
from protocol.environments.registry import environment
from protocol.run import RunSpec
from protocol.user_error import UserError


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`accuracy` is the share of full scores, `held_out_reward` the mean score of 1."""

    accuracy: float
    held_out_reward: float
    held_out_mean_tokens: float
    num_held_out: int


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The problems that are never leased, and how to put them to a model."""

    environment: Environment
    problems: tuple[Problem, ...]
    tokenizer: Tokenizer
    spec: RunSpec
    batch_size: int
    seed: int

    def evaluate(self, model: Any) -> Evaluation:
        """Sample and score every problem with a model of the library's own attention."""
        prompts = [self.tokenizer.encode(problem.prompt).ids for problem in self.problems]
        completions = self.sample(model, prompts)
        scores = [self._score(p, c) for p, c in zip(self.problems, completions, strict=True)]
        return Evaluation(
            accuracy=sum(score == FULL_SCORE for score in scores) / len(scores),
            held_out_reward=sum(scores) / FULL_SCORE / len(scores),
            held_out_mean_tokens=sum(map(len, completions)) / len(scores),
            num_held_out=len(scores),
        )

    def sample(self, model: Any, prompts: Sequence[list[int]]) -> list[list[int]]:
        """Return one completion per prompt. Batches hold prompts of about one length."""
        # One uniform number per prompt and position, so that batching changes no sample.
        draws_PT = torch.rand(
            (len(prompts), self.spec.max_tokens), generator=torch.Generator().manual_seed(self.seed)
        )
        completions: list[list[int]] = [[] for _ in prompts]
        by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        for start in range(0, len(prompts), self.batch_size):
            places = by_length[start : start + self.batch_size]
            own = self._complete(model, [prompts[i] for i in places], draws_PT[places])
            for place, completion in zip(places, own, strict=True):
                completions[place] = completion
        return completions

    @torch.no_grad()
    def _complete(
        self, model: Any, prompts: Sequence[list[int]], draws_PT: Tensor
    ) -> list[list[int]]:
        """Decode one batch; a row leaves it when it ends.

        The library's `generate` runs every row until the last one ends, and took sixty times as long.
        """
        device = model.device
        ends_E = torch.tensor(self.spec.eos_token_ids, device=device)
        width = max(map(len, prompts))
        # Padding is masked, so its id does not matter. It stands left, so that all rows end together.
        tokens_RT = torch.tensor([[0] * (width - len(p)) + p for p in prompts], device=device)
        seen_RT = torch.tensor(
            [[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device
        )
        positions_RT = (seen_RT.cumsum(1) - 1).clamp(min=0)
        rows_R = torch.arange(len(prompts), device=device)
        draws_PT, cache = draws_PT.to(device), DynamicCache(config=model.config)
        completions: list[list[int]] = [[] for _ in prompts]
        for place in range(self.spec.max_tokens):
            logits_RV = model(
                input_ids=tokens_RT,
                attention_mask=seen_RT,
                position_ids=positions_RT,
                past_key_values=cache,
                logits_to_keep=1,
            ).logits[:, -1]
            drawn_R = draw(logits_RV.float() / self.spec.temperature, draws_PT[rows_R, place])
            for row, token in zip(rows_R.tolist(), drawn_R.tolist(), strict=True):
                completions[row].append(token)
            stays_R = torch.isin(drawn_R, ends_E, invert=True).nonzero()[:, 0]
            if not len(stays_R):
                break
            cache.batch_select_indices(stays_R)
            rows_R, tokens_RT = rows_R[stays_R], drawn_R[stays_R, None]
            seen_RT = torch.nn.functional.pad(seen_RT[stays_R], (0, 1), value=1)
            positions_RT = positions_RT[stays_R, -1:] + 1
        return completions

    def _score(self, problem: Problem, completion: Sequence[int]) -> int:
        decoder = Decoder(self.tokenizer, self.spec.eos_token_ids)
        return self.environment.score(problem, decoder.text(completion))


def draw(logits_RV: Tensor, uniform_R: Tensor) -> Tensor:
    """Return the token at which each row's cumulative probability passes its uniform number."""
    cumulative_RV = torch.softmax(logits_RV, -1).cumsum(-1)
    # Scale by the computed sum, so that rounding leaves no number beyond the last token.
    return (
        (cumulative_RV <= uniform_R[:, None] * cumulative_RV[:, -1:])
        .sum(-1)
        .clamp_(max=logits_RV.shape[1] - 1)
    )


def held_out(
    spec: RunSpec, tokenizer: Path, *, num_problems: int, batch: int, seed: int
) -> HeldOut:
    """Prepare up to `num_problems` of the run's held-out ones, without those whose prompts no lease could have."""
    source = environment(spec.environment, spec.environment_config)
    if source.digest != spec.environment_digest:
        raise UserError(
            f"this installation's environment {spec.environment!r} is not the run's: install the "
            "release that the run was launched with"
        )
    indices = range(spec.held_out_start, spec.held_out_start + min(num_problems, spec.num_held_out))
    encoder = Tokenizer.from_file(str(tokenizer))
    problems = [
        problem
        for problem in map(source.problem, indices)
        if len(encoder.encode(problem.prompt).ids) <= spec.max_prompt_tokens
    ]
    if not problems:
        raise UserError(
            f"none of {len(indices)} held-out problems fits max_prompt_tokens = {spec.max_prompt_tokens}: set "
            "evaluate_every = 0"
        )
    return HeldOut(
        environment=source,
        problems=tuple(problems),
        tokenizer=encoder,
        spec=spec,
        batch_size=batch,
        seed=seed,
    )
