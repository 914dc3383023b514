"""Every way a group can fail to be paid, and the verdict of a replay.

A `Rejection` is recorded, counted and shown to the worker; it is never raised. `judge` is the whole
decision of a replay: pure, from what was measured and what was calibrated.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from protocol.constants import MICRO
from protocol.wire import U32, U63, U64, Address, AsTuple, Bytes32, Name, Signature, Wire

MAX_MISMATCHES = 64
"""Positions that a verdict shows: enough to see a pattern, 3 kB at most."""


class Rejection(StrEnum):
    """Why a group earns nothing."""

    # decided by admission, on every submission
    WRONG_PROMPT = "wrong_prompt"
    INCOMPLETE_GROUP = "incomplete_group"
    BAD_LENGTH = "bad_length"
    TOKEN_OUT_OF_RANGE = "token_out_of_range"
    BAD_TERMINATION = "bad_termination"
    BAD_LOGPROB = "bad_logprob"
    BAD_ACTIVATIONS = "bad_activations"
    STALE_POLICY = "stale_policy"
    DUPLICATE_GROUP = "duplicate_group"
    # decided by replay
    REPLAY_MISMATCH = "replay_mismatch"
    REPLAY_MARGIN = "replay_margin"
    REPLAY_LOGPROB = "replay_logprob"
    REPLAY_ACTIVATIONS = "replay_activations"
    # decided about the worker
    WORKER_EXCLUDED = "worker_excluded"


class Outcome(StrEnum):
    """What a replay concluded. `UNDECIDED` is tried elsewhere and never counts against anyone."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNDECIDED = "undecided"


class Thresholds(Wire):
    """The bounds of honest replay for one engine class, with the measurement that set them.

    All are over one group. Written by `rollcall calibrate`.
    """

    engine_class: Name
    """Engine, hardware and dtype, such as `vllm-cpu-bfloat16`."""
    min_match_millionths: Annotated[int, Field(ge=0, le=MICRO)]
    max_mean_margin_micronats: U32
    max_mean_logprob_gap_micronats: U32
    num_honest_groups: U32
    num_honest_tokens: U32
    honest_match_millionths: Annotated[int, Field(ge=0, le=MICRO)]
    honest_mean_margin_micronats: U32
    false_rejects_per_million_groups: U32
    """The rate the bounds were set for."""


class ReplayStats(Wire):
    """What one replay of one group measured, in integers so that it can be signed.

    Margins are capped at `MARGIN_CAP_MICRONATS` before the mean, not in the maximum. A log-probability
    gap compares logarithms of surprisals, recomputed and claimed (`SURPRISAL_FLOOR_NATS`).
    """

    num_tokens: U32
    num_matched: U32
    mean_margin_micronats: U64
    max_margin_micronats: U64
    mean_logprob_gap_micronats: U64
    p99_logprob_gap_micronats: U64

    @property
    def match_millionths(self) -> int:
        return self.num_matched * MICRO // max(1, self.num_tokens)


class Mismatch(Wire):
    """One position where the replay's winner is not the claimed token."""

    rollout: U32
    position: U32
    """Index into the completion, from 0."""
    expected: U32
    claimed: U32
    margin_micronats: U64


class Verdict(Wire):
    """A verifier's signed finding on one group, with the positions that explain it.

    Signed fields are all but `mismatches`, which `evidence_digest` binds.
    """

    run_id: U63
    work_digest: Bytes32
    verifier: Address
    outcome: Outcome
    rejection: Annotated[str, Field(max_length=64)]
    detail: Annotated[str, Field(max_length=1024)]
    stats: ReplayStats
    mismatches: Annotated[tuple[Mismatch, ...], AsTuple, Field(max_length=MAX_MISMATCHES)]
    """The worst, by margin."""
    decided_at: U64
    signature: Signature

    def evidence_digest(self) -> bytes:
        """Bind the detail, the stats and the positions."""
        return self.model_copy(update={"signature": bytes(65)}).canonical_digest()


def judge(stats: ReplayStats, thresholds: Thresholds) -> tuple[Rejection, str] | None:
    """Return the first bound that the group breaks with what was found, or None for honest work."""
    if stats.match_millionths < thresholds.min_match_millionths:
        return Rejection.REPLAY_MISMATCH, (
            f"{stats.num_matched} of {stats.num_tokens} tokens are the seeded winner "
            f"({stats.match_millionths / MICRO:.4f}); honest work of {thresholds.engine_class} "
            f"stays above {thresholds.min_match_millionths / MICRO:.4f}"
        )
    if stats.mean_margin_micronats > thresholds.max_mean_margin_micronats:
        return Rejection.REPLAY_MARGIN, (
            f"mean margin {stats.mean_margin_micronats / MICRO:.6f} nats; honest work of "
            f"{thresholds.engine_class} stays below "
            f"{thresholds.max_mean_margin_micronats / MICRO:.6f}"
        )
    if stats.mean_logprob_gap_micronats > thresholds.max_mean_logprob_gap_micronats:
        return Rejection.REPLAY_LOGPROB, (
            f"mean log-probability gap {stats.mean_logprob_gap_micronats / MICRO:.6f} nats; honest "
            f"work of {thresholds.engine_class} stays below "
            f"{thresholds.max_mean_logprob_gap_micronats / MICRO:.6f}"
        )
    return None
