"""Every way a group can fail to be paid, and the verdict of a replay.

A `Rejection` is recorded, counted and shown to the worker; it is never raised. `judge` makes the whole
decision of a replay, purely from the measured figures and the calibrated bounds.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from protocol.constants import MAX_GROUP_SIZE, MICRO, NANO
from protocol.precision import ComputeDtype
from protocol.wire import U32, U63, U64, Address, Ascending, AsTuple, Bytes32, Name, Signature, Wire

MAX_MISMATCHES = 64
"""How many positions a verdict shows: enough to see a pattern, 3 kB at most."""


class Rejection(StrEnum):
    """Why a group earns nothing."""

    # decided by admission, on every submission
    WRONG_PROMPT = "wrong_prompt"
    INCOMPLETE_GROUP = "incomplete_group"
    BAD_LENGTH = "bad_length"
    TOKEN_OUT_OF_RANGE = "token_out_of_range"
    BAD_TERMINATION = "bad_termination"
    BAD_LOGPROB = "bad_logprob"
    STALE_POLICY = "stale_policy"
    DUPLICATE_GROUP = "duplicate_group"
    # decided by replay
    REPLAY_MISMATCH = "replay_mismatch"
    REPLAY_MARGIN = "replay_margin"
    REPLAY_LOGPROB = "replay_logprob"
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

    @property
    def unit(self) -> int:
        """Return the integer for one token or one nat."""
        return MICRO if self is Statistic.MISMATCHES else NANO


_LABELS = {
    Statistic.MISMATCHES: "tokens that are not the seeded winner",
    Statistic.MARGIN: "nats by which they lost",
    Statistic.GAP: "nats of log-probability gap",
}


class Bounds(Wire):
    """The bounds of one statistic: in millionths of a mismatch, or in billionths of a nat.

    Totals over a group's tokens are compared with `reference` times their number, so that short and
    long groups, and single rollouts of one, are held to the same law. The difference is the excess.
    """

    reference: U64
    """Per token: above the mean of every honest policy, engine and machine that was measured."""
    group: Annotated[int, Field(ge=1, lt=1 << 64)]
    """Largest excess of one honest group."""
    drift: Annotated[int, Field(ge=1, lt=1 << 64)]
    """Largest sum of excesses that an honest worker reaches (`checks/sequential.py`)."""


class Thresholds(Wire):
    """The one law of honest replay for a model in a compute dtype, with the measurement that set it.

    It holds for every engine and machine. `rollcall calibrate` writes it. Each of the three statistics
    has a third of the false rejects of `judge`, and a third of the false alarms of the sequential test.
    """

    compute_dtype: Annotated[ComputeDtype, Field(strict=False)]
    model_digest: Bytes32
    """Policy digest of the version 0 that was measured, before anything was trained."""
    mismatches: Bounds
    """Tokens that are not the seeded winner."""
    margin: Bounds
    """Nats by which they lost, capped at `MARGIN_CAP_NATS` each."""
    gap: Bounds
    """Nats between recomputed and claimed log-surprisals."""
    varied: Annotated[tuple[Name, ...], AsTuple, Field(max_length=64)]
    """What was measured: engine, instruction set, threads, sequences at once, policy; one line each."""
    num_honest_groups: U32
    num_honest_tokens: U64
    honest_match_millionths: Annotated[int, Field(ge=0, le=MICRO)]
    int8_caught_millionths: Annotated[int, Field(ge=0, le=MICRO)]
    """The share of groups sampled from int8-rounded weights that one group's bounds reject."""
    false_rejects_per_million_groups: Annotated[int, Field(ge=1, le=300)]
    """Honest groups that `judge` may reject: the rate that set the group limits, before their room."""
    false_alarms_per_million_groups: Annotated[int, Field(ge=1, le=MICRO)]
    """Honest groups that may alarm the sequential test: the rate that set the drift limits."""

    def bounds(self, statistic: Statistic) -> Bounds:
        """Return one statistic's bounds."""
        found: Bounds = getattr(self, statistic.value)
        return found

    def misfit(self, *, model_digest: bytes, compute_dtype: ComputeDtype) -> str | None:
        """Return why they do not hold for this model in this dtype, with the remedy, or None."""
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
    """Totals that one replay of a group, or of some of its rollouts, measured; they can be signed.

    Margins are capped at `MARGIN_CAP_NATS` in the sum, not in the maximum. A log-probability gap compares
    logarithms of surprisals, recomputed and claimed (`SURPRISAL_FLOOR_NATS`).
    """

    num_tokens: U32
    num_matched: U32
    margin_nanonats: U64
    max_margin_nanonats: U64
    gap_nanonats: U64
    surprisal_nanonats: U64
    """−log of the tokens' probability under the policy, regardless of the seeds."""
    forks_for_micro: U64 = 0
    """Mismatched tokens of rollouts with a reward above the group's mean, each times the difference."""
    forks_against_micro: U64 = 0
    """The same of rollouts below the mean."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.num_matched > self.num_tokens:
            raise ValueError(f"{self.num_matched} of {self.num_tokens} tokens cannot have matched")
        return self

    @property
    def num_wrong(self) -> int:
        return self.num_tokens - self.num_matched

    @property
    def match_millionths(self) -> int:
        return self.num_matched * MICRO // max(1, self.num_tokens)

    def total(self, statistic: Statistic) -> int:
        """Return the sum over the tokens, in the statistic's unit."""
        match statistic:
            case Statistic.MISMATCHES:
                return self.num_wrong * MICRO
            case Statistic.MARGIN:
                return self.margin_nanonats
            case Statistic.GAP:
                return self.gap_nanonats


NOTHING_MEASURED = ReplayStats(
    num_tokens=0,
    num_matched=0,
    margin_nanonats=0,
    max_margin_nanonats=0,
    gap_nanonats=0,
    surprisal_nanonats=0,
)


class Mismatch(Wire):
    """One position where the replay's winner is not the claimed token."""

    rollout: U32
    position: U32
    """Index into the completion, from 0."""
    expected: U32
    claimed: U32
    margin_nanonats: U64


class Verdict(Wire):
    """A verifier's signed finding on one group, with the positions that explain it.

    Signed fields are all but `mismatches`, which `evidence_digest` binds.
    """

    MAX_ITEMS: ClassVar[int] = 1 << 10

    run_id: U63
    work_digest: Bytes32
    verifier: Address
    outcome: Outcome
    rejection: Annotated[str, Field(max_length=64)]
    detail: Annotated[str, Field(max_length=1024)]
    rollouts: Annotated[tuple[U32, ...], AsTuple, Ascending, Field(max_length=MAX_GROUP_SIZE)]
    """The group's rollouts that were replayed; none if nothing could be."""
    stats: ReplayStats
    """Over every token of those rollouts."""
    drifts: bool = False
    """Whether this group, accepted by itself, carried its worker's sequential test over its bound."""
    hypothesis: Annotated[str, Field(max_length=32)] = ""
    """The `evidence.Hypothesis` that explains a rejected group; empty if none that was tried does."""
    explained: ReplayStats = NOTHING_MEASURED
    """The figures of a replay under the hypothesis."""
    mismatches: Annotated[tuple[Mismatch, ...], AsTuple, Field(max_length=MAX_MISMATCHES)]
    """The worst, by margin."""
    salt: Bytes32 = bytes(32)
    """Random, so that nobody can tell from its seal what the verdict says."""
    decided_at: U64
    signature: Signature

    def evidence_digest(self) -> bytes:
        """Bind the whole verdict; without its salt nobody can guess it."""
        return self.model_copy(update={"signature": bytes(65)}).canonical_digest()


class Seal(Wire):
    """A verifier's signed promise of one verdict, from before it knows any other (`checks/seal.py`)."""

    run_id: U63
    work_digest: Bytes32
    verifier: Address
    evidence_digest: Bytes32
    signature: Signature

    @classmethod
    def of(cls, verdict: Verdict) -> Self:
        """Return what promises this verdict, not signed yet."""
        return cls(
            run_id=verdict.run_id,
            work_digest=verdict.work_digest,
            verifier=verdict.verifier,
            evidence_digest=verdict.evidence_digest(),
            signature=bytes(65),
        )


def judge(stats: ReplayStats, thresholds: Thresholds) -> tuple[Rejection, str] | None:
    """Return the first bound that the group breaks with what was found, or None for honest work."""
    for statistic, rejection in _REJECTIONS.items():
        bounds = thresholds.bounds(statistic)
        if excess(stats, statistic, bounds) > bounds.group:
            most = bounds.reference * stats.num_tokens + bounds.group
            return rejection, (
                f"{statistic.label}: {stats.total(statistic) / statistic.unit:.6g} over "
                f"{stats.num_tokens} tokens; honest work in {thresholds.compute_dtype} stays at or below "
                f"{most / statistic.unit:.6g}"
            )
    return None


def follows(verdict: Verdict, thresholds: Thresholds) -> bool:
    """Return whether a decided verdict's outcome follows from its own figures."""
    return (judge(verdict.stats, thresholds) is None) == (verdict.outcome is Outcome.ACCEPTED)


def excess(stats: ReplayStats, statistic: Statistic, bounds: Bounds) -> int:
    """Return a group's total less its reference, in the statistic's unit; often negative."""
    return stats.total(statistic) - bounds.reference * stats.num_tokens


_REJECTIONS = {
    Statistic.MISMATCHES: Rejection.REPLAY_MISMATCH,
    Statistic.MARGIN: Rejection.REPLAY_MARGIN,
    Statistic.GAP: Rejection.REPLAY_LOGPROB,
}
