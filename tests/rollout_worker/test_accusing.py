"""What a verifier must see before it signs away another's stake, and each thing that may be missing."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from protocol.checks.canary import CanaryOpening, commitment_text, is_clear
from protocol.messages import CanaryInfo, CanaryInfos, FraudReportTask, SubmissionStatus
from protocol.rollout import Lease, Receipt, SignedLease
from protocol.signing import address_of, personal_digest, sign
from protocol.verdict import Outcome, ReplayStats, Verdict
from rollout_worker.verify.reports import why_not_accuse
from tests.stage.bounds import thresholds
from tests.stage.live import key_of
from tests.stage.terms import DOMAIN, RUN, digest_of, make_spec, person, weights

LAZY, OTHER, CANARY = key_of("lazy"), key_of("other"), address_of(key_of("canary"))
SPEC = make_spec(thresholds=thresholds(digest_of(weights(0)), match=0.9, margin=0.05, gap=0.1))
THRESHOLDS = SPEC.thresholds
WORK, RECEIVED_AT = bytes([7]) * 32, 1_800_000_000


def stats(matched: int, *, of: int = 400) -> ReplayStats:
    return ReplayStats(
        num_tokens=of,
        num_matched=matched,
        margin_nanonats=0,
        max_margin_nanonats=0,
        gap_nanonats=0,
        surprisal_nanonats=0,
    )


CLEARLY_FALSE, CLEARLY_HONEST = stats(280), stats(399)


def verdict(
    outcome: Outcome, *, key: bytes = LAZY, found: ReplayStats = CLEARLY_HONEST, work: bytes = WORK
) -> Verdict:
    unsigned = Verdict(
        run_id=RUN,
        work_digest=work,
        verifier=address_of(key),
        outcome=outcome,
        rejection="replay_mismatch" if outcome is Outcome.REJECTED else "",
        detail="",
        rollouts=(0,),
        stats=found,
        mismatches=(),
        decided_at=RECEIVED_AT + 9,
        signature=bytes(65),
    )
    return unsigned.model_copy(update={"signature": sign(key, DOMAIN.digest(unsigned))})


PASSED = verdict(Outcome.ACCEPTED)
CONDEMNED = verdict(Outcome.REJECTED, key=OTHER, found=CLEARLY_FALSE)


@dataclass(frozen=True)
class Case:
    """A report with all that stands behind it."""

    theirs: Verdict = PASSED
    own: Verdict = CONDEMNED
    answer: str = "rejected"
    committed_at: int = RECEIVED_AT - 60
    committed_by: bytes = bytes(person("orchestrator").key)
    opened_as: str = ""
    is_open: bool = True
    evidence: bytes = b""

    def why_not(self) -> str | None:
        task = FraudReportTask(
            run_id=RUN,
            worker=address_of(LAZY),
            work_digest=WORK,
            evidence_digest=self.evidence or self.theirs.evidence_digest(),
            amount="1",
            reported_at=RECEIVED_AT + 60,
        )
        return why_not_accuse(
            task,
            self.status(),
            CanaryInfos(canaries=(self.committed(),)),
            self.own,
            spec=SPEC,
            domain=DOMAIN,
            spoke_for=lambda signer, identity, _: signer == identity,
        )

    def status(self) -> SubmissionStatus:
        lease = Lease.model_construct(run_id=RUN, worker=CANARY)
        return SubmissionStatus.model_construct(
            lease=SignedLease.model_construct(lease=lease, signature=bytes(65)),
            receipt=Receipt.model_construct(received_at=RECEIVED_AT),
            verdicts=(self.theirs,),
        )

    def committed(self) -> CanaryInfo:
        made = {"worker": CANARY, "answer": self.answer, "salt": bytes(32)}
        opening = CanaryOpening.model_validate(made)
        commitment = opening.commitment(RUN)
        text = commitment_text(RUN, commitment, self.committed_at)
        shown = opening.model_copy(update={"answer": self.opened_as or self.answer})
        return CanaryInfo(
            commitment=commitment,
            committed_at=self.committed_at,
            signature=sign(self.committed_by, personal_digest(text)),
            opening=shown if self.is_open else None,
        )


def test_a_verifier_that_passed_false_work_or_failed_good_work_is_accused() -> None:
    assert Case().why_not() is None
    failed_good = Case(
        theirs=verdict(Outcome.REJECTED),
        own=verdict(Outcome.ACCEPTED, key=OTHER),
        answer="accepted",
    )
    assert failed_good.why_not() is None


def forged() -> Verdict:
    return verdict(Outcome.ACCEPTED).model_copy(update={"signature": bytes(64) + b"\x1b"})


def by_another_key() -> Verdict:
    lie = verdict(Outcome.ACCEPTED)
    return lie.model_copy(update={"signature": sign(OTHER, DOMAIN.digest(lie))})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: replace(c, evidence=bytes(32)), "no verdict of the accused"),
        (lambda c: replace(c, theirs=verdict(Outcome.ACCEPTED, key=OTHER)), "no verdict of the"),
        (lambda c: replace(c, theirs=verdict(Outcome.ACCEPTED, work=bytes(32))), "other work"),
        (lambda c: replace(c, theirs=forged()), "is not signed"),
        (lambda c: replace(c, theirs=by_another_key()), "is not signed by"),
        (lambda c: replace(c, is_open=False), "no commitment"),
        (lambda c: replace(c, committed_at=RECEIVED_AT + 1), "no commitment"),
        (lambda c: replace(c, committed_by=OTHER), "no commitment"),
        (lambda c: replace(c, opened_as="accepted"), "no commitment"),
        (lambda c: replace(c, theirs=verdict(Outcome.REJECTED)), "found it rejected"),
        (lambda c: replace(c, theirs=verdict(Outcome.UNDECIDED)), "found it undecided"),
        (lambda c: replace(c, own=verdict(Outcome.ACCEPTED, key=OTHER)), "own replay says"),
        (
            lambda c: replace(c, own=verdict(Outcome.REJECTED, key=OTHER, found=stats(330))),
            "not so clearly",
        ),
    ],
)
def test_a_report_that_lacks_something_is_not_signed(
    change: Callable[[Case], Case], said: str
) -> None:
    assert said in (change(Case()).why_not() or "")


def test_only_what_is_far_from_a_bound_is_clear() -> None:
    """The bound is near a tenth of the tokens: between, an honest verifier elsewhere might differ."""
    clear = {
        matched: [
            is_clear(outcome, stats(matched), THRESHOLDS)
            for outcome in (Outcome.ACCEPTED, Outcome.REJECTED, Outcome.UNDECIDED)
        ]
        for matched in (399, 362, 350, 280)
    }
    assert clear[399] == [True, False, False]
    assert clear[362][0] is False
    assert clear[350][1] is False
    assert clear[280] == [False, True, False]
