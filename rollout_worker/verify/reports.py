"""What a verifier checks before it signs away another verifier's stake. Pure.

The orchestrator names the accused; nothing of that is believed. The signed verdict, the commitment that
fixed the right answer beforehand, and this verifier's own replay must all say the same, and so clearly
that other hardware could not have differed.
"""

from protocol.checks.canary import commitment_text, is_clear
from protocol.commitment import SpokeFor, is_signed
from protocol.errors import BadSignature
from protocol.messages import CanaryInfo, CanaryInfos, FraudReportTask, SubmissionStatus
from protocol.run import RunSpec
from protocol.signing import Domain, personal_digest, recover
from protocol.verdict import Outcome, Verdict


def why_not_accuse(
    task: FraudReportTask,
    status: SubmissionStatus,
    canaries: CanaryInfos,
    own: Verdict,
    *,
    spec: RunSpec,
    domain: Domain,
    spoke_for: SpokeFor,
) -> str | None:
    """Return what keeps this verifier from signing, or None where the accused judged falsely.

    `own` is this verifier's verdict on the same work.
    """
    theirs = _evidence(task, status, domain=domain, spoke_for=spoke_for)
    if isinstance(theirs, str):
        return theirs
    answer = committed_answer(status, canaries, spec=spec)
    if answer is None:
        return "no commitment from before the work came in says that it was a canary"
    if theirs.outcome in {answer, Outcome.UNDECIDED}:
        return f"the accused found it {theirs.outcome}, and {answer} was committed"
    if own.outcome != answer:
        return f"own replay says {own.outcome}, the commitment {answer}"
    if not is_clear(own.outcome, own.stats, spec.thresholds):
        return f"own replay says {own.outcome}, but not so clearly that nobody could differ"
    return None


def _evidence(
    task: FraudReportTask, status: SubmissionStatus, *, domain: Domain, spoke_for: SpokeFor
) -> Verdict | str:
    """Return the verdict that the report is about, or what is wrong with it."""
    for verdict in status.verdicts:
        if verdict.evidence_digest() != task.evidence_digest or verdict.verifier != task.worker:
            continue
        if (verdict.run_id, verdict.work_digest) != (task.run_id, task.work_digest):
            return "its evidence is a verdict on other work"
        if not is_signed(verdict, domain, spoke_for, at=verdict.decided_at):
            return f"the verdict is not signed by or for {verdict.verifier}"
        return verdict
    return "its evidence is no verdict of the accused"


def committed_answer(
    status: SubmissionStatus, canaries: CanaryInfos, *, spec: RunSpec
) -> str | None:
    """Return what was fixed about a worker's groups before this one was received, or None."""
    lease = status.lease.lease
    for info in canaries.canaries:
        opening = info.opening
        if opening is None or opening.worker != lease.worker:
            continue
        is_bound = opening.commitment(lease.run_id) == info.commitment
        is_earlier = info.committed_at <= status.receipt.received_at
        if is_bound and is_earlier and _is_signed(info, lease.run_id, spec.orchestrator):
            return opening.answer
    return None


def _is_signed(info: CanaryInfo, run_id: int, orchestrator: str) -> bool:
    text = commitment_text(run_id, info.commitment, info.committed_at)
    try:
        return recover(personal_digest(text), info.signature) == orchestrator
    except BadSignature:
        return False
