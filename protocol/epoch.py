"""What an epoch says on chain: its work leaves, its account leaves and its signed header.

The types and their hashes, bit for bit those of `contracts/src/EpochHash.sol`, and how they follow from
an epoch's file, for all who propose, sign, audit or dispute one. Settlement decides which work is accepted;
`protocol/signing.py` signs a header. All fields are static, so `abi.encode` is the concatenation of 32-byte
words and is written by hand.

Amounts are in *units*: the run's rate (token wei per unit) turns them into money only on chain.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from functools import cache
from itertools import pairwise

from protocol.canonical import keccak256
from protocol.merkle import Tree
from protocol.messages import EpochFile, FraudReportTask

WORK_TYPE = (
    "Work(uint256 runId,address worker,uint64 nonce,bytes32 payloadDigest,uint64 policyVersion,"
    "uint64 submittedAt,uint64 tokens,uint64 gflops)"
)
WORK_LEAF_TYPE = (
    "WorkLeaf(uint256 runId,address worker,uint64 nonce,bytes32 payloadDigest,uint64 policyVersion,"
    "uint64 submittedAt,uint64 tokens,uint64 gflops,bytes32 signatureHash,uint128 units,"
    "uint128 workerSum,uint128 epochSum,uint64 tokenSum,uint64 gflopSum)"
)
ACCOUNT_TYPE = "Account(address worker,uint128 earned,uint64 lastNonce)"
EPOCH_HEADER_TYPE = (
    "EpochHeader(uint256 runId,uint32 epoch,uint64 generation,bytes32 prevAccountRoot,"
    "bytes32 workRoot,bytes32 accountRoot,uint32 workCount,uint32 accountCount,uint128 total,"
    "uint64 tokens,uint64 gflops,bytes32 dataHash)"
)
FRAUD_REPORT_TYPE = (
    "FraudReport(uint256 runId,address worker,bytes32 workDigest,bytes32 evidenceDigest,"
    "uint128 amount,uint64 reportedAt)"
)
RETRACT_EPOCH_TYPE = "RetractEpoch(uint256 runId,uint32 epoch,uint64 generation,bytes32 headerHash)"
BLOB_URI = re.compile("blob:0x([0-9a-f]{64})")

Word = int | str | bytes


@dataclass(frozen=True, slots=True)
class WorkLeaf:
    """One accepted group. The four running sums include this leaf.

    `submitted_at` is chain time in seconds; `signature_hash` is keccak256 of the worker's signature
    over `Work`; `worker_sum` restarts at each worker, the other sums run over the whole epoch.

    Example:
        WorkLeaf(1, "0x…", 7, digest, 3, 1_800_000_000, 512, 1, signed, 512, 512, 512, 512, 1)
    """

    run_id: int
    worker: str
    nonce: int
    payload_digest: bytes
    policy_version: int
    submitted_at: int
    tokens: int
    gflops: int
    signature_hash: bytes
    units: int
    worker_sum: int
    epoch_sum: int
    token_sum: int
    gflop_sum: int

    def digest(self) -> bytes:
        """Return the leaf's hash in the work tree."""
        return struct_hash(WORK_LEAF_TYPE, astuple(self))


@dataclass(frozen=True, slots=True)
class AccountLeaf:
    """What one worker has earned in a run so far, in units, and the last nonce it was paid for.

    Example:
        AccountLeaf("0x…", earned=512, last_nonce=7)
    """

    worker: str
    earned: int
    last_nonce: int

    def digest(self) -> bytes:
        """Return the leaf's hash in the account tree."""
        return struct_hash(ACCOUNT_TYPE, astuple(self))


@dataclass(frozen=True, slots=True)
class EpochHeader:
    """The header that m of n verifiers sign. `total` is in units; `account_root` is cumulative.

    `generation` counts how often the run's epochs were voided: without it a voided header could
    be posted again.

    Example:
        EpochHeader(1, 0, 0, bytes(32), work_root, account_root, 2, 1, 1024, 1024, 2, data_hash)
    """

    run_id: int
    epoch: int
    generation: int
    prev_account_root: bytes
    work_root: bytes
    account_root: bytes
    work_count: int
    account_count: int
    total: int
    tokens: int
    gflops: int
    data_hash: bytes

    def struct_hash(self) -> bytes:
        """Return EIP-712's hashStruct, before the domain is mixed in."""
        return struct_hash(EPOCH_HEADER_TYPE, astuple(self))


@dataclass(frozen=True, slots=True)
class FraudReport:
    """A verifier's accusation: `worker` deserves to lose `amount` of stake for the work named.

    Example:
        FraudReport(1, "0x…", work_digest, evidence_digest, 10**18, 1_800_000_000)
    """

    run_id: int
    worker: str
    work_digest: bytes
    evidence_digest: bytes
    amount: int
    reported_at: int

    @classmethod
    def of(cls, task: FraudReportTask) -> "FraudReport":
        """Return the signed part of a report on the wire."""
        about = task.run_id, task.worker, task.work_digest, task.evidence_digest
        return cls(*about, int(task.amount), task.reported_at)

    def struct_hash(self) -> bytes:
        """Return EIP-712's hashStruct, before the domain is mixed in."""
        return struct_hash(FRAUD_REPORT_TYPE, astuple(self))


@dataclass(frozen=True, slots=True)
class RetractEpoch:
    """The message that m of n verifiers sign to take back a pending epoch and every later one.

    `header_hash` is the posted header's struct hash. Its signers answer for it a challenge window longer.

    Example:
        RetractEpoch(1, 0, 0, header.struct_hash())
    """

    run_id: int
    epoch: int
    generation: int
    header_hash: bytes

    def struct_hash(self) -> bytes:
        """Return EIP-712's hashStruct, before the domain is mixed in."""
        return struct_hash(RETRACT_EPOCH_TYPE, astuple(self))


def leaves_of(file: EpochFile) -> tuple[WorkLeaf, ...]:
    """Return the work leaves that follow from a file's contributions, with their running sums."""
    leaves: list[WorkLeaf] = []
    of_worker: dict[str, int] = defaultdict(int)
    units = tokens = gflops = 0
    for item in file.contributions:
        of_worker[item.worker] += item.units
        units, tokens, gflops = units + item.units, tokens + item.tokens, gflops + item.gflops
        leaves.append(
            WorkLeaf(
                run_id=file.run_id,
                worker=item.worker,
                nonce=item.nonce,
                payload_digest=item.payload_digest,
                policy_version=item.policy_version,
                submitted_at=item.submitted_at,
                tokens=item.tokens,
                gflops=item.gflops,
                signature_hash=keccak256(item.signature),
                units=item.units,
                worker_sum=of_worker[item.worker],
                epoch_sum=units,
                token_sum=tokens,
                gflop_sum=gflops,
            )
        )
    return tuple(leaves)


def accounts_of(file: EpochFile) -> tuple[AccountLeaf, ...]:
    return tuple(AccountLeaf(a.worker, a.earned, a.last_nonce) for a in file.accounts)


def header_of(file: EpochFile, data: bytes) -> EpochHeader:
    """Return the header that an honest quorum signs; `data` is the file's canonical bytes.

    Raises `ValueError` if the file's leaves do not ascend.
    """
    roots = work_root(leaves_of(file)), account_root(accounts_of(file))
    return header_over(file, *roots, data_hash=keccak256(data))


def header_over(
    file: EpochFile, work_root: bytes, account_root: bytes, *, data_hash: bytes
) -> EpochHeader:
    """Return the header of a file whose trees have these roots."""
    return EpochHeader(
        run_id=file.run_id,
        epoch=file.epoch,
        generation=file.generation,
        prev_account_root=file.prev_account_root,
        work_root=work_root,
        account_root=account_root,
        work_count=len(file.contributions),
        account_count=len(file.accounts),
        total=sum(item.units for item in file.contributions),
        tokens=sum(item.tokens for item in file.contributions),
        gflops=sum(item.gflops for item in file.contributions),
        data_hash=data_hash,
    )


def uri_of(digest: bytes) -> str:
    """Return the URI by which a posting names its file: the SHA-256 under which it is served."""
    return f"blob:0x{digest.hex()}"


def blob_of(uri: str) -> bytes | None:
    """Return the digest that a posting's URI names, or None: a poster may write anything."""
    found = BLOB_URI.fullmatch(uri)
    return bytes.fromhex(found[1]) if found else None


def work_root(leaves: Iterable[WorkLeaf]) -> bytes:
    """Return the work tree's root; leaves must stand strictly sorted by (worker, nonce)."""
    ordered = list(leaves)
    _require_ascending([(int(leaf.worker, 16), leaf.nonce) for leaf in ordered], "(worker, nonce)")
    return Tree([leaf.digest() for leaf in ordered]).root


def account_tree(accounts: Iterable[AccountLeaf]) -> Tree:
    """Return the account tree, whose proofs are claims; accounts strictly sorted by worker."""
    ordered = list(accounts)
    _require_ascending([(int(account.worker, 16),) for account in ordered], "worker")
    return Tree([account.digest() for account in ordered])


def account_root(accounts: Iterable[AccountLeaf]) -> bytes:
    """Return the account tree's root."""
    return account_tree(accounts).root


def struct_hash(type_string: str, values: Sequence[Word]) -> bytes:
    """Return keccak256(abi.encode(keccak256(type), values…)): a leaf, or EIP-712's hashStruct."""
    type_hash, kinds = _layout(type_string)
    words = [abi_word(kind, value) for kind, value in zip(kinds, values, strict=True)]
    return keccak256(type_hash + b"".join(words))


def abi_word(kind: str, value: Word) -> bytes:
    """Return one static ABI word; refuse any value that Solidity could not have held."""
    match kind, value:
        case "address", str():
            raw = bytes.fromhex(value.removeprefix("0x"))
            if len(raw) != 20:
                raise ValueError(f"an address has 20 bytes: {value!r}")
            return raw.rjust(32, b"\0")
        case "bytes32", bytes():
            if len(value) != 32:
                raise ValueError(f"bytes32 got {len(value)} bytes: {value.hex()}")
            return value
        case str(), int() if kind.startswith("uint"):
            if not 0 <= value < 1 << int(kind[4:]):
                raise ValueError(f"{value} does not fit {kind}")
            return value.to_bytes(32, "big")
    raise TypeError(f"{kind} cannot hold {value!r}")


@cache
def _layout(type_string: str) -> tuple[bytes, tuple[str, ...]]:
    members = type_string[type_string.index("(") + 1 : -1].split(",")
    return keccak256(type_string.encode()), tuple(member.split(" ")[0] for member in members)


def _require_ascending(keys: Sequence[tuple[int, ...]], what: str) -> None:
    for before, after in pairwise(keys):
        if not before < after:
            raise ValueError(f"leaves must ascend strictly by {what}: {before} then {after}")
