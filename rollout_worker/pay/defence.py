"""What an accused worker shows for its work, and the reason that its appeal gives. Pure.

The reason is a text of a few lines whose Keccak-256 goes on chain, where there is room for no more. It
names the evidence by its digest: a file with all that an arbiter needs to judge alone.
"""

from collections.abc import Iterator, Sequence

from audit.omissions import KeptReceipt
from protocol.canonical import content_digest, keccak256
from protocol.errors import BadSignature
from protocol.messages import SubmissionStatus
from protocol.rollout import SignedLease
from protocol.run import RunSpec
from protocol.signing import Domain, recover
from protocol.verdict import Mismatch, Outcome, ReplayStats, Verdict, judge
from protocol.wire import U63, Address, Bytes, Bytes32, Wire
from rollout_worker.replay.measure import Findings, stats_of


class Defence(Wire):
    """One accusation with everything about the accused work: both parties' leases, the work, a replay.

    `kept` is what the worker holds, `shown` what the market shows to anyone. `problem` says why the
    accusation cannot be checked; then there is no replay.
    """

    slash_id: Bytes32
    run_id: U63
    worker: Address
    work_digest: Bytes32
    accusing_evidence: Bytes32
    kept: KeptReceipt | None
    shown: SubmissionStatus | None
    body: Bytes
    """The submission's compressed body; empty where nobody shows it."""
    stats: ReplayStats | None
    mismatches: tuple[Mismatch, ...]
    problem: str

    @property
    def lease(self) -> SignedLease | None:
        """The lease that the work was done under: the worker's own, else the one that is shown."""
        if self.kept is not None:
            return self.kept.lease
        return self.shown.lease if self.shown else None


def broken_bound(found: Sequence[Findings], verdicts: Sequence[Verdict], spec: RunSpec) -> str:
    """Return the first bound that a replay of the condemned rollouts finds broken; else nothing."""
    condemning = (v.rollouts for v in verdicts if v.outcome is Outcome.REJECTED)
    rollouts = next(condemning, ()) or range(len(found))
    broken = judge(stats_of([found[i] for i in rollouts if i < len(found)]), spec.thresholds)
    return f"{broken[0]}: {broken[1]}" if broken else ""


def two_leases(kept: SignedLease | None, shown: SignedLease | None, domain: Domain) -> str:
    """Return how the lease that the worker holds differs from the one that is shown; else nothing."""
    if kept is None or shown is None or kept.lease == shown.lease:
        return ""
    ours, theirs = kept.lease.model_dump(), shown.lease.model_dump()
    fields = ", ".join(name for name, value in ours.items() if theirs[name] != value)
    return (
        f"TWO LEASES for nonce {kept.lease.nonce}, which differ in {fields}: the worker was given "
        f"{_signed(kept, domain)}; the market shows {_signed(shown, domain)}. Work done under the "
        "first looks false under the second"
    )


def reason_of(defence: Defence, evidence: bytes, domain: Domain) -> str:
    """Return the reason of an appeal; `evidence` is the file that holds the defence."""
    return "\n".join(_lines(defence, content_digest(evidence), domain)) + "\n"


def reason_digest(reason: str) -> bytes:
    """Return what goes on chain for a reason: the digest that `rollcall appeal` also makes of a text."""
    return keccak256(reason.encode())


def _lines(defence: Defence, evidence: bytes, domain: Domain) -> Iterator[str]:
    kept, shown, lease = defence.kept, defence.shown, defence.lease
    if conflict := two_leases(kept.lease if kept else None, shown.lease if shown else None, domain):
        yield conflict
    yield (
        f"Appeal of {defence.worker} against accusation 0x{defence.slash_id.hex()} in run "
        f"{defence.run_id}, over work 0x{defence.work_digest.hex()}"
    )
    if defence.problem:
        yield f"The accusation cannot be checked: {defence.problem}"
    if defence.stats is not None:
        figures = ", ".join(f"{name} {value}" for name, value in defence.stats.model_dump().items())
        yield f"Own replay, within every bound of the run's spec: {figures}"
    if lease is not None:
        its = lease.lease
        yield (
            f"Lease {its.nonce}, id 0x{its.lease_id.hex()}: seeds from the secret of epoch {its.epoch}, "
            f"task {its.environment} {its.index}, prompt of {len(its.prompt)} tokens, policy "
            f"{its.policy_version} 0x{its.policy_digest.hex()}"
        )
        yield f"Signed {_signed(lease, domain)}: 0x{lease.signature.hex()}"
    if kept is None:
        yield "The worker holds no receipt for this work"
    yield f"Evidence: sha256 0x{evidence.hex()}"
    yield f"To check: rollcall verify --explain 0x{defence.work_digest.hex()}"


def _signed(signed: SignedLease, domain: Domain) -> str:
    try:
        signer = recover(domain.digest(signed.lease), signed.signature)
    except BadSignature:
        signer = "nobody"
    return f"lease 0x{signed.lease.canonical_digest().hex()} by {signer}"
