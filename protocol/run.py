"""RunSpec: everything about a run that all parties must agree on. Its hash is on chain.

Nothing here can be overridden locally. A single party's own choices (addresses, paths, sizes, the
trainer's recipe) are in that party's config.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from protocol.checks.drops import DropPolicy, DropRule
from protocol.constants import (
    MAX_COMPLETION_TOKENS,
    MAX_GROUP_SIZE,
    MAX_PROMPT_TOKENS,
    MAX_SUBMISSION_INFLATED_BYTES,
    MICRO,
    PROTOCOL_VERSION,
)
from protocol.precision import ComputeDtype
from protocol.verdict import Thresholds
from protocol.wire import U32, U63, U64, Address, Ascending, AsTuple, Bytes32, Name, Wire

MAX_STALENESS_CAP = 8
"""Corrected GRPO losses hold to about this many versions of staleness (arXiv:2505.07291)."""


class AuditPolicy(Wire):
    """How much of a worker's accepted work is replayed.

    All of a worker's groups until `num_probation_groups` are accepted; then the share `rate_millionths`
    of its groups, and in each of those `num_rollouts` rollouts. A token tells so much about its sampler
    that one rollout of many groups catches more than every rollout of few.
    """

    num_probation_groups: U32 = 64
    rate_millionths: Annotated[int, Field(ge=0, le=MICRO)] = 375_000
    num_rollouts: Annotated[int, Field(ge=1, le=MAX_GROUP_SIZE)] = 1


class RunSpec(Wire):
    """The agreed terms of one run.

    Example: `rollcall.cli.spec.spec_of(RunPlan(), orchestrator=…, trainer=…)` makes the demo's; the wire
    form is in `protocol/wire.md` section 2.
    """

    protocol_version: int = PROTOCOL_VERSION
    name: Name
    environment: Name
    environment_config: Annotated[
        dict[
            Name,
            Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
            | Annotated[str, Field(max_length=4096)],
        ],
        Field(max_length=64),
    ] = {}
    environment_digest: Bytes32
    num_tasks: Annotated[int, Field(ge=1, lt=1 << 48)]
    """Tasks 0 … num_tasks − 1 may be leased."""
    held_out_start: U63
    num_held_out: U32
    """Tasks held_out_start … + num_held_out − 1 measure accuracy and are never leased."""

    model_digest: Bytes32
    """Policy digest of version 0."""
    model_config_digest: Bytes32
    """SHA-256 of the model's config.json, which is also its blob name."""
    tokenizer_digest: Bytes32
    """SHA-256 of tokenizer.json, which is also its blob name."""
    compute_dtype: Annotated[ComputeDtype, Field(strict=False)] = ComputeDtype.FLOAT32
    """What workers and verifiers compute in, and the trainer on a GPU (`precision.py`)."""
    num_parameters: U64
    vocabulary_size: Annotated[int, Field(ge=2, lt=1 << 24)]
    eos_token_ids: Annotated[
        tuple[U32, ...], AsTuple, Ascending, Field(min_length=1, max_length=16)
    ]
    """Any of them ends a completion, which has it as its last token."""

    group_size: Annotated[int, Field(ge=2, le=MAX_GROUP_SIZE)]
    groups_per_batch: Annotated[int, Field(ge=1, le=1 << 16)]
    max_staleness: Annotated[int, Field(ge=0, le=MAX_STALENESS_CAP)]
    temperature_millionths: Annotated[int, Field(ge=10_000, le=10 * MICRO)] = MICRO
    max_prompt_tokens: Annotated[int, Field(ge=1, le=MAX_PROMPT_TOKENS)]
    max_tokens: Annotated[int, Field(ge=1, le=MAX_COMPLETION_TOKENS)]

    rate: Annotated[int, Field(ge=1, lt=1 << 63)]
    """Price of one unit (one completion token), in the token's smallest denomination."""
    lease_seconds: Annotated[int, Field(ge=1, le=86_400)]
    epoch_seconds: Annotated[int, Field(ge=1, le=604_800)]
    max_worker_leases: Annotated[int, Field(ge=1, le=1 << 16)]
    """Leases one worker may hold at a time."""
    max_worker_share_millionths: Annotated[int, Field(ge=1, le=MICRO)] = MICRO
    """Largest share of one batch that a single worker's groups may fill; never less than one group."""
    max_stake_multiple_millionths: Annotated[int, Field(ge=0, le=1000 * MICRO)] = 4 * MICRO
    """Most of a batch that a worker may fill, as a multiple of its part of the stake at work; 0 for no
    cap. From 1 on every batch can be filled; at m, if those at work with 1/m of the stake deliver."""

    audit: AuditPolicy
    drops: DropPolicy = DropPolicy()
    """How leases that end without work lower a worker's standing."""
    thresholds: Thresholds
    """Calibrated bounds of honest replay, of this model in this dtype."""
    orchestrator: Address
    trainer: Address
    """The keys that sign this run's leases, receipts and manifests."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.protocol_version != PROTOCOL_VERSION:
            raise ValueError(
                f"protocol_version {self.protocol_version} is not {PROTOCOL_VERSION}: "
                "install the release that speaks it"
            )
        if self.held_out_start < self.num_tasks:
            raise ValueError(
                f"held_out_start {self.held_out_start} lies among the {self.num_tasks} tasks that "
                "are leased: held-out problems would be trained on"
            )
        if 0 < self.max_stake_multiple_millionths < MICRO:
            raise ValueError(
                f"max_stake_multiple_millionths {self.max_stake_multiple_millionths} is below {MICRO}: "
                "no batch could be full; 0 turns the cap off"
            )
        if self.eos_token_ids[-1] >= self.vocabulary_size:
            raise ValueError("one of eos_token_ids lies outside the vocabulary")
        misfit = self.thresholds.misfit(
            model_digest=self.model_digest, compute_dtype=self.compute_dtype
        )
        if misfit:
            raise ValueError(misfit)
        return self

    @property
    def drop_rule(self) -> DropRule:
        """Return the drop policy, applied to this run's lease limit."""
        return DropRule(self.drops, self.max_worker_leases)

    @property
    def max_model_len(self) -> int:
        """The longest prompt and completion together, in tokens: an engine must have room for them."""
        return self.max_prompt_tokens + self.max_tokens

    @property
    def temperature(self) -> float:
        return self.temperature_millionths / MICRO

    @property
    def most_submission_bytes(self) -> int:
        """Most bytes of an inflated body: four largest groups (tokens, log-probabilities, prompt).

        Above that nothing is worth reading; below, admission says that a group is too long.
        """
        largest = self.group_size * 8 * self.max_tokens + 5 * self.max_prompt_tokens
        return min(MAX_SUBMISSION_INFLATED_BYTES, 65_536 + 4 * largest)

    def gflops(self, num_tokens: int) -> int:
        """Return the estimated compute of sampling `num_tokens`, in 10⁹ FLOP, rounded up.

        2 × parameters × tokens (arXiv:2001.08361 §2.1), an estimate: attention and prompts are left
        out.
        """
        return -(-2 * self.num_parameters * num_tokens // 10**9)
