"""What an epoch must say, recomputed from its file, the chain and what the market shows of its groups.

Pure, and apart from settlement, whose mistakes must not be repeated here. A verifier asks before it signs,
and refuses at the first fault; an auditor asks of what was posted, and reports every fault. A fault that
the ledger can be shown comes from `audit/fraud.py` with the call that shows it; a fault that only a person
can act on (the file gives another secret, seeds were chosen) is a difference without a call. Left out:
whether accepted work is missing, which workers prove with their receipts.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields

from audit.fraud import Facts, Finding, find
from audit.history import Posted
from audit.published import Openable, Published
from ledger.state import Fault
from protocol.canonical import keccak256
from protocol.commitment import SpokeFor, check_work
from protocol.epoch import AccountLeaf, EpochHeader
from protocol.errors import MarketError
from protocol.messages import Contribution, EpochFile, GroupState, RunInfo, SubmissionStatus
from protocol.rollout import Submission, Work, rollout_seed, task_index
from protocol.run import RunSpec
from protocol.signing import Domain


class EpochRefused(Exception):
    """Something in an epoch does not follow from signed work; the message says what."""


@dataclass(frozen=True, slots=True)
class EpochPlace:
    """Where the chain says that an epoch stands.

    Example: EpochPlace(run_id=1, epoch=3, generation=0, secret_hash=hash, root_before=root)
    """

    run_id: int
    epoch: int
    generation: int
    secret_hash: bytes
    root_before: bytes


def work_digest(item: Contribution, *, run_id: int, domain: Domain) -> bytes:
    """Return the digest the worker signed, which names the submission."""
    return domain.digest(Work(run_id=run_id, **item.model_dump(exclude={"units", "signature"})))


def read_file(data: bytes) -> Published:
    """Read an epoch's file; raise `EpochRefused` for amounts that no leaf can hold, else `Malformed`."""
    try:
        return Published.of(EpochFile.from_canonical(data))
    except ValueError as error:
        raise EpochRefused(f"the file is no epoch file: {error}") from error


def misplacements(file: EpochFile, place: EpochPlace) -> Iterator[str]:
    """Yield each statement of a file about its place that the chain contradicts."""
    told = file.run_id, file.epoch, file.generation
    if told != (place.run_id, place.epoch, place.generation):
        yield f"the file is of (run, epoch, generation) {told}"
    if keccak256(file.secret) != place.secret_hash:
        yield "the file's secret is not the one that was committed on chain"
    if file.prev_account_root != place.root_before:
        yield "the file does not go on from the account root before"


def check_file(
    published: Published,
    header: EpochHeader,
    place: EpochPlace,
    facts: Facts,
    *,
    before: Openable[AccountLeaf],
) -> dict[bytes, Contribution]:
    """Return the contributions by work digest; raise `EpochRefused` where an honest quorum would not sign.

    `facts.posted_at` is the newest block's time: if the run were halted before work dated later, that
    work would be provable fraud, and its signers slashed.
    """
    for what in misplacements(published.file, place):
        raise EpochRefused(what)
    for finding in find(published.under(header), facts, before=before):
        raise EpochRefused(finding.what)
    return {
        work_digest(item, run_id=place.run_id, domain=facts.domain): item
        for item in published.file.contributions
    }


def check_group(
    item: Contribution,
    status: SubmissionStatus,
    submission: Submission,
    *,
    secret: bytes | None,
    info: RunInfo,
    domain: Domain,
    spoke_for: SpokeFor,
) -> None:
    """Check one contribution against what the market shows of it; raise `EpochRefused`.

    `secret` is that of the lease's epoch, None until it is revealed: seeds cannot be checked before,
    and whoever reads the chain later checks them.
    """
    name, signed = f"nonce {item.nonce} of {item.worker}", status.lease
    if status.state is not GroupState.ACCEPTED:
        raise EpochRefused(f"{name} is paid but {status.state}")
    digest = work_digest(item, run_id=info.run_id, domain=domain)
    try:
        check_work(digest, signed, submission, info=info, domain=domain, spoke_for=spoke_for)
    except MarketError as error:
        raise EpochRefused(f"{name}: {error}") from error
    if secret is not None:
        _check_draws(item, status, secret, info.spec)


def _check_draws(
    item: Contribution, status: SubmissionStatus, secret: bytes, spec: RunSpec
) -> None:
    lease = status.lease.lease
    seeds = tuple(
        rollout_seed(lease.run_id, lease.lease_id, secret, i) for i in range(spec.group_size)
    )
    index = task_index(lease.run_id, lease.lease_id, secret, num_tasks=spec.num_tasks)
    if lease.seeds != seeds or lease.index != index:
        raise EpochRefused(
            f"seeds or task of nonce {item.nonce} of {item.worker} were chosen, not drawn from the "
            "committed secret"
        )


@dataclass(slots=True)
class EpochReport:
    """What was recomputed of one posting, and each thing that differs."""

    posted: Posted
    num_groups: int = 0
    units: int = 0
    roots_hold: bool = False
    num_signed: int = 0
    num_drawn: int = 0
    num_looked_at: int = 0
    num_due: int = 0
    """How many of the groups looked at were drawn for replay."""
    num_replayed: int = 0
    """How many of those enough verifiers vouched for."""
    claimed: int = 0
    differences: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.differences


@dataclass(frozen=True, slots=True)
class Look:
    """One contribution's submission as the market shows it, or why it shows nothing."""

    item: Contribution
    shown: tuple[SubmissionStatus, Submission] | str


def check_posting(
    report: EpochReport,
    published: Published,
    header: EpochHeader | None,
    place: EpochPlace,
    *,
    before: Openable[AccountLeaf] | None,
    rate: int,
) -> None:
    """Hold a file against what was posted for it, and against the file before. `header` is the posted one."""
    posted, work = report.posted, published.work
    report.num_groups, report.units = len(work), sum(leaf.units for leaf in work)
    report.differences += misplacements(published.file, place)
    derived = published.header(posted.data_hash)
    report.roots_hold = derived.struct_hash() == posted.header_hash
    if not report.roots_hold:
        report.differences += _differing(derived, header)
    if before is None:
        report.differences.append("the accounts before are not published: earnings are unchecked")
    if posted.cost != report.units * rate:
        report.differences.append(
            f"{posted.cost} was committed, its {report.units} units cost {report.units * rate}"
        )


def check_findings(report: EpochReport, findings: Iterable[Finding]) -> None:
    """Record the faults that the ledger can be shown."""
    report.findings = list(findings)
    report.differences += [finding.what for finding in report.findings]
    forged = {
        finding.arguments[1].index
        for finding in report.findings
        if finding.fault is Fault.BAD_LEAF and finding.arguments[2]
    }
    report.num_signed = report.num_groups - len(forged)


def check_draws(
    report: EpochReport,
    looks: Sequence[Look],
    *,
    secrets: Mapping[int, bytes],
    num_opened: int,
    info: RunInfo,
    domain: Domain,
    spoke_for: SpokeFor,
) -> None:
    """Recompute each lease's task and seeds from its epoch's secret, and compare the body with its leaf.

    `secrets` are those revealed on chain, by epoch; draws of a lease of an epoch that is still open can
    only be checked later.
    """
    for look in looks:
        name = f"nonce {look.item.nonce} of {look.item.worker}"
        if isinstance(look.shown, str):
            report.differences.append(f"{name} is not shown: {look.shown}")
            continue
        (status, submission), fault = look.shown, ""
        secret, epoch = secrets.get(status.lease.lease.epoch), status.lease.lease.epoch
        try:
            if epoch >= num_opened:
                raise EpochRefused(f"{name} has a lease of epoch {epoch}, which was never opened")
            check_group(
                *(look.item, status, submission),
                secret=secret,
                info=info,
                domain=domain,
                spoke_for=spoke_for,
            )
        except EpochRefused as error:
            fault = str(error)
            report.differences.append(fault)
        if secret is not None or fault:
            report.num_looked_at += 1
            report.num_drawn += not fault


def _differing(derived: EpochHeader, header: EpochHeader | None) -> list[str]:
    if header is None:
        return ["the signed header is not the file's, and the posting transaction does not show it"]
    return [
        f"the header says {name} {_show(getattr(header, name))}, the file leads to "
        f"{_show(getattr(derived, name))}"
        for name in (entry.name for entry in fields(EpochHeader))
        if getattr(header, name) != getattr(derived, name)
    ]


def _show(value: int | bytes) -> str:
    return f"0x{value.hex()}" if isinstance(value, bytes) else str(value)
