"""What a worker checks before its work, what it signs after, and how it checks the answer. Pure.

A worker trusts nobody's word: a lease counts only with the orchestrator's signature over the agreed
terms, and a receipt only with its signature over the very work that was sent.
"""

from dataclasses import dataclass

import zstandard

from protocol.errors import Malformed
from protocol.messages import RunInfo
from protocol.rollout import (
    Lease,
    Receipt,
    Rollout,
    SignedLease,
    Submission,
    Work,
    lease_id,
    work_of,
)
from protocol.run import RunSpec
from protocol.signing import Domain, require_signer, sign

ZSTD_LEVEL = 3
"""Token ids compress to about half at any level; 3 costs 0.1 ms per group."""


@dataclass(frozen=True, slots=True)
class Commitment:
    """A signed group, ready to send; `work_digest` names it from here on."""

    lease: Lease
    work: Work
    work_digest: bytes
    body: bytes
    num_tokens: int


def check_lease(signed: SignedLease, *, info: RunInfo, domain: Domain, worker: str) -> None:
    """Raise a `MarketError` unless the lease is signed and within what the run agreed on."""
    lease, spec = signed.lease, info.spec
    require_signer(domain.digest(lease), signed.signature, spec.orchestrator, "the lease")
    agreed = {
        "run": (lease.run_id, info.run_id),
        "worker": (lease.worker, worker),
        "lease id": (lease.lease_id, lease_id(info.run_id, worker, lease.nonce)),
        "rate": (lease.rate, spec.rate),
        "environment": (lease.environment, spec.environment),
        "group size": (lease.group_size, spec.group_size),
        "temperature": (lease.temperature_millionths, spec.temperature_millionths),
        "max_tokens": (lease.max_tokens, spec.max_tokens),
    }
    for what, (found, expected) in agreed.items():
        if found != expected:
            raise Malformed(f"the lease's {what} is {found!r}; agreed is {expected!r}")
    if not 0 < len(lease.prompt) <= spec.max_prompt_tokens:
        raise Malformed(f"the lease's prompt has {len(lease.prompt)} tokens")


def commit(
    lease: Lease,
    rollouts: tuple[Rollout, ...],
    *,
    engine: str,
    spec: RunSpec,
    domain: Domain,
    key: bytes,
    now: int,
) -> Commitment:
    """Sign a finished group as the ledger hashes it, and pack it for sending."""
    unsigned = Submission(
        lease_id=lease.lease_id,
        engine=engine,
        prompt=lease.prompt,
        rollouts=rollouts,
        submitted_at=now,
        signature=bytes(65),
    )
    num_tokens = unsigned.num_tokens()
    work = work_of(lease, unsigned, gflops=spec.gflops(num_tokens))
    digest = domain.digest(work)
    signed = unsigned.model_copy(update={"signature": sign(key, digest)})
    body = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(signed.canonical())
    return Commitment(lease=lease, work=work, work_digest=digest, body=body, num_tokens=num_tokens)


def check_receipt(
    receipt: Receipt, commitment: Commitment, *, spec: RunSpec, domain: Domain
) -> None:
    """Raise a `MarketError` unless the orchestrator signed for this work: that is the claim to pay."""
    require_signer(domain.digest(receipt), receipt.signature, spec.orchestrator, "the receipt")
    lease = commitment.lease
    if (receipt.work_digest, receipt.run_id, receipt.worker, receipt.nonce) != (
        commitment.work_digest,
        lease.run_id,
        lease.worker,
        lease.nonce,
    ):
        raise Malformed("the receipt is for other work than was sent")
