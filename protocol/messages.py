"""Request and response bodies, in the order of a worker's life, then the other parties'.

JSON on the wire except `Submission` (canonical bytes under zstd) and `EpochFile` (a blob of
canonical bytes). Routes are listed in `protocol/wire.md` section 5.
"""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from protocol.checks.canary import CanaryOpening
from protocol.constants import MAX_GROUP_SIZE
from protocol.environments.base import FULL_SCORE
from protocol.policies.manifest import SignedManifest
from protocol.rollout import Receipt, SignedLease
from protocol.run import RunSpec
from protocol.verdict import ReplayStats, Seal, Verdict
from protocol.wire import U32, U63, U64, Address, Ascending, AsTuple, Bytes32, Name, Signature, Wire

SELF_CHECK_GROUPS = 64
"""Fewest groups of a self-check: an alarm takes at least four, and drift as faint as shows in 64 pays."""

MOST_VERIFIERS = 256
"""Of one run: the ledger has a bit for each."""
MOST_CLOSED = 64
"""Closed votes shown at a time, and reports: their reader looks at each again."""
MOST_RUNS = 1 << 16
"""Of one orchestrator."""
MOST_LEASES = 1024
"""Asked for at a time."""
MOST_DRAWS = 16
"""Of one request for leases, where the prompts of all tasks are too long: with two thirds too long one in
a thousand requests for a single lease gets none."""

Reward = Annotated[int, Field(ge=0, le=FULL_SCORE)]
Rewards = Annotated[tuple[Reward, ...], AsTuple, Field(max_length=MAX_GROUP_SIZE)]


class Request(Wire):
    """What anybody may send: the largest, a run's terms, has a hundred elements."""

    MAX_ITEMS: ClassVar[int] = 1 << 9


class Answer(Wire):
    """What is read of an orchestrator, but for lists of what was asked for: the largest, a group's status, has a
    prompt and the verdicts of all verifiers. A byte of it may cost its reader thirty."""

    MAX_ITEMS: ClassVar[int] = 1 << 18


DecimalText = Annotated[str, Field(pattern="^[0-9]+$", max_length=78)]
"""An amount that may exceed 64 bits; no token has one of more digits, and reading them would take forever."""


class ErrorBody(Answer):
    """Every refusal: a code to act on, a message with the values and the remedy."""

    code: str
    message: str
    retry_after_seconds: float | None = None


class RunStatus(StrEnum):
    OPEN = "open"
    HALTED = "halted"
    STOPPED = "stopped"
    CLOSED = "closed"


class RunInfo(Answer):
    """What anyone may know of a run before working for it."""

    run_id: U63
    spec: RunSpec
    chain_id: U63
    ledger: Address
    token: Address
    status: RunStatus
    newest_version: Annotated[int, Field(ge=-1, lt=1 << 32)]
    """−1 until the trainer has published version 0."""
    published_at: U64
    """When that version was made, by its trainer's clock; 0 before version 0."""
    epoch: U32
    budget_left_units: U63
    """Units (completion tokens) that the escrow still pays for beyond posted epochs."""
    permit_until: U64
    """Until when, by the chain's clock, work is owed; the operator renews it."""
    num_voters: U32
    """Verifiers whose votes count."""
    threshold: U32
    """As many of them must agree."""
    min_stake: DecimalText
    """In the token's smallest denomination, as decimal text: it may exceed 64 bits."""


class RunRegistration(Request):
    """Ask an orchestrator to serve a run that names its key and whose spec's hash is on chain."""

    run_id: U63
    spec: RunSpec


class RunList(Wire):
    runs: Annotated[tuple[RunInfo, ...], AsTuple, Field(max_length=MOST_RUNS)]


class SessionRequest(Request):
    """An EIP-4361 message and the wallet's EIP-191 signature of it."""

    message: Annotated[str, Field(max_length=4096)]
    signature: Signature


class Session(Answer):
    token: Annotated[str, Field(max_length=4096)]
    address: Address
    expires_at: U64


class LeaseRequest(Request):
    """Ask for up to `count` leases."""

    count: Annotated[int, Field(ge=1, le=MOST_LEASES)]


class Leases(Wire):
    leases: Annotated[tuple[SignedLease, ...], AsTuple]
    notice: Annotated[str, Field(max_length=1024)] = ""
    """What the worker should know about its standing, with the remedy; empty if it is good."""
    rejected: Annotated[str, Field(max_length=2048)] = ""
    """The digest of the worker's group that a replay rejected last, and why; empty if there is none."""
    skipped: Annotated[tuple[U63, ...], AsTuple, Field(max_length=MOST_DRAWS * MOST_LEASES)] = ()
    """Nonces of this worker whose tasks have longer prompts than the run allows: nothing is owed for them."""


class ReturnedLeases(Wire):
    """Leases a worker gives back unfinished, so that their places are free before the deadline."""

    MAX_ITEMS: ClassVar[int] = 1 << 11

    lease_ids: Annotated[tuple[Bytes32, ...], AsTuple, Field(max_length=1024)]


class SelfCheck(Wire):
    """A worker's own measurement of its machine, after its sequential test raised an alarm.

    It is the worker's word alone: it only ends the pause, and later work is replayed as a newcomer's.
    """

    MAX_ITEMS: ClassVar[int] = 1 << 14

    policy_version: U32
    stats: Annotated[
        tuple[ReplayStats, ...], AsTuple, Field(min_length=SELF_CHECK_GROUPS, max_length=1024)
    ]
    """From fresh groups of the run's problems, each replayed whole under the run's terms."""


class GroupState(StrEnum):
    """Where a submission stands. `ACCEPTED` is paid; `REPLAY` waits for a verdict.

    The public sees `TAKEN` of both until the group is decided, or the secret out by which it was drawn or not.
    """

    TAKEN = "taken"
    REPLAY = "replay"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


class SubmissionStatus(Answer):
    """Where one submission stands, and everything that its replay needs."""

    work_digest: Bytes32
    state: GroupState
    rejection: Annotated[str, Field(max_length=64)]
    detail: Annotated[str, Field(max_length=1024)]
    lease: SignedLease
    body: Bytes32
    """Blob of the submission's compressed body; of one that admission rejects the digest alone is kept."""
    receipt: Receipt
    rewards: Rewards
    """Ten-thousandths, one per rollout, recomputed; empty if they were not."""
    trained_in: Annotated[int, Field(ge=-1, lt=1 << 32)]
    """The trainer's step that consumed the group, −1 for none."""
    draw_epoch: U32
    """The epoch whose secret decides on its replay: the one open when it was received."""
    draw_rate_millionths: U32
    """The share of such groups that is replayed. Both are 0 until that secret is in an epoch's file."""
    verdicts: Annotated[tuple[Verdict, ...], AsTuple, Field(max_length=MOST_VERIFIERS)]


class PolicyPublication(Wire):
    signed: SignedManifest


class BatchRequest(Request):
    """The trainer asks for the batch of `step`; asking again gives the same batch until its ack."""

    step: U32


class BatchGroup(Wire):
    """One group of a batch. The trainer reads tokens from the body, and rewards from here."""

    work_digest: Bytes32
    worker: Address
    index: U63
    policy_version: U32
    body: Bytes32
    rewards: Rewards


class Batch(Wire):
    """The groups of one optimizer step, oldest first."""

    run_id: U63
    step: U32
    groups: Annotated[tuple[BatchGroup, ...], AsTuple]


class AuditTask(Wire):
    """One group to replay, with what its replay needs."""

    work_digest: Bytes32
    lease: SignedLease
    body: Bytes32
    rollouts: Annotated[tuple[U32, ...], AsTuple, Ascending, Field(max_length=MAX_GROUP_SIZE)]
    """The group's rollouts to replay, as the draw gives them; a verdict covers exactly these."""
    rewards: Rewards = ()
    """Ten-thousandths, one per rollout of the group; empty if they are not known."""


class AuditRequest(Request):
    """Ask for up to `count` replays, and seal what was found in earlier ones."""

    MAX_ITEMS: ClassVar[int] = 1 << 11

    count: Annotated[int, Field(ge=0, le=256)] = 1
    seals: Annotated[tuple[Seal, ...], AsTuple, Field(max_length=256)] = ()


class ClosedVote(Wire):
    """A group on which as many have sealed as must agree: who sealed sends its verdict."""

    work_digest: Bytes32
    seals: Annotated[tuple[Seal, ...], AsTuple, Field(max_length=MOST_VERIFIERS)]
    """The caller's, and others' up to the run's threshold."""


class AuditTasks(Wire):
    tasks: Annotated[tuple[AuditTask, ...], AsTuple]
    closed: Annotated[tuple[ClosedVote, ...], AsTuple, Field(max_length=MOST_CLOSED)] = ()
    """Where a verdict of the caller is awaited, newest first."""


class VerdictReply(Answer):
    """Where the group stands with this verdict counted."""

    state: GroupState


class FraudReportTask(Wire):
    """A report for verifiers to sign, on evidence that is worth a stake (`checks/evidence.py`)."""

    run_id: U63
    worker: Address
    work_digest: Bytes32
    evidence_digest: Bytes32
    amount: DecimalText
    reported_at: U64
    also: Bytes32 = bytes(32)
    """The other group with gross evidence, if no hypothesis names what was done; else zero."""


class FraudReportTasks(Answer):
    tasks: Annotated[tuple[FraudReportTask, ...], AsTuple, Field(max_length=MOST_CLOSED)]


class FraudReportSignature(Request):
    work_digest: Bytes32
    signature: Signature


class VerifierInfo(Wire):
    """How a verifier has judged so far. `reason` says what cost it its vote; empty while it has one."""

    verifier: Address
    has_vote: bool
    reason: Annotated[str, Field(max_length=1024)]
    num_accepted: U63
    num_rejected: U63
    num_undecided: U63
    num_odd: U63
    """Verdicts that a quorum of the others overruled."""
    num_unopened: U63
    """Closed votes that it sealed and has not sent its verdict on."""
    splits: Annotated[dict[Address, U63], Field(max_length=MOST_VERIFIERS)]
    """By other verifier: groups that wait, or waited, because the two disagree and nobody was left to ask."""
    canaries_failed: U63
    """Passed canaries are not told: the verifier would learn which of its tasks they were."""


class VerifierInfos(Answer):
    verifiers: Annotated[tuple[VerifierInfo, ...], AsTuple, Field(max_length=MOST_VERIFIERS)]


class CanaryInfo(Wire):
    """A commitment to one canary worker's behaviour, signed when it was made, and its opening."""

    commitment: Bytes32
    committed_at: U64
    signature: Signature
    """The orchestrator's EIP-191 signature of `canary.commitment_text`."""
    opening: CanaryOpening | None


class CanaryInfos(Answer):
    canaries: Annotated[tuple[CanaryInfo, ...], AsTuple, Field(max_length=MOST_RUNS)]


class Contribution(Wire):
    """One paid group in an epoch: the worker's signed `Work` and the units paid for it."""

    worker: Address
    nonce: U63
    payload_digest: Bytes32
    policy_version: U64
    submitted_at: U64
    tokens: U64
    gflops: U64
    units: U64
    signature: Signature


class Account(Wire):
    """What a worker has earned in the run up to and including this epoch."""

    worker: Address
    earned: U63
    last_nonce: U63


class EpochFile(Wire):
    """All that an epoch's header commits to. `data_hash` is the Keccak-256 of its canonical bytes.

    Contributions stand strictly in order of (worker as bytes, nonce), accounts in order of worker.
    """

    run_id: U63
    epoch: U32
    generation: U64
    prev_account_root: Bytes32
    secret: Bytes32
    """The revealed epoch secret, from which seeds, tasks and audit draws can be recomputed."""
    contributions: Annotated[tuple[Contribution, ...], AsTuple]
    accounts: Annotated[tuple[Account, ...], AsTuple]


class EpochStage(StrEnum):
    OPEN = "open"
    SIGNING = "signing"
    POSTED = "posted"
    FINAL = "final"


class EpochInfo(Answer):
    """An epoch's file and header as proposed, and which verifiers have signed."""

    run_id: U63
    epoch: U32
    stage: EpochStage
    file: Bytes32
    """Blob of the epoch file; zero while the epoch is open."""
    header_digest: Bytes32
    """EIP-712 digest that verifiers sign; zero while the epoch is open."""
    signers: Annotated[tuple[Address, ...], AsTuple, Field(max_length=MOST_VERIFIERS)]


class EpochSignature(Request):
    signature: Signature


class WorkerInfo(Wire):
    """A worker's standing in one run."""

    run_id: U63
    worker: Address
    accepted_groups: U63
    """Taken and not rejected. Which of them wait for a replay is not told."""
    accepted_tokens: U63
    rejected_by_reason: Annotated[dict[Name, U63], Field(max_length=64)]
    is_excluded: bool
    exclusion: Annotated[str, Field(max_length=1024)]
    """Why, in words; empty for a worker that is not excluded."""
    dropped_leases: U63
    """Leases that were returned, expired, or ended in a group that admission rejected."""
    paused: Annotated[str, Field(max_length=1024)]
    """Its sequential test's finding, while it gets no leases until a self-check passes; else empty."""
    most_leases: U32
    """How many leases it may hold: fewer than the run's limit if it dropped too many."""
    notice: Annotated[str, Field(max_length=1024)]
    """What drops cost it, with the remedy; empty if its standing is good."""
    earned: U63
    """Units in final epochs."""
    last_nonce: U63


class WorkerInfos(Answer):
    runs: Annotated[tuple[WorkerInfo, ...], AsTuple, Field(max_length=MOST_RUNS)]


class Event(Answer):
    """A state change a person would ask about, as sent on the event stream."""

    kind: Name
    at: float
    run_id: U63
    fields: Annotated[
        dict[Name, int | float | Annotated[str, Field(max_length=4096)]], Field(max_length=64)
    ]
