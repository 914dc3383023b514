"""Cheats that read what the leased seeds drew, change a token of it and let the engine go on from there.

Whatever engine sampled, the exact policy's prefill tells what else could have been drawn: the runner-up
of a near tie, or the best token of the nucleus where the drawn one lies outside. So neither cheat needs a
sampler of its own, and both run on unmodified vLLM.

Suffixes: N positions of one completion, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import torch
from torch import Tensor

from benchmarks.attacks import reliquary
from benchmarks.attacks.bench import Bench
from benchmarks.attacks.peers import hidden_states
from protocol.environments.base import FULL_SCORE
from protocol.rollout import Lease, Rollout
from rollout_worker.engines.base import Completion
from rollout_worker.engines.gumbel import gumbel
from rollout_worker.replay.nucleus import within_nucleus

Groups = list[tuple[Rollout, ...]]
Pick = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The drawn tokens of N × V `logits / T`, by seeds and positions."""


@dataclass(frozen=True, slots=True)
class Read:
    """One completion as the exact policy sees it."""

    rollout: Rollout
    tokens_N: Tensor
    scaled_NV: Tensor
    """The logits over T."""
    seeds_N: Tensor
    positions_N: Tensor

    def changed(self, place: int, token: int) -> Completion:
        """Return the completion up to `place`, with another token there."""
        logprob = self.scaled_NV[place].log_softmax(dim=0)[token]
        tokens, logprobs = self.rollout.token_ids(), self.rollout.worker_logprobs()
        return Completion(
            np.append(tokens[:place], np.uint32(token)),
            np.append(logprobs[:place], np.float32(logprob)),
        )


def forked(bench: Bench, leases: Sequence[Lease], *, lead: float, is_raising: bool) -> Groups:
    """Take the runner-up of a near tie if that raises the reward, or lowers it.

    A near tie is a position whose winner leads by less than `lead` nats. All are tried in the
    completions that lack the wanted reward, one fork in a completion.
    """
    bench.load(bench.policies.named("exact"))
    kept = bench.sample(leases)
    wanted = FULL_SCORE if is_raising else 0
    forks: list[list[list[Completion]]] = []
    for lease, group in zip(leases, kept, strict=True):
        which = [k for k in range(len(group)) if bench.score(lease, group[k]) != wanted]
        tries: list[list[Completion]] = [[] for _ in group]
        for k, read in zip(which, _read(bench, lease, group, which), strict=True):
            values_NV = read.scaled_NV + gumbel(
                read.seeds_N, read.positions_N, read.scaled_NV.shape[1]
            )
            tries[k] = [read.changed(*tie) for tie in near_ties(values_NV, lead)]
        forks.append(tries)
    for turn in zip_longest(*(tries for group in forks for tries in group)):
        starts = iter(turn)
        prefixes = [[next(starts) or _whole(rollout) for rollout in group] for group in kept]
        found = bench.continued(leases, prefixes)
        kept = [
            tuple(
                max(
                    pair,
                    key=lambda rollout: bench.score(lease, rollout) * (1 if is_raising else -1),
                )
                for pair in zip(mine, new, strict=True)
            )
            for lease, mine, new in zip(leases, kept, found, strict=True)
        ]
    return kept


def nucleus(bench: Bench, leases: Sequence[Lease], *, share: float) -> Groups:
    """Sample from the likeliest tokens alone, whose probabilities come to `share` (top-p).

    Tokens that the nucleus would not have drawn are replaced by those that it does, from the left.
    """
    bench.load(bench.policies.named("exact"))
    pick = reliquary.pick if bench.name == reliquary.NAME else seeded
    kept = bench.sample(leases)
    unread = {(i, k): 0 for i, group in enumerate(kept) for k in range(len(group))}
    while unread:
        found: dict[tuple[int, int], int] = {}
        starts = [[_whole(rollout) for rollout in group] for group in kept]
        for i, (lease, group) in enumerate(zip(leases, kept, strict=True)):
            which = [k for k in range(len(group)) if (i, k) in unread]
            for k, read in zip(which, _read(bench, lease, group, which), strict=True):
                inside_NV = within_nucleus(read.scaled_NV, torch.ones(len(read.scaled_NV)), share)
                drawn_N = pick(inside_NV, read.seeds_N, read.positions_N)
                # What was changed once stays: its context is the same, but for rounding.
                wrong = (drawn_N != read.tokens_N)[unread[i, k] :].nonzero()[:, 0]
                if len(wrong):
                    place = unread[i, k] + int(wrong[0])
                    starts[i][k] = read.changed(place, int(drawn_N[place]))
                    found[i, k] = place + 1
        unread = found
        kept = bench.continued(leases, starts)
    return kept


def seeded(scaled_NV: Tensor, seeds_N: Tensor, positions_N: Tensor) -> Tensor:
    """Return what the protocol's stream draws."""
    return (scaled_NV + gumbel(seeds_N, positions_N, scaled_NV.shape[1])).argmax(dim=1)


def near_ties(values_NV: Tensor, lead: float) -> list[tuple[int, int]]:
    """Return the places whose winner leads by less than `lead`, each with its runner-up."""
    best = values_NV.topk(2, dim=1)
    places = (best.values[:, 0] - best.values[:, 1] < lead).nonzero()[:, 0].tolist()
    return [(place, int(best.indices[place, 1])) for place in places]


@torch.inference_mode()
def _read(
    bench: Bench, lease: Lease, group: Sequence[Rollout], which: Sequence[int]
) -> Iterator[Read]:
    """Yield the chosen completions of a group as the exact policy sees them."""
    if not which:
        return
    chosen = [(lease, [group[k] for k in which])]
    for k, hidden_NH in zip(which, hidden_states(bench.reader, chosen, together=True), strict=True):
        tokens_N = torch.from_numpy(group[k].token_ids().astype(np.int64))
        yield Read(
            group[k],
            tokens_N,
            bench.reader.logits(hidden_NH) / lease.temperature,
            torch.full_like(tokens_N, lease.seeds[k]),
            torch.arange(len(tokens_N)) + len(lease.prompt) - 1,
        )


def _whole(rollout: Rollout) -> Completion:
    return Completion(rollout.token_ids(), rollout.worker_logprobs())
