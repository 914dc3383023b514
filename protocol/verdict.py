"""Every way a group can fail to be paid, and the verdict of a replay.

A `Rejection` is recorded, counted and shown to the worker; it is never raised. `judge` is the whole
decision of a replay: pure, from what was measured and what was calibrated.
"""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from protocol.constants import MICRO
from protocol.precision import ComputeDtype
from protocol.wire import U32, U63, U64, Address, AsTuple, Bytes32, Signature, Wire

MAX_MISMATCHES = 64
"""Positions that a verdict shows: enough to see a pattern, 3 kB at most."""

QUANTILES = (0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0)
"""Of honest groups, as `Bounds.honest_quantiles` lists them."""


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
    REPLAY_DRIFT = "replay_drift"
    """The group leaves its worker's sequential test above its bound (`sequential.py`)."""
    # decided about the worker
    WORKER_EXCLUDED = "worker_excluded"


class Outcome(StrEnum):
    """What a replay concluded. `UNDECIDED` is tried elsewhere and never counts against anyone."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNDECIDED = "undecided"


class Statistic(StrEnum):
    """What a replay sums over the tokens of a group. The value is its field in `Thresholds`."""

    MISMATCHES = "mismatches"
    MARGIN = "margin"
    GAP = "gap"

    @property
    def label(self) -> str:
        return _LABELS[self]


_LABELS = {
    Statistic.MISMATCHES: "tokens that are not the seeded winner",
    Statistic.MARGIN: "nats by which they lost",
    Statistic.GAP: "nats of log-probability gap",
}


class Limit(Wire):
    """A measured bound with its 95 % confidence interval. The upper end is what work is held to."""

    low: U64
    estimate: U64
    high: U64

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if not self.low <= self.estimate <= self.high:
            raise ValueError(f"{self.low}, {self.estimate}, {self.high} is no interval")
        return self


class Bounds(Wire):
    """The bounds of one statistic, in millionths: of a mismatch, or of a nat.

    Totals over a group's tokens are compared with `reference` times their number, so that short and
    long groups are held to the same law. What is left is the group's excess.
    """

    reference: U64
    """Per token: above the mean of every honest policy that was measured."""
    group: Limit
    """Largest excess of one honest group."""
    drift: Limit
    """Largest sum of excesses that an honest worker reaches (`sequential.py`)."""
    honest_quantiles: Annotated[tuple[U64, ...], AsTuple, Field(max_length=len(QUANTILES))]
    """Honest groups' means per token at `QUANTILES`, of all policies together: where a worker stands."""


class Thresholds(Wire):
    """The bounds of honest replay of one model in one dtype, with the measurement that set them.

    One law: they hold for every engine and machine that samples, and for every one that replays.

    Written by `rollcall calibrate`. Each of the three statistics has a third of the false rejects of
    `judge`, and a third of the false alarms of the sequential test.
    """

    compute_dtype: Annotated[ComputeDtype, Field(strict=False)]
    """What honest work was sampled and replayed in."""
    model_digest: Bytes32
    """Policy digest of the version 0 that they were measured on."""
    mismatches: Bounds
    """Tokens that are not the seeded winner."""
    margin: Bounds
    """Nats by which they lost, capped at `MARGIN_CAP_MICRONATS` each."""
    gap: Bounds
    """Nats between recomputed and claimed log-surprisals."""
    num_honest_groups: U32
    num_honest_tokens: U64
    honest_match_millionths: Annotated[int, Field(ge=0, le=MICRO)]
    honest_mean_margin_micronats: U32
    false_rejects_per_million_groups: U32
    """Of honest groups, by `judge`: the rate that the group limits were set for."""
    false_alarms_per_million_groups: U32
    """Of honest groups, by the sequential test: the rate that the drift limits were set for."""

    def bounds(self, statistic: Statistic) -> Bounds:
        """Return one statistic's bounds."""
        found: Bounds = getattr(self, statistic.value)
        return found

    def misfit(self, *, model_digest: bytes, compute_dtype: ComputeDtype) -> str | None:
        """Return why they do not hold for this model computed in this dtype, with the remedy, or None."""
        if self.compute_dtype is not compute_dtype:
            measured = f"in {self.compute_dtype}, not in {compute_dtype}"
        elif self.model_digest != model_digest:
            measured = f"on model 0x{self.model_digest.hex()}, not on 0x{model_digest.hex()}"
        else:
            return None
        return (
            f"the thresholds were measured {measured}: "
            f"rollcall calibrate --model DIR --dtype {compute_dtype}"
        )


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

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.num_matched > self.num_tokens:
            raise ValueError(f"{self.num_matched} of {self.num_tokens} tokens cannot have matched")
        return self

    @property
    def match_millionths(self) -> int:
        return self.num_matched * MICRO // max(1, self.num_tokens)

    def total(self, statistic: Statistic) -> int:
        """Return the sum over the group's tokens, in millionths of a mismatch or of a nat."""
        match statistic:
            case Statistic.MISMATCHES:
                return (self.num_tokens - self.num_matched) * MICRO
            case Statistic.MARGIN:
                return self.mean_margin_micronats * self.num_tokens
            case Statistic.GAP:
                return self.mean_logprob_gap_micronats * self.num_tokens


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
    for statistic, rejection in _REJECTIONS.items():
        bounds = thresholds.bounds(statistic)
        if excess(stats, statistic, bounds) > bounds.group.high:
            return rejection, (
                f"{statistic.label}: {stats.total(statistic) / MICRO:.6g} over {stats.num_tokens} "
                f"tokens; honest work in {thresholds.compute_dtype} stays at or below "
                f"{(bounds.reference * stats.num_tokens + bounds.group.high) / MICRO:.6g}"
            )
    return None


def excess(stats: ReplayStats, statistic: Statistic, bounds: Bounds) -> int:
    """Return by how much a group's total is above its reference, in millionths; often negative."""
    return stats.total(statistic) - bounds.reference * stats.num_tokens


_REJECTIONS = {
    Statistic.MISMATCHES: Rejection.REPLAY_MISMATCH,
    Statistic.MARGIN: Rejection.REPLAY_MARGIN,
    Statistic.GAP: Rejection.REPLAY_LOGPROB,
}
