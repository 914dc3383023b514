"""Read a batch's groups and pack them into microbatches without padding.

Decides for the trainer which groups may be trained on: a second look, after the orchestrator's own
decision. Each body must be the work that its entry names, leased by the run's orchestrator; whether a hot key
spoke for its worker only the chain tells, which a trainer does not ask. Rewards come from the batch (the
orchestrator recomputed them), tokens and log-probabilities from the submissions' bodies. A group's prompt is computed once for all its rollouts:
with causal attention its hidden states are the same for each of them.

Suffixes: T packed tokens, N completion tokens, D rows of a grid, Q and K its queries and keys.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protocol.advantage import group_advantages, has_signal
from protocol.commitment import check_work
from protocol.errors import Malformed
from protocol.messages import BatchGroup, RunInfo
from protocol.rollout import SignedLease, Submission, read_submission
from protocol.run import RunSpec
from protocol.signing import Domain


@dataclass(frozen=True, slots=True)
class BatchRollout:
    """One rollout as training sees it. A masked one is left out of the loss.

    `rollout` is its place in the group.
    """

    tokens: NDArray[np.int64]
    worker_logprobs: NDArray[np.float32]
    advantage: float
    is_masked: bool
    rollout: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Which rollout a sequence of a microbatch is."""

    work_digest: bytes
    policy_version: int
    rollout: int


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt with its rollouts, as sampled by `policy_version`."""

    work_digest: bytes
    lease_id: bytes
    """A body names one, so what is spent by it is trained on once under whatever digest."""
    policy_version: int
    prompt: NDArray[np.int64]
    completions: tuple[BatchRollout, ...]
    rewards: tuple[int, ...]

    def num_tokens(self) -> int:
        """Return how many tokens its packed form has."""
        return len(self.prompt) + sum(len(c.tokens) for c in self.completions)


@dataclass(frozen=True, slots=True)
class Selection:
    """The groups to train on, and how many were left out, by reason."""

    groups: tuple[Group, ...]
    dropped: Counter[str]


@dataclass(frozen=True, slots=True)
class Grid:
    """A rectangle of attention: `query_DQ` and `key_DK` index T, `mask_DQK` says who sees whom."""

    query_DQ: Tensor
    key_DK: Tensor
    mask_DQK: Tensor


@dataclass(frozen=True, slots=True)
class Microbatch:
    """What one forward pass takes. `source_N` is where in T each completion token is predicted."""

    tokens_T: Tensor
    positions_T: Tensor
    grids: tuple[Grid, ...]
    back_T: Tensor
    """The place of each packed token in the grids' queries, laid end to end."""
    source_N: Tensor
    targets_N: Tensor
    worker_logprobs_N: Tensor
    advantages_N: Tensor
    mask_N: Tensor
    sequence_N: Tensor
    num_sequences: int
    origins: tuple[Origin, ...]
    """One for each sequence."""


def read_group(
    entry: BatchGroup,
    signed: SignedLease,
    body: bytes,
    info: RunInfo,
    *,
    divide_by_deviation: bool,
    mask_truncated: bool,
) -> Group:
    """Decode one body; raise `MarketError` if it is not the entry's work, or not to be trained on."""
    submission = read_submission(body, info.spec.most_submission_bytes)
    require_named(entry, signed, submission, info)
    return group_of(
        entry,
        submission,
        info.spec,
        divide_by_deviation=divide_by_deviation,
        mask_truncated=mask_truncated,
    )


def require_named(
    entry: BatchGroup, signed: SignedLease, submission: Submission, info: RunInfo
) -> None:
    """Raise a `MarketError` unless this is the leased and signed work that the batch names."""
    domain, lease = Domain(info.chain_id, info.ledger), signed.lease
    check_work(entry.work_digest, signed, submission, info=info, domain=domain, spoke_for=None)
    found = lease.worker, lease.index, lease.policy_version
    if (named := (entry.worker, entry.index, entry.policy_version)) != found:
        raise Malformed(f"the batch names {named}, the lease of its work is of {found}")


def group_of(
    entry: BatchGroup,
    submission: Submission,
    spec: RunSpec,
    *,
    divide_by_deviation: bool,
    mask_truncated: bool,
) -> Group:
    """Return the group; raise `Malformed` where it is none that this run can train on."""
    count = len(submission.rollouts)
    if not count == len(entry.rewards) == spec.group_size:
        raise Malformed(f"{count} rollouts and {len(entry.rewards)} rewards for {spec.group_size}")
    if not 0 < len(submission.prompt) <= spec.max_prompt_tokens:
        raise Malformed(f"a prompt of {len(submission.prompt)} tokens")
    if max(submission.prompt) >= spec.vocabulary_size:
        raise Malformed("a prompt token is out of the vocabulary")
    advantages = group_advantages(entry.rewards, divide_by_deviation=divide_by_deviation)
    completions = []
    for i, (rollout, advantage) in enumerate(zip(submission.rollouts, advantages, strict=True)):
        tokens, logprobs = _checked(rollout.tokens, rollout.logprobs, spec)
        is_truncated = int(tokens[-1]) not in spec.eos_token_ids
        is_masked = mask_truncated and is_truncated
        completions.append(BatchRollout(tokens, logprobs, float(advantage), is_masked, i))
    return Group(
        work_digest=entry.work_digest,
        lease_id=submission.lease_id,
        policy_version=entry.policy_version,
        prompt=np.asarray(submission.prompt, dtype=np.int64),
        completions=tuple(completions),
        rewards=entry.rewards,
    )


def select(
    groups: Sequence[Group], *, step: int, max_staleness: int, spent: Collection[bytes]
) -> Selection:
    """Leave out groups not to be trained on at `step`: of a spent lease, stale, from the future, or flat."""
    kept, dropped, seen = [], Counter[str](), set(spent)
    for group in groups:
        reason = _why_not(group, step, max_staleness, seen)
        seen.add(group.lease_id)
        if reason is None:
            kept.append(group)
        else:
            dropped[reason] += 1
    return Selection(tuple(kept), dropped)


def pack(groups: Sequence[Group], *, max_tokens: int, device: str) -> list[Microbatch]:
    """Fill microbatches of at most `max_tokens` with whole groups, or parts of a larger one.

    Groups of like length go together, so that the attention grids have few empty cells. One rollout
    longer than `max_tokens` is a microbatch of its own.
    """
    ordered = sorted(
        groups, key=lambda g: (max(len(c.tokens) for c in g.completions), len(g.prompt))
    )
    microbatches: list[list[Group]] = []
    room = 0
    for part in (part for group in ordered for part in _parts(group, max_tokens)):
        if part.num_tokens() > room:
            microbatches.append([])
            room = max_tokens
        microbatches[-1].append(part)
        room -= part.num_tokens()
    return [_pack_one(parts, device) for parts in microbatches]


def count(groups: Sequence[Group]) -> tuple[int, int]:
    """Return the completion tokens and the sequences that the loss counts."""
    counted = [c for group in groups for c in group.completions if not c.is_masked]
    return sum(len(c.tokens) for c in counted), len(counted)


def _why_not(group: Group, step: int, max_staleness: int, spent: Collection[bytes]) -> str | None:
    if group.lease_id in spent:
        return "already_trained"
    if group.policy_version > step:
        return "future_policy"
    if group.policy_version < step - max_staleness:
        return "stale_policy"
    if not has_signal(group.rewards):
        return "equal_rewards"
    if all(completion.is_masked for completion in group.completions):
        return "all_truncated"
    return None


def _checked(
    tokens: bytes, logprobs: bytes, spec: RunSpec
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    if len(tokens) != len(logprobs) or len(tokens) % 4:
        raise Malformed("tokens and log-probabilities are not vectors of one length")
    ids = np.frombuffer(tokens, dtype="<u4").astype(np.int64)
    values = np.frombuffer(logprobs, dtype="<f4").astype(np.float32)
    if not 0 < len(ids) <= spec.max_tokens:
        raise Malformed(f"a completion of {len(ids)} tokens")
    if int(ids.max()) >= spec.vocabulary_size:
        raise Malformed("a token is out of the vocabulary")
    if not np.isfinite(values).all():
        raise Malformed("a log-probability is not finite")
    return ids, values


def _parts(group: Group, max_tokens: int) -> Iterator[Group]:
    """Cut a group into parts that fit; each repeats the prompt."""
    taken: list[BatchRollout] = []
    size = len(group.prompt)
    for completion in group.completions:
        if taken and size + len(completion.tokens) > max_tokens:
            yield replace(group, completions=tuple(taken))
            taken, size = [], len(group.prompt)
        taken.append(completion)
        size += len(completion.tokens)
    yield replace(group, completions=tuple(taken))


def _pack_one(groups: Sequence[Group], device: str) -> Microbatch:
    """Lay out prompt, completion, completion … for each group, end to end."""
    tokens: list[NDArray[np.int64]] = []
    positions: list[NDArray[np.int64]] = []
    prompts: list[NDArray[np.int64]] = []
    rows: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    sources: list[NDArray[np.int64]] = []
    start = 0
    for group in groups:
        prompt_at = np.arange(start, start + len(group.prompt))
        prompts.append(prompt_at)
        tokens.append(group.prompt)
        positions.append(np.arange(len(group.prompt)))
        start += len(group.prompt)
        for completion in group.completions:
            at = np.arange(start, start + len(completion.tokens))
            rows.append((prompt_at, at))
            sources.append(np.concatenate([prompt_at[-1:], at[:-1]]))
            tokens.append(completion.tokens)
            positions.append(len(group.prompt) + np.arange(len(at)))
            start += len(at)
    completions = [c for group in groups for c in group.completions]
    lengths = [len(c.tokens) for c in completions]
    grids = (
        _grid([(at[:0], at) for at in prompts], device),
        _grid(rows, device),
    )
    queries = [*prompts, *(at for _, at in rows)]
    return Microbatch(
        tokens_T=_on(device, np.concatenate(tokens)),
        positions_T=_on(device, np.concatenate(positions)),
        grids=grids,
        back_T=_on(device, _back(queries, [g.query_DQ.shape for g in grids], len(prompts), start)),
        source_N=_on(device, np.concatenate(sources)),
        targets_N=_on(device, np.concatenate([c.tokens for c in completions])),
        worker_logprobs_N=_on(device, np.concatenate([c.worker_logprobs for c in completions])),
        advantages_N=_on(
            device, np.repeat(np.asarray([c.advantage for c in completions], np.float32), lengths)
        ),
        mask_N=_on(device, np.repeat([not c.is_masked for c in completions], lengths)),
        sequence_N=_on(device, np.repeat(np.arange(len(completions)), lengths)),
        num_sequences=len(completions),
        origins=tuple(
            Origin(group.work_digest, group.policy_version, c.rollout)
            for group in groups
            for c in group.completions
        ),
    )


def _grid(rows: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]], device: str) -> Grid:
    """Make one rectangle: each row's queries see all of its prefix and themselves causally."""
    num_queries = max(len(own) for _, own in rows)
    num_keys = max(len(prefix) + len(own) for prefix, own in rows)
    query_DQ = np.zeros((len(rows), num_queries), dtype=np.int64)
    key_DK = np.zeros((len(rows), num_keys), dtype=np.int64)
    prefix_D = np.zeros((len(rows), 1, 1), dtype=np.int64)
    for row, (prefix, own) in enumerate(rows):
        query_DQ[row, : len(own)] = own
        key_DK[row, : len(prefix) + len(own)] = np.concatenate([prefix, own])
        prefix_D[row] = len(prefix)
    # Empty cells stand behind every real key of their row, so causality alone hides them. Queries
    # of empty cells see something, which keeps their softmax finite; their results are not read.
    mask_DQK = (
        np.arange(num_keys)[None, None, :] <= prefix_D + np.arange(num_queries)[None, :, None]
    )
    return Grid(_on(device, query_DQ), _on(device, key_DK), _on(device, mask_DQK))


def _back(
    queries: Sequence[NDArray[np.int64]],
    shapes: Sequence[Sequence[int]],
    num_prompts: int,
    size: int,
) -> NDArray[np.int64]:
    back_T = np.zeros(size, dtype=np.int64)
    offset = 0
    for row, at in enumerate(queries):
        back_T[at] = offset + np.arange(len(at))
        offset += shapes[0 if row < num_prompts else 1][1]
    return back_T


def _on(device: str, array: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
