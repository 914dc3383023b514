"""Sign fraud reports, each only where one's own replay is worth the stake (`protocol.checks.evidence`)."""

import structlog

from audit.chain_facts import Keys
from protocol.checks.evidence import Consequence, consequence
from protocol.commitment import is_signed
from protocol.epoch import FraudReport
from protocol.errors import BadSignature, Malformed
from protocol.messages import (
    AuditTask,
    FraudReportSignature,
    FraudReportTask,
    RunInfo,
    SubmissionStatus,
)
from protocol.signing import sign
from protocol.verdict import Outcome, Verdict
from rollout_worker.verify.epochs import Verifier
from rollout_worker.verify.recheck import Rechecker
from rollout_worker.verify.reports import why_not_accuse
from rollout_worker.verify.verdicts import VerdictBook

REPORT_SKEW_SECONDS = 3_600
"""How far a fraud report's time may be from this clock: chains' clocks drift."""
MOST_SEEN = 10_000
"""Reports that are remembered: an orchestrator may show others for ever."""


class ReportSigner:
    """Signs the fraud reports of one run, each once."""

    def __init__(
        self, verifier: Verifier, info: RunInfo, book: VerdictBook, recheck: Rechecker
    ) -> None:
        self._verifier = verifier
        self._info = info
        self._run_id = info.run_id
        self._book = book
        self._recheck = recheck
        self._seen: set[tuple[str, bytes]] = set()
        self._log = structlog.get_logger().bind(run=info.run_id)

    def step(self) -> None:
        """Look at every report once: sign it, or say why not."""
        verifier = self._verifier
        tasks = verifier.routes.fraud_reports(self._run_id, give_up=verifier.stop.is_set).tasks
        if len(self._seen) > MOST_SEEN:
            self._seen.clear()  # looked at again, at worst: what is signed twice is counted once
        for task in tasks:
            about = (task.worker, task.work_digest)
            if about in self._seen or task.worker == verifier.identity:
                continue
            reason = self._why_not_report(task)
            if reason is not None:
                self._seen.add(about)
                self._log.error("fraud report not signed", worker=task.worker, reason=reason)
                continue
            signature = sign(verifier.key, verifier.domain.digest(FraudReport.of(task)))
            verifier.routes.sign_fraud_report(
                self._run_id,
                FraudReportSignature(work_digest=task.work_digest, signature=signature),
                give_up=verifier.stop.is_set,
            )
            self._seen.add(about)
            verifier.counters.add("fraud_reports_signed")
            amount = verifier.wallet.token.show(int(task.amount))
            self._log.info("fraud report signed", worker=task.worker, amount=amount)

    def _why_not_report(self, task: FraudReportTask) -> str | None:
        """Return what keeps this verifier from accusing, or None once it has seen it for itself."""
        try:
            return self._why_not_sign(task, self._signed_work(task.work_digest))
        except (BadSignature, Malformed) as error:
            return f"what is shown of the work is not its worker's: {error.message}"

    def _signed_work(self, work_digest: bytes) -> SubmissionStatus:
        """Return what is shown of work, only if its worker signed it: else another would be accused of it."""
        status = self._verifier.routes.submission(self._run_id, work_digest)
        if status.work_digest != work_digest:
            raise Malformed(f"asked for 0x{work_digest.hex()}, got 0x{status.work_digest.hex()}")
        self._recheck.fetch(_task_of(status, rollouts=(0,)))
        return status

    def _why_not_sign(self, task: FraudReportTask, status: SubmissionStatus) -> str | None:
        most, token = self._verifier.config.max_slash, self._verifier.wallet.token
        limit = int(self._info.min_stake) if most is None else token.exactly(most)
        if int(task.amount) > limit:
            return f"{token.show(int(task.amount))} are above {token.show(limit)}"
        if abs(task.reported_at - self._verifier.routes.clock.now()) > REPORT_SKEW_SECONDS:
            return f"reported_at {task.reported_at} is not now"
        if task.run_id != self._run_id:
            return f"the report is for run {task.run_id}"
        if (reason := self._why_open(status)) is not None:
            return reason
        if task.worker == status.lease.lease.worker:
            return self._why_not_condemn(task, status)
        return self._why_not_accuse(task, status)

    def _why_not_condemn(self, task: FraudReportTask, status: SubmissionStatus) -> str | None:
        evidence = [v for v in status.verdicts if v.evidence_digest() == task.evidence_digest]
        if not evidence or evidence[0].outcome is not Outcome.REJECTED:
            return "its evidence is no condemning verdict"
        found = self._consequence(task.work_digest, evidence[0].rollouts)
        if found is Consequence.NAMED:
            return None
        if found is not Consequence.GROSS:
            return f"own replay finds no ground to take stake: {found}"
        return self._why_not_gross(task, worker=status.lease.lease.worker)

    def _why_not_gross(self, task: FraudReportTask, *, worker: str) -> str | None:
        """Return why a report without a name for what was done lacks a second group, or None."""
        if task.also in {bytes(32), task.work_digest}:
            return "its evidence is gross and nameless, and it names no second group"
        other = self._signed_work(task.also)
        if other.lease.lease.worker != worker:
            return f"the second group is {other.lease.lease.worker}'s"
        if (reason := self._why_open(other)) is not None:
            return reason
        condemning = [v for v in other.verdicts if v.outcome is Outcome.REJECTED]
        rollouts = condemning[0].rollouts if condemning else ()
        found = self._consequence(task.also, rollouts)
        is_gross = found in {Consequence.GROSS, Consequence.NAMED}
        return None if is_gross else f"own replay of the second group finds it {found}"

    def _why_open(self, status: SubmissionStatus) -> str | None:
        """Return why a vote may be open yet, or None: whoever signs or not tells what its own replay found."""
        ledger = self._verifier.wallet.ledger
        run, spoke_for = ledger.run(self._run_id), Keys(ledger).spoke_for
        seats = ledger.seats(self._run_id)
        told = {
            seats[verdict.verifier]
            for verdict in status.verdicts
            if verdict.outcome is not Outcome.UNDECIDED
            and (verdict.run_id, verdict.work_digest) == (self._run_id, status.work_digest)
            and verdict.verifier in seats
            and is_signed(verdict, self._verifier.domain, spoke_for, at=verdict.decided_at)
        }
        if len(told) >= run.threshold:
            return None
        return f"{len(told)} of {run.threshold} verdicts on 0x{status.work_digest.hex()} are shown"

    def _consequence(self, work_digest: bytes, rollouts: tuple[int, ...]) -> Consequence:
        own = self._book.get(work_digest) or self._recheck_now(work_digest, rollouts)
        return consequence(own, self._info.spec.thresholds)

    def _why_not_accuse(self, task: FraudReportTask, status: SubmissionStatus) -> str | None:
        """Return what keeps this verifier from accusing another of having judged a canary falsely."""
        verifier = self._verifier
        if task.worker not in verifier.wallet.ledger.run(self._run_id).verifiers:
            return "the report names neither the lease's worker nor a verifier"
        return why_not_accuse(
            task,
            status,
            verifier.routes.canaries(self._run_id, give_up=verifier.stop.is_set),
            self._book.get(task.work_digest)
            or self._recheck_now(task.work_digest, tuple(range(status.lease.lease.group_size))),
            spec=self._info.spec,
            domain=verifier.domain,
            spoke_for=Keys(verifier.wallet.ledger).spoke_for,
        )

    def _recheck_now(self, work_digest: bytes, rollouts: tuple[int, ...]) -> Verdict:
        task = _task_of(self._signed_work(work_digest), rollouts=rollouts)
        [verdict] = self._recheck.verdicts([task])
        self._book.keep(verdict)
        return verdict


def _task_of(status: SubmissionStatus, *, rollouts: tuple[int, ...]) -> AuditTask:
    """Return the replay of these rollouts of what the market shows."""
    return AuditTask(
        work_digest=status.work_digest, lease=status.lease, body=status.body, rollouts=rollouts
    )
