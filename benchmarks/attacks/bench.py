"""Who samples and who replays: a lab model on one engine, with every weight a cheat may load.

Owns opening things once and putting them back. Left out: which cheats there are (`cheats`) and what is
made of the findings (`figures`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.attacks import reliquary, smollm
from benchmarks.attacks.models import model_folder, reinforcement
from benchmarks.attacks.record import Replayed, Sampled, rows_of
from benchmarks.attacks.stale import policy_after
from benchmarks.attacks.tasks import Task, sums, word_problems
from protocol.advantage import group_advantages
from protocol.constants import MICRO
from protocol.policies.manifest import Weights
from protocol.precision import ComputeDtype
from protocol.rollout import Lease, Rollout
from rollout_worker.engines.base import Completion, Engine, Request
from rollout_worker.engines.causal import CausalModel, read_weights
from rollout_worker.engines.registry import open_engine
from rollout_worker.engines.vllm import VllmEngine
from rollout_worker.generate import finish_group, requests_of
from rollout_worker.replay.calibrate import Workload, workload_of
from rollout_worker.replay.measure import Replayer, ReplayModel, stats_of

EOS = 2
GROUP_SIZE = 8
MAX_SEQUENCES = 128
NUM_STALE_STEPS = 20

Change = Callable[[Request], Request]


@dataclass(slots=True)
class Policies:
    """The weights of the lab: the leased policy, one 20 steps on, another model's; and what they are asked."""

    model: str
    cache: Path
    seed: int
    dtype: ComputeDtype = ComputeDtype.FLOAT32
    """What workers and verifiers compute in."""
    gsm8k: Path | None = None
    """A file of GSM8K's problems, for a model that is asked such."""
    max_tokens: int | None = None
    """Of a completion, if not the task's own."""
    _known: dict[str, Weights] = field(default_factory=dict)
    _task: Task | None = None
    _tokenizer: Any = None

    @property
    def folder(self) -> Path:
        return _there(self.model, self.cache)

    @property
    def task(self) -> Task:
        if self._task is None:
            asks = self.model == smollm.NAME
            task = word_problems(self.gsm8k, self.cache) if asks else sums()
            self._task = replace(task, max_tokens=self.max_tokens or task.max_tokens)
        return self._task

    @property
    def tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        if self._tokenizer is None:
            self._tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        return self._tokenizer

    def score(self, lease: Lease, rollout: Rollout) -> int:
        text = self.tokenizer.decode(rollout.token_ids().tolist(), skip_special_tokens=True)
        environment = self.task.environment
        return environment.score(environment.problem(lease.index), text)

    def named(self, name: str) -> Weights:
        """Return `exact`, `later` (20 GRPO steps on) or `other` (another seed, hardly trained)."""
        if name not in self._known:
            self._known[name] = self._read(name)
        return self._known[name]

    def _read(self, name: str) -> Weights:
        if name == "exact":
            return read_weights(self.folder / "model.safetensors")
        if name == "later":
            return policy_after(
                self.folder,
                reinforcement(self.model),
                num_steps=NUM_STALE_STEPS,
                seed=self.seed,
                cache=self.cache,
            )
        other = _there(f"{self.model}-other", self.cache)
        return read_weights(other / "model.safetensors")


@dataclass
class Bench:
    """A worker that cheats: an engine, the lab's weights, the leases."""

    name: str
    """Of the engine: `transformers`, `vllm`, or `inverse-cdf` for sampling by Reliquary's rule."""
    engine: Engine
    policies: Policies
    workload: Workload
    seed: int

    @classmethod
    def open(cls, engine: str, policies: Policies, *, num_groups: int) -> "Bench":
        return cls(
            engine,
            _opened(engine, policies),
            policies,
            workload(policies, num_groups),
            policies.seed,
        )

    def leases(self, *, salt: int = 0) -> list[Lease]:
        return list(self.workload.leases(salt=salt_of(self.seed, salt)))

    def load(self, weights: Weights) -> None:
        self.engine.load(weights)

    def sample(
        self, leases: Sequence[Lease], change: Change = lambda request: request
    ) -> list[tuple[Rollout, ...]]:
        """Sample every lease from what the engine holds, with each request changed by the cheat."""
        requests = [change(r) for x in leases for r in requests_of(x, eos_token_ids=(EOS,))]
        done = iter(self.engine.generate(requests))
        return [finish_group(lease, [next(done) for _ in lease.seeds]) for lease in leases]

    def continued(
        self,
        leases: Sequence[Lease],
        prefixes: Sequence[Sequence[Completion]],
        change: Change = lambda request: request,
    ) -> list[tuple[Rollout, ...]]:
        """Let the model go on after tokens that it was given, under the leased seeds where unchanged."""
        requests, places = [], []
        for i, (lease, group) in enumerate(zip(leases, prefixes, strict=True)):
            asked = requests_of(lease, eos_token_ids=(EOS,))
            for k, (request, given) in enumerate(zip(asked, group, strict=True)):
                room = lease.max_tokens - len(given.tokens)
                if room > 0 and (not len(given.tokens) or given.tokens[-1] != EOS):
                    context = (*request.prompt, *(int(t) for t in given.tokens))
                    requests.append(change(replace(request, prompt=context, max_tokens=room)))
                    places.append((i, k))
        found = dict(zip(places, self.engine.generate(requests), strict=True)) if requests else {}
        return [
            tuple(_joined(given, found.get((i, k))) for k, given in enumerate(group))
            for i, group in enumerate(prefixes)
        ]

    @cached_property
    def reader(self) -> CausalModel:
        """The exact policy to prefill with, for cheats that look at what was drawn."""
        return CausalModel(self.policies.folder, device="cpu", dtype=self.policies.dtype)

    def score(self, lease: Lease, rollout: Rollout) -> int:
        return self.policies.score(lease, rollout)

    def encoded(self, text: str) -> list[int]:
        return list(self.policies.tokenizer.encode(text, add_special_tokens=False).ids)

    def gold(self, lease: Lease) -> list[int]:
        """Return the right worked solution as ids, with its end."""
        problem = self.policies.task.environment.problem(lease.index)
        return [*self.encoded(problem.solution), EOS]


def workload(policies: Policies, num_groups: int) -> Workload:
    """Return the leased prompts: the environment's first."""
    return workload_of(
        policies.folder,
        policies.task.environment,
        num_groups=num_groups,
        group_size=GROUP_SIZE,
        max_tokens=policies.task.max_tokens,
    )


def salt_of(seed: int, salt: int) -> int:
    """Return a salt that no calibration draws: those count from 0."""
    return 1_000_000 * (seed + 1) + salt


@contextmanager
def open_replayer(name: str, policies: Policies) -> Iterator[Replayer]:
    """Open a verifier's model, on transformers or on vLLM."""
    if name == "transformers":
        yield ReplayModel(policies.folder, dtype=policies.dtype)
        return
    from rollout_worker.replay.vllm import VllmReplay

    engine = _opened(name, policies)
    assert isinstance(engine, VllmEngine)
    try:
        yield VllmReplay(engine, policies.folder)
    finally:
        engine.close()


def replayed(
    replayer: Replayer,
    policies: Policies,
    leased: str,
    leases: Sequence[Lease],
    sampled: Sampled,
) -> Replayed:
    """Replay groups under the weights that were leased, with the advantages of their rewards."""
    replayer.load(policies.named(leased))
    groups = list(zip(leases, sampled.groups(), strict=True))
    found = replayer.findings(groups)
    every = [finding for group in found for finding in group]
    stats = []
    for (lease, rollouts), of_one in zip(groups, found, strict=True):
        rewards = [policies.score(lease, rollout) for rollout in rollouts]
        advantages = np.rint(group_advantages(rewards) * MICRO).astype(int).tolist()
        pairs = zip(of_one, advantages, strict=True)
        stats.append(rows_of([stats_of([finding], [a]) for finding, a in pairs]))
    return Replayed(
        sampled.lengths_GR,
        np.concatenate([f.margins for f in every]).astype(np.float32),
        np.concatenate([f.gaps for f in every]).astype(np.float32),
        np.stack(stats),
    )


def _opened(name: str, policies: Policies) -> Engine:
    task = policies.task
    if name == reliquary.NAME:
        return reliquary.InverseCdfEngine(
            policies.folder,
            device="cpu",
            dtype=policies.dtype,
            max_model_len=task.max_model_len,
            max_sequences=MAX_SEQUENCES,
        )
    return open_engine(
        name,
        policies.folder,
        dtype=policies.dtype,
        max_model_len=task.max_model_len,
        max_sequences=MAX_SEQUENCES,
        kv_cache_mib=task.kv_cache_mib,
    )


def _there(name: str, cache: Path) -> Path:
    if name == smollm.NAME:
        return smollm.made(cache)
    folder = model_folder(name, cache)
    if (folder / "model.safetensors").exists():
        return folder
    from benchmarks.attacks.training import made  # TRL's import takes longer than a small run

    return made(name, cache)


def _joined(given: Completion, more: Completion | None) -> Rollout:
    if more is None:
        return Rollout.of(given.tokens, given.logprobs)
    return Rollout.of(
        np.concatenate([given.tokens, more.tokens]), np.concatenate([given.logprobs, more.logprobs])
    )
