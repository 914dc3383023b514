"""Step records: which groups made which policy version, chained so that one signature covers them all.

The trainer writes a record for every step and names it in the manifest that it signs. A record names
the one before it, so with version n's manifest one can check every record back to the starting
weights without another signature. Records hold the data that influence is counted from (`shares_of`),
and nothing that a reader could not check by the submissions: rewards are recomputed from the text,
tokens are counted in the body.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field, model_validator

from protocol.advantage import group_advantages
from protocol.canonical import content_digest
from protocol.constants import MAX_COMPLETION_TOKENS, MAX_GROUP_SIZE
from protocol.errors import Malformed
from protocol.messages import BatchGroup, Rewards
from protocol.wire import U32, U63, Address, AsTuple, Bytes, Bytes32, Wire

NO_LINEAGE = bytes(32)
"""The lineage of version 0: no group shaped the weights that the run was agreed on."""
MAX_RECORDS_BYTES = 8 << 20
"""Records in one answer; more take another request. A step of 32 groups of 8 has 5 kB, and a record is
one blob (`MAX_CHUNK_BYTES`) of some 26,000 such groups at most."""

Counts = Annotated[
    tuple[Annotated[int, Field(ge=0, le=MAX_COMPLETION_TOKENS)], ...],
    AsTuple,
    Field(max_length=MAX_GROUP_SIZE),
]


class TrainedGroup(Wire):
    """One group of a step's batch, and how much of it entered the loss.

    Example: rewards (10000, 0), tokens (12, 0): the second rollout was left out of the loss.
    """

    work_digest: Bytes32
    worker: Address
    policy_version: U32
    rewards: Rewards
    """Ten-thousandths, as recomputed; the advantages follow from them."""
    tokens: Counts
    """Completion tokens of each rollout that the loss counted; 0 if it was left out."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if len(self.rewards) < 2:
            raise ValueError(f"a group of {len(self.rewards)}: a spec's has at least 2")
        if len(self.rewards) != len(self.tokens):
            raise ValueError(f"{len(self.rewards)} rewards and {len(self.tokens)} token counts")
        return self

    @classmethod
    def of(cls, entry: BatchGroup, tokens: Sequence[int]) -> "TrainedGroup":
        """Record how many tokens of each rollout of a batch's group entered the loss."""
        return cls(
            work_digest=entry.work_digest,
            worker=entry.worker,
            policy_version=entry.policy_version,
            rewards=entry.rewards,
            tokens=tuple(tokens),
        )

    def is_of(self, entry: BatchGroup) -> bool:
        """Return whether this is that group of a batch; the counts of its tokens do not matter."""
        return self == TrainedGroup.of(entry, self.tokens)


class StepRecord(Wire):
    """The step from `version − 1` to `version`: every group of the batch, in its order."""

    run_id: U63
    version: Annotated[int, Field(ge=1, lt=1 << 32)]
    previous: Bytes32
    """Digest of the record of version − 1; `NO_LINEAGE` if that is the starting weights."""
    divides_by_deviation: bool
    """Whether advantages were divided by their group's deviation (`advantage.py`)."""
    groups: Annotated[tuple[TrainedGroup, ...], AsTuple]

    def digest(self) -> bytes:
        """Return the SHA-256 that the manifest names, which is also the record's blob."""
        return content_digest(self.canonical())


class Records(Wire):
    """Consecutive records from `first` on, each in its own canonical bytes: the answer of the route."""

    run_id: U63
    first: U32
    records: Annotated[tuple[Bytes, ...], AsTuple]


@dataclass(frozen=True, slots=True)
class Share:
    """How much of one step a group was: parts of the step's whole, which sum to 1 over its groups.

    `weight` is the part of the absolute advantage, Σ|A|·tokens over the group's counted rollouts. By a
    loss that averages over tokens the group can move the step no further, before ratios and clipping
    (GRPO, arXiv:2402.03300, equation 3). 0 for every group of a step that learned nothing.
    """

    group: TrainedGroup
    tokens: float
    weight: float


def shares_of(record: StepRecord) -> tuple[Share, ...]:
    """Return each group's part of a step, in the record's order."""
    tokens = [sum(group.tokens) for group in record.groups]
    weights = [_weight(group, record.divides_by_deviation) for group in record.groups]
    all_tokens, all_weight = sum(tokens) or 1, sum(weights) or 1.0
    return tuple(
        Share(group, counted / all_tokens, weight / all_weight)
        for group, counted, weight in zip(record.groups, tokens, weights, strict=True)
    )


def read_record(data: bytes, *, digest: bytes, run_id: int, version: int) -> StepRecord:
    """Return the record in these bytes; raise `Malformed` unless it is the named one."""
    if content_digest(data) != digest:
        raise Malformed(
            f"the record of version {version} hashes to 0x{content_digest(data).hex()}, the chain "
            f"from the signed manifest names 0x{digest.hex()}"
        )
    record = StepRecord.from_canonical(data)
    if (record.run_id, record.version) != (run_id, version):
        raise Malformed(
            f"a record of run {record.run_id}, version {record.version} stands where run {run_id}, "
            f"version {version} is expected"
        )
    return record


def _weight(group: TrainedGroup, divides_by_deviation: bool) -> float:
    advantages = group_advantages(group.rewards, divide_by_deviation=divides_by_deviation)
    return float(sum(abs(a) * n for a, n in zip(advantages.tolist(), group.tokens, strict=True)))
