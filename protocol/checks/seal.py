"""Sealed votes: what a verifier holds before it tells its verdict, and what it holds others to. Pure.

A verifier signs a seal, which is the digest of its salted verdict, and keeps the verdict. Once as many have
sealed as must agree, each of them sends its verdict. The orchestrator says when that is, and is not
believed: a verifier sends nothing before it holds the seals. Nor may another be told its verdict first and
say something else then: the verdict that is shown later must be the sealed one.
"""

from collections.abc import Collection, Iterable

from protocol.commitment import SpokeFor, is_signed
from protocol.messages import ClosedVote
from protocol.signing import Domain
from protocol.verdict import Outcome, Seal, Verdict


def seals_that_hold(
    vote: ClosedVote,
    own: Verdict,
    *,
    verifiers: Collection[str],
    domain: Domain,
    spoke_for: SpokeFor,
    now: int,
) -> tuple[Seal, ...]:
    """Return those seals that bind verifiers of the run to a verdict on the same work, one of each."""

    def holds(seal: Seal) -> bool:
        is_about = (seal.run_id, seal.work_digest) == (own.run_id, own.work_digest)
        if not is_about or seal.verifier not in verifiers:
            return False
        return is_signed(seal, domain, spoke_for, at=now)

    return tuple({seal.verifier: seal for seal in vote.seals if holds(seal)}.values())


def why_not_open(seals: Collection[Seal], own: Verdict, *, threshold: int) -> str | None:
    """Return what keeps a verifier from sending its verdict, or None; the seals are those that hold."""
    mine = Seal.of(own).evidence_digest
    if not any(s.verifier == own.verifier and s.evidence_digest == mine for s in seals):
        return "my own seal is not among those shown"
    if len(seals) < threshold:
        return f"{len(seals)} of {threshold} verifiers are shown to have sealed their verdicts"
    return None


def broken_seal(verdicts: Iterable[Verdict], seals: Iterable[Seal]) -> Seal | None:
    """Return a seal whose verifier is shown with another vote, or None."""
    decided = (verdict for verdict in verdicts if verdict.outcome is not Outcome.UNDECIDED)
    shown = {verdict.verifier: verdict.evidence_digest() for verdict in decided}
    for seal in seals:
        if shown.get(seal.verifier, seal.evidence_digest) != seal.evidence_digest:
            return seal
    return None
