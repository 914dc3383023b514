"""Measure accuracy on held-out problems: one sample each, at the run's temperature, untruncated.

The same problems and the same seed each time, so that two versions differ by their weights and not by
luck of the draw. Scores are the environment's; a problem it cannot decide counts as wrong.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import GenerationConfig

from protocol.environments.base import FULL_SCORE, Environment, Problem
from protocol.environments.registry import environment
from protocol.run import RunSpec
from trainer.model import Policy


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`accuracy` is the share of full scores, `reward` the mean score of 1."""

    accuracy: float
    reward: float
    mean_tokens: float
    num_problems: int


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The problems that are never leased, and how to put them to a model."""

    environment: Environment
    problems: tuple[Problem, ...]
    tokenizer: Tokenizer
    spec: RunSpec
    batch_size: int
    seed: int

    def evaluate(self, policy: Policy) -> Evaluation:
        """Sample and score every problem. Leaves torch's random state as it was."""
        devices = [policy.device] if policy.device.type == "cuda" else []
        scores: list[int] = []
        num_tokens = 0
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.seed)
            for start in range(0, len(self.problems), self.batch_size):
                problems = self.problems[start : start + self.batch_size]
                for problem, completion in zip(
                    problems, self._sample(policy, problems), strict=True
                ):
                    num_tokens += len(completion)
                    scores.append(self._score(problem, completion))
        return Evaluation(
            accuracy=sum(score == FULL_SCORE for score in scores) / len(scores),
            reward=sum(scores) / FULL_SCORE / len(scores),
            mean_tokens=num_tokens / len(scores),
            num_problems=len(scores),
        )

    def _sample(self, policy: Policy, problems: Sequence[Problem]) -> Iterator[list[int]]:
        prompts = [self.tokenizer.encode(problem.prompt).ids for problem in problems]
        width = max(map(len, prompts))
        eos = self.spec.eos_token_id
        # Padding is masked, so which id stands there does not matter; left, as generation wants it.
        ids = torch.tensor([[eos] * (width - len(p)) + p for p in prompts])
        seen = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        with policy.sampling() as model:
            output = model.generate(
                ids.to(policy.device),
                attention_mask=seen.to(policy.device),
                generation_config=self._generation(),
            )
        for row in output[:, width:].tolist():
            yield row[: row.index(eos) + 1] if eos in row else row

    def _generation(self) -> GenerationConfig:
        return GenerationConfig(
            do_sample=True,
            temperature=self.spec.temperature,
            top_k=0,
            top_p=1.0,
            max_new_tokens=self.spec.max_tokens,
            eos_token_id=self.spec.eos_token_id,
            pad_token_id=self.spec.eos_token_id,
        )

    def _score(self, problem: Problem, completion: Sequence[int]) -> int:
        own = completion[:-1] if completion[-1] == self.spec.eos_token_id else completion
        text = self.tokenizer.decode(list(own), skip_special_tokens=True)
        score = self.environment.score(problem, text)
        return score if isinstance(score, int) else 0


def held_out(
    spec: RunSpec, tokenizer: Path, *, num_problems: int, batch: int, seed: int
) -> HeldOut:
    """Prepare the run's held-out problems, as many as there are up to `num_problems`."""
    source = environment(spec.environment, spec.environment_config)
    if source.digest != spec.environment_digest:
        raise ValueError(
            f"this installation's environment {spec.environment!r} is not the run's: install the "
            "release that the run was launched with"
        )
    indices = range(spec.held_out_start, spec.held_out_start + min(num_problems, spec.num_held_out))
    return HeldOut(
        environment=source,
        problems=tuple(source.problem(index) for index in indices),
        tokenizer=Tokenizer.from_file(str(tokenizer)),
        spec=spec,
        batch_size=batch,
        seed=seed,
    )
