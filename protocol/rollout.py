"""Lease, Rollout, Submission, Receipt: what passes between a worker and the orchestrator.

Token ids and log-probabilities are little-endian vectors in bytes (uint32, float32): one form per
value, small, and read by numpy without a loop.
"""

from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from protocol import merkle
from protocol.canonical import encode, keccak256
from protocol.constants import MAX_GROUP_SIZE, MICRO
from protocol.inflate import deflate, inflate
from protocol.wire import U32, U63, U64, Address, AsTuple, Bytes, Bytes32, Name, Signature, Wire


class Lease(Wire):
    """A signed promise: this task, these seeds, this price, until the deadline.

    `nonce` counts a worker's leases in this run from 1, and becomes the nonce of its work on chain;
    `lease_id` follows from (run, worker, nonce), so nobody chooses it.

    Example: lease 7 of a worker for task 1,234 asks for 8 rollouts of at most 32 tokens from policy
    version 12, one per seed.
    """

    lease_id: Bytes32
    run_id: U63
    worker: Address
    nonce: Annotated[int, Field(ge=1, lt=1 << 63)]
    epoch: U32
    environment: Name
    index: U63
    prompt: Annotated[tuple[U32, ...], AsTuple]
    policy_version: U32
    policy_digest: Bytes32
    temperature_millionths: U32
    max_tokens: U32
    seeds: Annotated[tuple[U63, ...], AsTuple, Field(min_length=2, max_length=MAX_GROUP_SIZE)]
    rate: U63
    deadline: U64
    """Unix seconds."""

    @property
    def group_size(self) -> int:
        return len(self.seeds)

    @property
    def temperature(self) -> float:
        return self.temperature_millionths / MICRO


class SignedLease(Wire):
    lease: Lease
    signature: Signature


class Rollout(Wire):
    """One completion: ids (uint32 little-endian) and worker_logprobs (float32 little-endian)."""

    tokens: Bytes
    logprobs: Bytes

    @classmethod
    def of(cls, tokens: Any, logprobs: Any) -> "Rollout":
        """Build from array-likes of equal length."""
        return cls(
            tokens=np.asarray(tokens, dtype="<u4").tobytes(),
            logprobs=np.asarray(logprobs, dtype="<f4").tobytes(),
        )

    def token_ids(self) -> NDArray[np.uint32]:
        """Return the completion's ids; raises `ValueError` if the bytes are not whole ids."""
        return np.frombuffer(self.tokens, dtype="<u4")

    def worker_logprobs(self) -> NDArray[np.float32]:
        return np.frombuffer(self.logprobs, dtype="<f4")

    def leaf(self) -> bytes:
        return keccak256(encode([self.tokens, self.logprobs]))


class Submission(Wire):
    """A worker's finished group with its commitment: the signature over `Work`.

    The body of `POST …/submissions` is its canonical bytes under zstd.
    """

    MAX_ITEMS: ClassVar[int] = 1 << 16
    """The longest prompt and the largest group have 34,000; strangers may send no more."""
    MAX_LISTS: ClassVar[int] = 2 * MAX_GROUP_SIZE
    """The largest group has three more than rollouts."""

    lease_id: Bytes32
    engine: Name
    """The engine that sampled it, such as `vllm-cpu`: information that nobody checks."""
    prompt: Annotated[tuple[U32, ...], AsTuple]
    rollouts: Annotated[tuple[Rollout, ...], AsTuple, Field(max_length=MAX_GROUP_SIZE)]
    submitted_at: U64
    """Unix seconds by the worker's clock; signed."""
    signature: Signature
    """Over `work_of(lease, submission)`, by the lease's worker or its registered hot key."""

    def num_tokens(self) -> int:
        return sum(len(rollout.tokens) // 4 for rollout in self.rollouts)

    def rollouts_root(self) -> bytes:
        return merkle.root([rollout.leaf() for rollout in self.rollouts])


class Work(Wire):
    """The commitment as the ledger hashes it (EIP-712 `Work`, `protocol/wire.md` section 3)."""

    run_id: U63
    worker: Address
    nonce: U63
    payload_digest: Bytes32
    policy_version: U64
    submitted_at: U64
    tokens: U64
    gflops: U64


def payload_digest(lease: Lease, submission: Submission) -> bytes:
    """Bind a group to every term of its lease, to its prompt and to everything in its rollouts.

    Of the lease alone its id would leave seeds and temperature open: who shows verifiers another lease
    for the same nonce would have honest work condemned.
    """
    return keccak256(
        encode(
            [
                lease.canonical_digest(),
                list(submission.prompt),
                submission.engine,
                submission.rollouts_root(),
                submission.num_tokens(),
            ]
        )
    )


def work_of(lease: Lease, submission: Submission, *, gflops: int) -> Work:
    """Return what the worker signs for this group; `gflops` is `RunSpec.gflops(num_tokens)`."""
    return Work(
        run_id=lease.run_id,
        worker=lease.worker,
        nonce=lease.nonce,
        payload_digest=payload_digest(lease, submission),
        policy_version=lease.policy_version,
        submitted_at=submission.submitted_at,
        tokens=submission.num_tokens(),
        gflops=gflops,
    )


def read_submission(body: bytes, most: int) -> Submission:
    """Inflate and read a submission's body: one zstd frame, whether or not it states its size.

    `most` is `RunSpec.most_submission_bytes`. All parties read bodies by this function, so that all can
    read a body that one takes. Raises `TooLarge` as soon as more comes out, and `Malformed`.
    """
    return Submission.from_canonical(inflate(body, most))


def repack(body: bytes, most: int) -> tuple[Submission, bytes]:
    """Read a body; return it with its content in a frame of our own.

    A sender's frame may hold a million empty blocks beside a kilobyte, which every reader would fetch, or
    have each set 128 MiB aside.
    """
    content = inflate(body, most)
    return Submission.from_canonical(content), deflate(content)


class Receipt(Wire):
    """The orchestrator's signed answer to a submission: proof that it was taken, or why it was not.

    `rejection` is empty for accepted work. `work_digest` is the EIP-712 digest the worker signed: it
    names the submission in every later message.
    """

    run_id: U63
    worker: Address
    nonce: U63
    work_digest: Bytes32
    received_at: U64
    rejection: Annotated[str, Field(max_length=64)]
    detail: Annotated[str, Field(max_length=1024)]
    """What was found, the values, and the remedy; empty for accepted work. Not signed."""
    signature: Signature


def lease_id(run_id: int, worker: str, nonce: int) -> bytes:
    """Return the lease's id: a hash of run, worker and the worker's lease count."""
    return keccak256(
        run_id.to_bytes(32, "big")
        + bytes.fromhex(worker[2:]).rjust(32, b"\0")
        + nonce.to_bytes(32, "big")
    )


def rollout_seed(run_id: int, lease: bytes, epoch_secret: bytes, i: int) -> int:
    """Return the 63-bit seed of rollout `i`: unpredictable before the lease, fixed after it."""
    return int.from_bytes(_draw(b"", run_id, lease, epoch_secret, i)[:8], "big") % (1 << 63)


def task_index(run_id: int, lease: bytes, epoch_secret: bytes, *, num_tasks: int) -> int:
    """Return the task of a lease, drawn from the same committed secret as its seeds."""
    return int.from_bytes(_draw(b"task", run_id, lease, epoch_secret, 0), "big") % num_tasks


def _draw(label: bytes, run_id: int, lease: bytes, epoch_secret: bytes, i: int) -> bytes:
    return keccak256(
        label + run_id.to_bytes(32, "big") + lease + epoch_secret + i.to_bytes(32, "big")
    )
