"""What a worker checks before it works, what it signs after, and what others check of both. Pure.

Nobody's word is trusted: a lease counts only with the orchestrator's signature over the agreed terms,
work only with its worker's over the very group, and a receipt only with one over the very work.
"""

from collections.abc import Callable
from dataclasses import dataclass

from protocol.errors import BadSignature, Malformed
from protocol.inflate import deflate
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
from protocol.signing import Domain, recover, require_signer, sign
from protocol.verdict import Seal, Verdict

SpokeFor = Callable[[str, str, int], bool]
"""Whether a key signed for an account at a time: it is the account, or was its hot key then. What counts is
the work's date: a worker that withdraws its key must not make its work unreadable, nor its epoch."""


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
    body = deflate(signed.canonical())
    return Commitment(lease=lease, work=work, work_digest=digest, body=body, num_tokens=num_tokens)


def check_work(
    work_digest: bytes,
    signed: SignedLease,
    submission: Submission,
    *,
    info: RunInfo,
    domain: Domain,
    spoke_for: SpokeFor | None,
) -> None:
    """Raise a `MarketError` unless this run leased the group, and its worker signed it under the digest.

    `spoke_for` is None where no chain is at hand: whose a hot key is cannot be seen then.
    """
    lease, spec = signed.lease, info.spec
    check_lease(signed, info=info, domain=domain, worker=lease.worker)
    found = domain.digest(work_of(lease, submission, gflops=spec.gflops(submission.num_tokens())))
    if submission.lease_id != lease.lease_id or found != work_digest:
        raise Malformed(
            f"what is shown as work 0x{work_digest.hex()} is 0x{found.hex()}, with lease id "
            f"0x{submission.lease_id.hex()}: ask another copy of the orchestrator"
        )
    signer = recover(work_digest, submission.signature)
    if spoke_for and not spoke_for(signer, lease.worker, submission.submitted_at):
        raise BadSignature(f"the work is signed by {signer}, who did not speak for {lease.worker}")


def is_signed(said: Verdict | Seal, domain: Domain, spoke_for: SpokeFor, *, at: int) -> bool:
    """Return whether a verdict or a seal is its verifier's word, by whom its key spoke for then."""
    try:
        signer = recover(domain.digest(said), said.signature)
    except BadSignature:
        return False
    return spoke_for(signer, said.verifier, at)


def check_receipt(
    receipt: Receipt, lease: Lease, work_digest: bytes, *, spec: RunSpec, domain: Domain
) -> None:
    """Raise a `MarketError` unless the orchestrator signed for this work: that is the claim to pay."""
    require_signer(domain.digest(receipt), receipt.signature, spec.orchestrator, "the receipt")
    place = lease.run_id, lease.worker, lease.nonce
    if (receipt.work_digest, receipt.run_id, receipt.worker, receipt.nonce) != (
        work_digest,
        *place,
    ):
        raise Malformed(f"the receipt is not for work 0x{work_digest.hex()}, but for other work")
