"""Decide what a submission earns, apart from its replay: rules in order, first broken one wins.

Pure: the route hands in the lease and the body, and stores what comes out. What establishes *who*
sent it (signature, lease ownership, deadline) is refused with an exception before this. Rewards are
no ground for rejection: a wrong answer is data.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocol.canonical import keccak256
from protocol.rollout import Lease, Submission
from protocol.verdict import Rejection

COINCIDENCE_NATS: Final = 40.0
"""Two leases have different seeds, so equal groups arise by chance with probability exp(total
log-probability). Below e^-40 (4e-18) a repeat is a copy; above it, as with a short or a
near-deterministic answer, equal groups are legitimate and are never called duplicates."""

LOGPROB_SLACK: Final = 1e-3
"""A log-softmax in float32 may exceed zero by rounding: at most 1e-6 seen for 150,000 tokens."""


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a group earns nothing, with the values found and the remedy."""

    rejection: Rejection
    detail: str


@dataclass(frozen=True, slots=True)
class AdmissionTerms:
    """The parts of a RunSpec that admission reads.

    Example: AdmissionTerms(vocabulary_size=128, eos_token_ids=(2,), max_staleness=4)
    """

    vocabulary_size: int
    eos_token_ids: tuple[int, ...]
    max_staleness: int


def admit(
    lease: Lease, submission: Submission, terms: AdmissionTerms, *, newest_version: int
) -> Objection | None:
    """Return the first rule the group breaks, or None when it may be paid."""
    if submission.prompt != lease.prompt:
        return Objection(
            Rejection.WRONG_PROMPT,
            f"the prompt has {len(submission.prompt)} tokens that are not the lease's "
            f"{len(lease.prompt)}: send the leased prompt unchanged",
        )
    if len(submission.rollouts) != lease.group_size:
        return Objection(
            Rejection.INCOMPLETE_GROUP,
            f"{len(submission.rollouts)} rollouts for {lease.group_size} seeds: "
            "send one rollout per seed, in their order",
        )
    broken = _lengths(lease, submission)
    if broken is not None:
        return broken
    lengths = [len(rollout.tokens) // 4 for rollout in submission.rollouts]
    tokens = np.frombuffer(b"".join(r.tokens for r in submission.rollouts), dtype="<u4")
    logprobs = np.frombuffer(b"".join(r.logprobs for r in submission.rollouts), dtype="<f4")
    return (
        _range(tokens, terms)
        or _termination(tokens, lengths, lease, terms)
        or _logprobs(logprobs)
        or _freshness(lease, terms, newest_version)
    )


def copy_key(submission: Submission) -> bytes | None:
    """Return what identifies the group's tokens, or None where equal groups may be chance."""
    logprobs = np.frombuffer(b"".join(r.logprobs for r in submission.rollouts), dtype="<f4")
    if logprobs.sum(dtype=np.float64) > -COINCIDENCE_NATS:
        return None
    return keccak256(b"".join(rollout.tokens + b"|" for rollout in submission.rollouts))


def duplicate(first_lease: bytes) -> Objection:
    """Return the finding on a copied group."""
    return Objection(
        Rejection.DUPLICATE_GROUP,
        f"the same tokens were submitted under lease 0x{first_lease.hex()}: "
        "sample every group with its own lease's seeds",
    )


def _lengths(lease: Lease, submission: Submission) -> Objection | None:
    for i, rollout in enumerate(submission.rollouts):
        size, logprobs = len(rollout.tokens), len(rollout.logprobs)
        if size % 4 or size != logprobs or not 4 <= size <= 4 * lease.max_tokens:
            return Objection(
                Rejection.BAD_LENGTH,
                f"rollout {i} has {size} bytes of tokens and {logprobs} of log-probabilities: "
                f"send 4 bytes of each per token, for 1 to {lease.max_tokens} tokens",
            )
    return None


def _range(tokens: NDArray[np.uint32], terms: AdmissionTerms) -> Objection | None:
    largest = int(tokens.max())
    if largest < terms.vocabulary_size:
        return None
    return Objection(
        Rejection.TOKEN_OUT_OF_RANGE,
        f"token id {largest} in a vocabulary of {terms.vocabulary_size}: "
        "sample with the run's tokenizer and model",
    )


def _termination(
    tokens: NDArray[np.uint32], lengths: list[int], lease: Lease, terms: AdmissionTerms
) -> Objection | None:
    ends = np.cumsum(lengths) - 1
    is_end = np.isin(tokens, terms.eos_token_ids)
    finished = is_end[ends]
    short = ~finished & (np.asarray(lengths) != lease.max_tokens)
    if short.any():
        i = int(short.argmax())
        return Objection(
            Rejection.BAD_TERMINATION,
            f"rollout {i} stops after {lengths[i]} tokens without an end {terms.eos_token_ids}: "
            f"sample until the end-of-sequence token or exactly {lease.max_tokens} tokens",
        )
    if int(is_end.sum()) != int(finished.sum()):
        return Objection(
            Rejection.BAD_TERMINATION,
            f"an end {terms.eos_token_ids} stands inside a completion: stop sampling at the first one",
        )
    return None


def _logprobs(logprobs: NDArray[np.float32]) -> Objection | None:
    good = np.isfinite(logprobs) & (logprobs <= LOGPROB_SLACK)
    if good.all():
        return None
    i = int((~good).argmax())
    return Objection(
        Rejection.BAD_LOGPROB,
        f"log-probability {float(logprobs[i])} at token {i} of the group: "
        "send the finite natural logarithm of the sampled token's probability",
    )


def _freshness(lease: Lease, terms: AdmissionTerms, newest_version: int) -> Objection | None:
    oldest = newest_version - terms.max_staleness
    if lease.policy_version >= oldest:
        return None
    return Objection(
        Rejection.STALE_POLICY,
        f"policy version {lease.policy_version} is {newest_version - lease.policy_version} behind "
        f"version {newest_version}; the run takes at most {terms.max_staleness}: ask for fewer "
        "leases at a time",
    )
