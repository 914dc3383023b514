"""Turn leases into engine requests, and completions into the rollouts of a submission.

Pure. Left out: signing, sending and which leases to take.
"""

from collections.abc import Sequence

import numpy as np

from protocol.rollout import Lease, Rollout
from rollout_worker.engines.base import Completion, Engine, Request


def requests_of(lease: Lease, *, eos_token_ids: tuple[int, ...]) -> tuple[Request, ...]:
    """Return one request per leased seed, in the order of the seeds."""
    return tuple(
        Request(
            prompt=lease.prompt,
            seed=seed,
            temperature=lease.temperature,
            max_tokens=lease.max_tokens,
            eos_token_ids=eos_token_ids,
        )
        for seed in lease.seeds
    )


def finish_group(lease: Lease, completions: Sequence[Completion]) -> tuple[Rollout, ...]:
    """Return the rollouts of a submission; `ValueError` unless there is one per leased seed, of finite numbers.

    A model that overflows, by chance or by its operator's will, makes what admission holds against its worker.
    """
    if len(completions) != lease.group_size:
        raise ValueError(f"{len(completions)} completions for the {lease.group_size} leased seeds")
    if not all(np.isfinite(done.logprobs).all() for done in completions):
        raise ValueError("the model's log-probabilities are not finite")
    return tuple(Rollout.of(done.tokens, done.logprobs) for done in completions)


def generate_groups(
    engine: Engine,
    leases: Sequence[Lease],
    *,
    eos_token_ids: tuple[int, ...],
) -> list[tuple[Rollout, ...]]:
    """Sample many leases in one engine call: small groups fill a batch only together."""
    requests = [
        request for lease in leases for request in requests_of(lease, eos_token_ids=eos_token_ids)
    ]
    completions = iter(engine.generate(requests))
    return [finish_group(lease, [next(completions) for _ in lease.seeds]) for lease in leases]
