"""What one epoch's public record says, recomputed: leaves, sums, roots, header, signatures, draws, pay.

Pure, and apart from settlement, whose mistakes must not be repeated here. A fault that the ledger can be
shown comes from `audit/fraud.py` with the call that shows it; a fault that only a person can act on (the
file gives another secret, seeds were chosen) is a difference without a call.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields

from audit.epoch import EpochRefused, check_group
from audit.fraud import Finding
from audit.history import Fate, Posted
from audit.published import Openable, Published
from ledger.state import Fault, RunState
from protocol.canonical import keccak256
from protocol.commitment import SpokeFor
from protocol.epoch import AccountLeaf, EpochHeader
from protocol.messages import Contribution, RunInfo, SubmissionStatus
from protocol.rollout import Submission
from protocol.signing import Domain


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


def check_header(
    report: EpochReport, published: Published, header: EpochHeader | None, *, secret_hash: bytes
) -> None:
    """Re-derive leaves, sums, roots and the header's digest from the file. `header` is the posted one."""
    posted, file = report.posted, published.file
    report.num_groups, report.units = (
        len(published.work),
        sum(leaf.units for leaf in published.work),
    )
    told = (file.run_id, file.epoch, file.generation)
    if told != (posted.run_id, posted.epoch, posted.generation):
        report.differences.append(f"the file is of (run, epoch, generation) {told}")
    if file.secret != posted.secret or keccak256(posted.secret) != secret_hash:
        report.differences.append(
            "the file's secret is not the one that was committed and revealed"
        )
    derived = published.header(posted.data_hash)
    if derived.struct_hash() == posted.header_hash:
        report.roots_hold = True
        return
    report.differences += _differing(derived, header)


def check_chain(
    report: EpochReport,
    published: Published,
    before: Openable[AccountLeaf] | None,
    *,
    root_before: bytes,
    rate: int,
) -> None:
    """Compare the file with what the chain keeps of the epoch, and with the file before."""
    posted = report.posted
    if published.account_tree.root != posted.account_root:
        report.differences.append("the file's accounts do not lead to the account root on chain")
        report.roots_hold = False
    if published.file.prev_account_root != root_before:
        report.differences.append("the file does not go on from the account root before")
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

    `secrets` are those revealed on chain, by epoch; the draws of a lease of an epoch that is open still can
    only be looked at later.
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


def check_pay(
    reports: Sequence[EpochReport],
    accounts: Mapping[int, Mapping[str, int]],
    claims: Mapping[str, int],
    *,
    state: RunState,
) -> tuple[Mapping[str, int], list[str]]:
    """Compare what a run has paid with what its final epochs earned; return these units and what differs.

    `accounts` are each epoch's cumulative units by worker, `claims` the token wei paid so far.
    Sets each report's share of what has been claimed.
    """
    final = [report for report in reports if report.posted.fate is Fate.FINAL]
    if final and final[-1].posted.epoch not in accounts:
        return {}, [
            "what was paid cannot be checked: the newest final epoch's file is not published"
        ]
    earned = accounts[final[-1].posted.epoch] if final else {}
    differences = [
        f"{worker} was paid {paid}, its work in final epochs earned {earned.get(worker, 0) * state.rate}"
        for worker, paid in claims.items()
        if paid > earned.get(worker, 0) * state.rate
    ]
    for report in reports:
        now = accounts.get(report.posted.epoch, {})
        before = accounts.get(report.posted.epoch - 1, {})
        report.claimed = sum(
            max(
                0,
                min(claims.get(worker, 0), units * state.rate) - before.get(worker, 0) * state.rate,
            )
            for worker, units in now.items()
        )
    sums = (
        ("committed", state.committed, sum(report.posted.cost for report in reports)),
        ("made final", state.finalised, sum(report.posted.cost for report in final)),
        ("claimed", state.claimed, sum(claims.values())),
    )
    differences += [
        f"the run says {on_chain} {what}, its epochs and claims add up to {added}"
        for what, on_chain, added in sums
        if on_chain != added
    ]
    return earned, differences


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
