"""A verifier's part in trials: measure groups of classes without bounds, and sign what they come to.

It signs a baseline only where it recomputed it from evidence that verifiers of the run signed, and
judges a class that was admitted by bounds it recomputed from baselines that a quorum signed: of the
orchestrator it takes nothing but the bytes. The rules are `protocol/baseline.py`'s. Left out: that the
orchestrator may choose which of a worker's measured groups, and whose baselines, it passes on.
"""

import time
from collections import Counter
from collections.abc import Sequence

import structlog

from contracts.facts import Keys
from protocol.baseline import (
    AdmittedClass,
    Baseline,
    EndorsedBaseline,
    Endorsement,
    Evidence,
    Trial,
    baseline_of,
    class_bounds,
    is_measurement,
    replayed_by,
)
from protocol.errors import MarketError
from protocol.messages import AuditTask, RunInfo
from protocol.signing import sign
from protocol.verdict import Thresholds, Verdict
from rollout_worker.client import BlobMismatch, Later
from rollout_worker.epoch_signer import Verifier
from rollout_worker.quorum import Quorum
from rollout_worker.recheck import Rechecker

MAX_EVIDENCE_BYTES = 256 << 20
"""65,536 groups with 8 readings of 400 bytes each."""
NUM_TRIES = 3
"""Replays of a trial group that may fail here before it is said that it cannot be measured."""
NO_BLOB = bytes(32)


class TrialWatch:
    """One verifier's trials of one run; without `RunSpec.trial` it does nothing."""

    def __init__(self, verifier: Verifier, info: RunInfo) -> None:
        self._verifier = verifier
        self._info = info
        self._keys = Keys(verifier.wallet.ledger)
        self._bounds: dict[str, Thresholds] = {}
        self._seen: set[tuple[str, bytes]] = set()
        """Baselines signed and admitted classes looked at, by name and what they rest on."""
        self._failures: Counter[bytes] = Counter()
        self._log = structlog.get_logger().bind(run=info.run_id)

    def bounds_for(self, engine_class: str) -> Thresholds | None:
        """Return the agreed bounds of a class, or those of a class that was admitted since."""
        return self._info.spec.thresholds_for(engine_class) or self._bounds.get(engine_class)

    def step(self, recheck: Rechecker) -> None:
        """Look at the trials, sign what has been measured enough, and measure some more."""
        spec = self._info.spec
        if spec.trial is None:
            return
        verifier = self._verifier
        found = verifier.market.trials(self._info.run_id, give_up=verifier.stop.is_set)
        for admitted in found.admitted:
            self._learn(admitted)
        if verifier.config.replay.engine != replayed_by(spec.thresholds):
            return
        for trial in found.trials:
            if trial.evidence != NO_BLOB and trial.signed is None:
                self._endorse(trial)
        self._measure(recheck)

    # measuring

    def _measure(self, recheck: Rechecker) -> None:
        verifier, run_id = self._verifier, self._info.run_id
        answer = verifier.market.trial_groups(
            run_id, verifier.config.replay.tasks_per_call, give_up=verifier.stop.is_set
        )
        if isinstance(answer, Later):
            return
        with verifier.tally.timing("busy"):
            verdicts = recheck.verdicts(self._unbounded(answer.tasks))
        for verdict in verdicts:
            if not self._is_worth_saying(verdict):
                continue
            try:
                verifier.market.measurement(run_id, verdict, give_up=verifier.stop.is_set)
            except MarketError as error:  # decided meanwhile
                self._log.warning("measurement refused", code=error.code, reason=error.message)
                continue
            verifier.tally.add_to("trials", "measured" if is_measurement(verdict) else "failed")

    def _unbounded(self, tasks: Sequence[AuditTask]) -> list[AuditTask]:
        """Return the tasks of classes that nothing is known to be held to."""
        return [task for task in tasks if self.bounds_for(task.engine_class) is None]

    def _is_worth_saying(self, verdict: Verdict) -> bool:
        """Return False for a failure that may pass: a late policy, a lack of time or memory."""
        if is_measurement(verdict):
            return True
        self._failures[verdict.work_digest] += 1
        return self._failures[verdict.work_digest] >= NUM_TRIES

    # signing

    def _endorse(self, trial: Trial) -> None:
        name = (f"{trial.worker}/{trial.engine_class}", trial.evidence)
        if name in self._seen:
            return
        self._seen.add(name)
        try:
            baseline = self._recomputed(trial)
        except (MarketError, BlobMismatch, ValueError) as error:
            # Others measured it: what nothing can be made of must not end the replays of every run.
            self._log.error("baseline not signed", worker=trial.worker, reason=str(error))
            return
        verifier = self._verifier
        signature = sign(verifier.key, verifier.domain.digest(baseline))
        endorsement = Endorsement(verifier=verifier.identity, signature=signature)
        verifier.market.endorse(
            self._info.run_id,
            EndorsedBaseline(baseline=baseline, endorsement=endorsement),
            give_up=verifier.stop.is_set,
        )
        verifier.tally.add("baselines_signed")
        self._log.info(
            "baseline signed",
            worker=trial.worker,
            engine=trial.engine_class,
            refusal=baseline.refusal,
        )

    def _recomputed(self, trial: Trial) -> Baseline:
        """Return the baseline that a trial's evidence comes to; raise what is wrong with it."""
        spec, verifier = self._info.spec, self._verifier
        assert spec.trial is not None
        data = verifier.market.blob(
            trial.evidence,
            max_bytes=MAX_EVIDENCE_BYTES,
            kind="evidence",
            give_up=verifier.stop.is_set,
        )
        evidence = Evidence.from_canonical(data)
        self._quorum().check_evidence(
            evidence, worker=trial.worker, engine_class=trial.engine_class, policy=spec.trial
        )
        return baseline_of(evidence, trial.evidence, spec.thresholds, spec.trial)

    # classes that were admitted

    def _learn(self, admitted: AdmittedClass) -> None:
        """Keep the bounds of an admitted class, if they follow from what a quorum signed."""
        name = admitted.engine_class
        about = (name, admitted.canonical_digest())
        # The first that holds stays: a class's bounds may not change with what is served.
        if name in self._bounds or about in self._seen:
            return
        self._seen.add(about)
        spec, quorum, now = self._info.spec, self._quorum(), int(time.time())
        assert spec.trial is not None
        try:
            baselines = [
                quorum.check_baseline(signed, engine_class=name, now=now)
                for signed in admitted.baselines
            ]
        except MarketError as error:
            self._log.error("class not admitted", engine=name, reason=str(error))
            return
        bounds = class_bounds(baselines, spec.thresholds, spec.trial)
        if bounds is None:
            self._log.error("class not admitted", engine=name, reason="too few baselines")
            return
        self._bounds[name] = bounds
        self._log.info("class admitted", engine=name, num_workers=len(baselines))

    def _quorum(self) -> Quorum:
        state = self._verifier.wallet.ledger.run(self._info.run_id)
        return Quorum(
            run_id=self._info.run_id,
            verifiers=state.verifiers,
            threshold=state.threshold,
            domain=self._verifier.domain,
            spoke_for=self._keys.spoke_for,
        )
