"""What the contracts keep, as frozen types. Field order is the Solidity structs' (a test holds it)."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from enum import Enum, IntEnum
from typing import Any

from eth_utils import to_checksum_address

from protocol.canonical import encode, keccak256
from protocol.epoch import AccountLeaf, WorkLeaf
from protocol.verdict import Verdict

CONDEMNED = (1 << 48) - 1
"""What `Disputes.claimedAt` says of work that a quorum's verdicts struck out."""


class Office(Enum):
    """An office that the council's timelock fills, by the name that the contract hashes."""

    GUARDIAN = keccak256(b"GUARDIAN")
    ARBITER = keccak256(b"ARBITER")


class LedgerStatus(IntEnum):
    """Where a run is in its life."""

    NONE = 0
    ACTIVE = 1
    HALTED = 2
    STOPPED = 3
    CLOSED = 4


class SlashStatus(IntEnum):
    """Where an accusation is in its life."""

    NONE = 0
    PROPOSED = 1
    APPEALED = 2
    EXECUTED = 3
    DISMISSED = 4


class Fault(IntEnum):
    """What was wrong with an epoch, by the function that showed it."""

    BAD_LEAF = 0
    BAD_PAIR = 1
    BAD_EDGE = 2
    DUPLICATE = 3
    STALE_NONCE = 4
    ACCOUNT_ORDER = 5
    BAD_ACCOUNT = 6
    UNANSWERED = 7
    OMISSION = 8
    ESCALATION = 9


class DisputeKind(IntEnum):
    """What a dispute under a bond is about. Work and accounts are demands."""

    NONE = 0
    WORK = 1
    ACCOUNTS = 2
    OMISSION = 3
    ESCALATION = 4


class DisputeStatus(IntEnum):
    """Where a dispute is in its life. Moot: its epoch was voided for another reason."""

    NONE = 0
    OPEN = 1
    ANSWERED = 2
    UPHELD = 3
    MOOT = 4


class Posting(IntEnum):
    """Where a header stands."""

    NONE = 0
    PENDING = 1
    FINAL = 2
    RETRACTED = 3


@dataclass(frozen=True, slots=True)
class WorkOpening:
    """A leaf of a work tree with its place and its path."""

    leaf: WorkLeaf
    index: int
    proof: tuple[bytes, ...]

    def as_struct(self) -> tuple[Any, ...]:
        """Return the fields in Solidity's order."""
        spelled = replace(self.leaf, worker=to_checksum_address(self.leaf.worker))
        return (astuple(spelled), self.index, list(self.proof))


@dataclass(frozen=True, slots=True)
class AccountOpening:
    """A leaf of an account tree with its place and its path."""

    leaf: AccountLeaf
    index: int
    proof: tuple[bytes, ...]

    def as_struct(self) -> tuple[Any, ...]:
        """Return the fields in Solidity's order."""
        leaf = self.leaf
        worker = to_checksum_address(leaf.worker)
        return (worker, leaf.earned, leaf.last_nonce, self.index, list(self.proof))


@dataclass(frozen=True, slots=True)
class Condemnation:
    """A verifier's signed verdict that work is false, as the ledger reads it."""

    place: int
    reason: bytes
    evidence_digest: bytes
    decided_at: int
    signature: bytes

    @classmethod
    def of(cls, verdict: Verdict, place: int) -> "Condemnation":
        """Build from a verdict; `place` is its verifier's in the run's roster."""
        reason, evidence = encode(verdict.rejection), verdict.evidence_digest()
        return cls(place, reason, evidence, verdict.decided_at, verdict.signature)


@dataclass(frozen=True, slots=True)
class OwedDates:
    """Until when receipts for a closed run are taken, and from when it pays them and refunds the rest."""

    claims_until: int
    paid_from: int


@dataclass(frozen=True, slots=True)
class DisputeState:
    """A dispute. `unanswered` is a bitmap over a demand's indices; `deadline` decides what is open."""

    kind: DisputeKind
    status: DisputeStatus
    epoch: int
    deadline: int
    unanswered: int
    by: str
    run_id: int
    bond: int
    worker: str
    header_hash: bytes
    indices_hash: bytes

    @classmethod
    def of(cls, values: Sequence[Any]) -> "DisputeState":
        """Build from the contract's answer."""
        kind, status, *rest = values
        return cls(DisputeKind(kind), DisputeStatus(status), *rest)


@dataclass(frozen=True, slots=True)
class RunParams:
    """What a run agrees to when it is created.

    `rate` is token wei per unit of work. `min_stake` binds workers and verifiers, and is the most that
    one report or proof can take from one of them. `num_parameters` turns tokens into gflops;
    `base_model` is the first policy's digest. `compute_cap` is in gflops, 0 for none. `verifiers`
    and `stewards` are identities, strictly ascending by value; `threshold` is more than half of the
    verifiers. Windows and `permit_period` are in seconds.

    Example:
        RunParams(token=token, rate=10**12, min_stake=10**18, challenge_window=2, settle_window=2,
                  resume_delay=2, threshold=1, spec_hash=spec_hash, base_model=digest,
                  num_parameters=500_000, verifiers=(verifier,))
    """

    token: str
    rate: int
    min_stake: int
    challenge_window: int
    settle_window: int
    resume_delay: int
    threshold: int
    spec_hash: bytes
    base_model: bytes
    num_parameters: int
    verifiers: tuple[str, ...]
    stewards: tuple[str, ...] = ()
    steward_threshold: int = 0
    permit_period: int = 30 * 86_400
    compute_cap: int = 0
    gate: str = "0x0000000000000000000000000000000000000000"
    parent_run: int = 0
    licence: str = ""
    intended_use: str = ""

    def as_struct(self) -> tuple[Any, ...]:
        """Return the fields in Solidity's order."""
        return (
            *(to_checksum_address(self.token), to_checksum_address(self.gate)),
            *(self.rate, self.min_stake),
            *(self.challenge_window, self.settle_window, self.resume_delay, self.permit_period),
            *(self.threshold, self.steward_threshold),
            *(self.compute_cap, self.num_parameters, self.parent_run),
            *(self.spec_hash, self.base_model, self.licence, self.intended_use),
            [to_checksum_address(verifier) for verifier in self.verifiers],
            [to_checksum_address(steward) for steward in self.stewards],
        )


@dataclass(frozen=True, slots=True)
class RunState:
    """A run as the ledger holds it. Amounts in token wei, times in chain seconds.

    `roster` is every verifier that ever had a place, in the order that bitmaps name them;
    `verifiers` are those that may sign now. `roster_code` is where the ledger keeps them.
    """

    operator: str
    status: LedgerStatus
    halted_by_stewards: bool
    threshold: int
    steward_threshold: int
    challenge_window: int
    settle_window: int
    token: str
    resume_delay: int
    permit_period: int
    generation: int
    roster_code: str
    num_opened: int
    num_posted: int
    num_final: int
    rate: int
    min_stake: int
    budget: int
    committed: int
    compute_cap: int
    num_parameters: int
    permit_until: int
    replaced: int
    spec_hash: bytes
    base_model: bytes
    gate: str
    halted_at: int
    settle_until: int
    finalised: int
    claimed: int
    tokens: int
    gflops: int
    halt_votes: int
    resume_votes: int
    closed_at: int
    roster: tuple[str, ...]
    stewards: tuple[str, ...]

    @classmethod
    def of(
        cls, values: Sequence[Any], roster: Sequence[str], stewards: Sequence[str]
    ) -> "RunState":
        """Build from the contract's answer."""
        operator, status, *rest = values
        members = (tuple(roster), tuple(stewards))
        return cls(*(operator, LedgerStatus(status), *rest, *members))

    @property
    def places(self) -> dict[int, str]:
        """Who may sign now, by place."""
        return {n: who for n, who in enumerate(self.roster) if not self.replaced >> n & 1}

    @property
    def verifiers(self) -> tuple[str, ...]:
        """Who may sign now."""
        return tuple(self.places.values())

    @property
    def available(self) -> int:
        """Budget that no posted epoch has taken."""
        return self.budget - self.committed

    @property
    def has_ended(self) -> bool:
        """Whether it was stopped: it takes no more money and is never active again."""
        return self.status in (LedgerStatus.STOPPED, LedgerStatus.CLOSED)

    def is_live(self, now: int) -> bool:
        """Return whether work dated now can be owed: active under a permit that has not lapsed."""
        return self.status is LedgerStatus.ACTIVE and now <= self.permit_until


@dataclass(frozen=True, slots=True)
class EpochState:
    """An epoch. Until it is posted only `secret_hash` and `opened_at` are set, until opened nothing.

    It may be made final from `final_at` on, unless one of `holds` open disputes keeps it.
    """

    secret_hash: bytes
    header_hash: bytes
    account_root: bytes
    cost: int
    tokens: int
    gflops: int
    opened_at: int
    posted_at: int
    final_at: int
    account_count: int
    signer_bitmap: int
    holds: int
    rounds: int


@dataclass(frozen=True, slots=True)
class StakeState:
    """A worker's account in the registry."""

    stake: int
    unbonding: int
    locked: int
    unlock_at: int
    payout: str


@dataclass(frozen=True, slots=True)
class SlashState:
    """An accusation. From `deadline` on it may be executed (proposed) or acquitted (appealed)."""

    status: SlashStatus
    deadline: int
    amount: int
    held: int
    worker: str
    run_id: int
    evidence_digest: bytes

    @classmethod
    def of(cls, values: Sequence[Any]) -> "SlashState":
        """Build from the contract's answer."""
        status, *rest = values
        return cls(SlashStatus(status), *rest)
