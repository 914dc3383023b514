"""Whose signatures make a trial's evidence and baselines count. Pure, from the chain's view of a run.

What the orchestrator serves is believed for nothing else: `protocol/baseline.py` has the rules that
need no signature.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from protocol.baseline import Baseline, Endorsement, Evidence, SignedBaseline, TrialPolicy
from protocol.baseline import check_evidence as check_form
from protocol.errors import BadSignature, Malformed
from protocol.signing import Domain, recover
from rollout_worker.epochs import SpokeFor


@dataclass(frozen=True, slots=True)
class Quorum:
    """A run's verifiers, and how many of them must agree."""

    run_id: int
    verifiers: Sequence[str]
    threshold: int
    domain: Domain
    spoke_for: SpokeFor

    def check_evidence(
        self, evidence: Evidence, *, worker: str, engine_class: str, policy: TrialPolicy
    ) -> None:
        """Raise a `MarketError` unless verifiers of this run measured exactly this."""
        found = (evidence.run_id, evidence.worker, evidence.engine_class)
        if found != (self.run_id, worker, engine_class):
            raise Malformed(
                f"the evidence is of {_named(found)}, not of {engine_class} of {worker} in "
                f"run {self.run_id}"
            )
        check_form(evidence, policy, threshold=self.threshold)
        for verdict in evidence.verdicts():
            by = Endorsement(verifier=verdict.verifier, signature=verdict.signature)
            self._require_signed(self.domain.digest(verdict), by, dated=verdict.decided_at)

    def check_baseline(self, signed: SignedBaseline, *, engine_class: str, now: int) -> Baseline:
        """Return a baseline that a quorum signed, of this run and class; raise a `MarketError`."""
        baseline = signed.baseline
        found = (baseline.run_id, baseline.worker, baseline.thresholds.engine_class)
        if found != (self.run_id, baseline.worker, engine_class):
            raise Malformed(
                f"a baseline of {_named(found)} stands under {engine_class} of run {self.run_id}"
            )
        signers = {endorsement.verifier for endorsement in signed.endorsements}
        if len(signers) < self.threshold:
            raise Malformed(f"{len(signers)} verifiers signed the baseline, not {self.threshold}")
        for endorsement in signed.endorsements:
            self._require_signed(self.domain.digest(baseline), endorsement, dated=now)
        return baseline

    def _require_signed(self, digest: bytes, by: Endorsement, *, dated: int) -> None:
        if by.verifier not in self.verifiers:
            raise Malformed(f"{by.verifier} is not one of run {self.run_id}'s verifiers")
        signer = recover(digest, by.signature)
        if not self.spoke_for(signer, by.verifier, dated):
            raise BadSignature(f"signed by {signer}, not for {by.verifier}")


def _named(found: tuple[int, str, str]) -> str:
    """Return (run, worker, engine class) as a person reads it."""
    run_id, worker, engine_class = found
    return f"{engine_class} of {worker} in run {run_id}"
