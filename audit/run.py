"""Recompute every epoch of a run from the chain, the published files and the submissions.

A fault that the ledger can be shown comes with the call that shows it; the command prints and sends.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial

from audit.chain_facts import Keys, domain_of, facts_of
from audit.draws import PaidCounts, PublicDraws, Quorum, check_replays
from audit.epoch import (
    EpochPlace,
    EpochReport,
    Look,
    check_draws,
    check_findings,
    check_posting,
    work_digest,
)
from audit.fraud import Finding, find
from audit.hidden.headers import posted_header
from audit.history import Fate
from audit.paid import PaidIndex
from audit.published import Published
from audit.record import PublicRecord
from audit.tasks import PromptOf, Unchecked, check_tasks, policies_of, prompts_of
from ledger.state import RunState
from protocol.errors import MarketError
from protocol.messages import Contribution
from protocol.run import RunSpec

NUM_READERS = 8
"""Submissions asked for at once: an orchestrator takes 400 requests a second from one address."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run's epochs, and what differs in the run as a whole."""

    run_id: int
    epochs: list[EpochReport]
    differences: list[str]
    earned: Mapping[str, int]
    """Units that final epochs earned each worker."""

    def all_differences(self) -> list[str]:
        """Return what differs in the run and, named, in each of its epochs."""
        return self.differences + [
            f"epoch {epoch.posted.epoch}: {what}"
            for epoch in self.epochs
            for what in epoch.differences
        ]

    @property
    def holds(self) -> bool:
        return not self.differences and all(epoch.holds for epoch in self.epochs)


def audit_run(
    record: PublicRecord, run_id: int, *, most_submissions: int | None = None
) -> RunReport:
    """Recompute every epoch of a run that was not voided."""
    spec, ledger = record.spec(run_id), record.ledger
    state, public, paid = ledger.run(run_id), public_draws(record, run_id, spec), PaidIndex()
    info = record.reader.run(run_id).model_copy(update={"spec": spec})
    reports: list[EpochReport] = []
    differences: list[str] = []
    check_leases = _task_check(record, run_id, public, differences)
    accounts: dict[int, dict[str, int]] = {}
    root, records = bytes(32), PaidCounts()
    for posted in record.epochs(run_id):
        report = EpochReport(posted)
        reports.append(report)
        published = record.published(posted)
        if isinstance(published, str):
            report.differences.append(published)
            records.take(None)
        else:
            contributions = published.file.contributions
            records.take(contributions)
            _audit_file(record, report, published, paid, root_before=root, rate=state.rate)
            looks = _looks(record, run_id, _drawn(contributions, most_submissions), spec)
            check_draws(
                report,
                looks,
                secrets=public.secrets,
                num_opened=state.num_opened,
                info=info,
                domain=public.domain,
                spoke_for=public.spoke_for,
            )
            check_replays(report, looks, records, public)
            check_leases(report, looks)
            accounts[posted.epoch] = {leaf.worker: leaf.earned for leaf in published.accounts}
        root = posted.account_root
    paid.close()
    earned, wrong = check_pay(reports, accounts, record.claims.get(run_id, {}), state=state)
    return RunReport(run_id, reports, differences + wrong, earned)


def public_draws(record: PublicRecord, run_id: int, spec: RunSpec) -> PublicDraws:
    """Return the facts on chain that a run's draws follow from."""
    ledger, state = record.ledger, record.ledger.run(run_id)
    return PublicDraws(
        run_id=run_id,
        spec=spec,
        domain=domain_of(ledger),
        quorum=Quorum(threshold=state.threshold, seats=ledger.seats(run_id)),
        spoke_for=Keys(ledger).spoke_for,
        secrets={posted.epoch: posted.secret for posted in record.epochs(run_id)},
        opened_at=cache(lambda epoch: ledger.epoch(run_id, epoch).opened_at or None),
        always_owed_until=record.always_owed_until(run_id),
    )


def _task_check(
    record: PublicRecord, run_id: int, public: PublicDraws, differences: list[str]
) -> Callable[[EpochReport, Sequence[Look]], None]:
    """Return the check of leases' contents; if prompts cannot be made here, that is a difference."""
    reader, spec = record.reader, public.spec
    prompt_of: PromptOf | None = None
    try:
        prompt_of = prompts_of(reader, spec)
    except Unchecked as error:
        differences.append(str(error))
    return partial(
        check_tasks,
        prompt_of=prompt_of,
        policy_of=policies_of(reader, run_id, spec, public.domain),
    )


def first_proof(reports: Sequence[RunReport]) -> Finding | None:
    """Return the proof against the earliest epoch that is not final: it voids every later one."""
    epochs = [epoch for report in reports for epoch in report.epochs]
    provable = (epoch for epoch in epochs if epoch.posted.is_disputable)
    return next((epoch.findings[0] for epoch in provable if epoch.findings), None)


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


def _audit_file(
    record: PublicRecord,
    report: EpochReport,
    published: Published,
    paid: PaidIndex,
    *,
    root_before: bytes,
    rate: int,
) -> None:
    posted, ledger = report.posted, record.ledger
    header = published.header(posted.data_hash)
    if header.struct_hash() != posted.header_hash:
        header = posted_header(ledger, posted) or header
    secret_hash = ledger.epoch(posted.run_id, posted.epoch).secret_hash
    place = EpochPlace(posted.run_id, posted.epoch, posted.generation, secret_hash, root_before)
    before = record.accounts_before(posted)
    check_posting(report, published, header, place, before=before, rate=rate)
    found = find(
        published.under(header),
        facts_of(ledger, posted, now=record.now),
        before=before,
        paid_before=paid.before(posted, record.history, record.read),
    )
    check_findings(report, found)
    paid.add(posted.run_id, posted.header_hash, published.work)


def _drawn(items: Sequence[Contribution], most: int | None) -> Sequence[Contribution]:
    if most is None or most >= len(items):
        return items
    return random.SystemRandom().sample(items, most)


def _looks(
    record: PublicRecord, run_id: int, items: Sequence[Contribution], spec: RunSpec
) -> list[Look]:
    domain, most = domain_of(record.ledger), spec.most_submission_bytes

    def look(item: Contribution) -> Look:
        digest = work_digest(item, run_id=run_id, domain=domain)
        try:
            return Look(item, record.submission(run_id, digest, most_bytes=most))
        except MarketError as error:
            return Look(item, error.message)

    with ThreadPoolExecutor(NUM_READERS) as pool:
        return list(pool.map(look, items))
