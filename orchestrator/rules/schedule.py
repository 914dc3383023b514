"""Decide how many leases may be out and what each of them says.

Pure. Nobody chooses a task: index and seeds follow from the run, the worker, the worker's nonce and
the committed epoch secret. Pacing is AReaL's staleness control (arXiv:2505.24298, equation 3): work
that could only become stale is not leased.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.canonical import keccak256
from protocol.constants import NUM_TOKENS_PER_UNIT
from protocol.rollout import Lease, lease_id, rollout_seed, task_index
from protocol.run import RunSpec

FLAT_PER_GROUP: Final = 4
"""With the strictest staleness a policy of whose groups four fifths are without signal still fills each batch
at once; with a staleness of 4, one of whose groups 95 % are."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What the leases granted at one moment share.

    Example: Opening(run_id=1, epoch=0, secret=bytes(32), version=3, policy_digest=bytes(32),
    deadline=1_800_000_060)
    """

    run_id: int
    epoch: int
    secret: bytes
    version: int
    policy_digest: bytes
    deadline: int


def most_groups(spec: RunSpec, *, newest_version: int) -> int:
    """Return how many groups may ever have been consumed, be ready, waiting or running by now."""
    return (spec.max_staleness + newest_version + 1) * spec.groups_per_batch


def most_flat(spec: RunSpec) -> int:
    """Return how many groups without signal are bought at most while no step is made."""
    return FLAT_PER_GROUP * (spec.max_staleness + 1) * spec.groups_per_batch


def most_units(spec: RunSpec) -> int:
    """Return what a group costs where every completion is as long as allowed."""
    return spec.group_size * spec.max_tokens // NUM_TOKENS_PER_UNIT


def epoch_secret(master: bytes, run_id: int, epoch: int) -> bytes:
    """Return an epoch's secret: derived, so that a restart forgets nothing."""
    return keccak256(master + run_id.to_bytes(32, "big") + epoch.to_bytes(32, "big"))


def make_lease(
    spec: RunSpec,
    opening: Opening,
    *,
    worker: str,
    nonce: int,
    prompt_of: Callable[[int], Sequence[int]],
) -> Lease | None:
    """Return the one lease that (worker, nonce) can have; None if its task's prompt is longer than the run allows."""
    lease = lease_id(opening.run_id, worker, nonce)
    index = task_index(opening.run_id, lease, opening.secret, num_tasks=spec.num_tasks)
    prompt = tuple(prompt_of(index))
    if len(prompt) > spec.max_prompt_tokens:
        return None
    seeds = (rollout_seed(opening.run_id, lease, opening.secret, i) for i in range(spec.group_size))
    return Lease(
        lease_id=lease,
        run_id=opening.run_id,
        worker=worker,
        nonce=nonce,
        epoch=opening.epoch,
        environment=spec.environment,
        index=index,
        prompt=prompt,
        policy_version=opening.version,
        policy_digest=opening.policy_digest,
        temperature_millionths=spec.temperature_millionths,
        max_tokens=spec.max_tokens,
        seeds=tuple(seeds),
        rate=spec.rate,
        deadline=opening.deadline,
    )
