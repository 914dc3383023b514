"""Replay other workers' groups and say what was found, in signed verdicts.

Groups of one policy are replayed together, a few at a time: once a worker's evidence is worth its stake,
its other groups in hand are left, without a word that would tell how this verifier votes. A group outside its bounds is replayed
again under named alternatives (`replay/hypotheses.py`), so that its verdict says what was done. Whatever
keeps a replay from being made (a missing blob, weights out of reach, no memory, no time, a model that
fails) is `undecided` with its reason: it goes elsewhere and counts against nobody.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from client.policies import PolicyCache, PolicyUnreachable
from client.public import PublicRoutes
from client.retry import GiveUp
from protocol.checks.evidence import Consequence, consequence
from protocol.commitment import SpokeFor, check_work
from protocol.constants import MAX_SUBMISSION_BYTES, MICRO
from protocol.environments.base import FULL_SCORE
from protocol.errors import Malformed, MarketError
from protocol.messages import AuditTask, RunInfo
from protocol.policies.manifest import Weights
from protocol.rollout import Lease, Submission, read_submission
from protocol.verdict import Outcome, ReplayStats, Verdict, judge
from rollout_worker.replay.hypotheses import OLDER_VERSIONS, Named, Suspect, name
from rollout_worker.replay.measure import (
    Findings,
    Replayer,
    ReplayModel,
    mismatches_of,
    only,
    stats_of,
)
from rollout_worker.verify.drift import DriftBook
from rollout_worker.verify.living import LivingReplayer
from rollout_worker.verify.verdicts import VerdictSigner

REPLAYED_TOGETHER = 16
"""Groups of one call to the model: enough to fill its passes, few enough to stop and look between."""
UNTRIED = (MarketError, PolicyUnreachable, ValueError, RuntimeError, MemoryError)
"""What keeps hypotheses from being tried, a device without room for a second model among them."""


@dataclass(frozen=True, slots=True)
class FetchedGroup:
    """One group to replay, as fetched and checked to be what the worker signed."""

    work_digest: bytes
    lease: Lease
    submission: Submission
    rollouts: tuple[int, ...]
    """Which of them to replay."""
    rewards: tuple[int, ...] = ()
    """Ten-thousandths, one per rollout of the group; empty where they are not known."""

    def advantages_micro(self) -> list[int] | None:
        """Return the replayed rollouts' rewards less the group's mean, in millionths."""
        if len(self.rewards) != len(self.submission.rollouts):
            return None
        mean = sum(self.rewards) / len(self.rewards)
        return [round((self.rewards[i] - mean) * MICRO / FULL_SCORE) for i in self.rollouts]


class Rechecker:
    """Replays one run's groups. `open_model` is called once, with the first weights needed."""

    def __init__(
        self,
        routes: PublicRoutes,
        info: RunInfo,
        store: PolicyCache,
        signer: VerdictSigner,
        *,
        spoke_for: SpokeFor,
        drifts: DriftBook,
        most_seconds: float,
        open_model: Callable[[Weights], Replayer],
        open_suspects: Callable[[Weights], ReplayModel],
        give_up: GiveUp,
    ) -> None:
        self._routes = routes
        self._info = info
        self._store = store
        self._signer = signer
        self._spoke_for = spoke_for
        self._drifts = drifts
        self._most_seconds = most_seconds
        self._give_up = give_up
        self._open_suspects = open_suspects
        self._model = LivingReplayer(open_model)
        self._suspects: ReplayModel | None = None
        """Holds whatever weights were tried last."""
        self._log = structlog.get_logger().bind(run=info.run_id)

    def verdicts(self, tasks: Sequence[AuditTask]) -> list[Verdict]:
        """Return one signed verdict per task, in no particular order; none on a condemned worker's others."""
        verdicts: list[Verdict] = []
        by_policy: dict[tuple[int, bytes], list[FetchedGroup]] = {}
        for task in tasks:
            try:
                evidence = self.fetch(task)
            except MarketError as error:
                verdicts.append(self._undecided(task.work_digest, str(error)))
                continue
            lease = evidence.lease
            by_policy.setdefault((lease.policy_version, lease.policy_digest), []).append(evidence)
        deadline = time.monotonic() + self._most_seconds
        condemned: set[str] = set()
        for (version, digest), group in sorted(by_policy.items()):
            verdicts += self._in_parts(
                version, digest, group, deadline=deadline, condemned=condemned
            )
        return verdicts

    def fetch(self, task: AuditTask) -> FetchedGroup:
        """Fetch a group; raise a `MarketError` unless it is what its worker signed."""
        data = self._routes.blob(
            task.body, max_bytes=MAX_SUBMISSION_BYTES, kind="submission", give_up=self._give_up
        )
        submission = read_submission(data, self._info.spec.most_submission_bytes)
        check_work(
            *(task.work_digest, task.lease, submission),
            info=self._info,
            domain=self._signer.domain,
            spoke_for=self._spoke_for,
        )
        size = len(submission.rollouts)
        if not task.rollouts or not set(task.rollouts) <= set(range(size)):
            raise Malformed(f"rollouts {list(task.rollouts)} are not some of the group's {size}")
        lease = task.lease.lease
        return FetchedGroup(task.work_digest, lease, submission, task.rollouts, task.rewards)

    def _in_parts(
        self,
        version: int,
        digest: bytes,
        group: Sequence[FetchedGroup],
        *,
        deadline: float,
        condemned: set[str],
    ) -> list[Verdict]:
        """Replay until all are, their worker is condemned, or the time is up; note who is condemned."""
        verdicts: list[Verdict] = []
        left = by_turns(group)
        while True:
            left = [item for item in left if item.lease.worker not in condemned]
            if not left:
                return verdicts
            if time.monotonic() > deadline:
                reason = f"not begun within {self._most_seconds:.0f} s: replay.most_seconds"
                return verdicts + [self._undecided(item.work_digest, reason) for item in left]
            part, left = left[:REPLAYED_TOGETHER], left[REPLAYED_TOGETHER:]
            workers = {item.work_digest: item.lease.worker for item in part}
            for verdict in self._replayed(version, digest, part):
                verdicts.append(verdict)
                if consequence(verdict, self._info.spec.thresholds) is Consequence.NAMED:
                    condemned.add(workers[verdict.work_digest])

    def _replayed(
        self, version: int, digest: bytes, group: Sequence[FetchedGroup]
    ) -> list[Verdict]:
        try:
            self._bring(version, digest)
        except (PolicyUnreachable, ValueError, RuntimeError, MemoryError) as error:
            return [self._undecided(item.work_digest, str(error)) for item in group]
        try:
            parts = [only(i.lease, i.submission.rollouts, i.rollouts) for i in group]
            found = self._model.findings(parts)
            return [self._judged(i, of_one) for i, of_one in zip(group, found, strict=True)]
        except (ValueError, RuntimeError, MemoryError) as error:  # torch raises RuntimeErrors
            if len(group) == 1:
                return [self._undecided(group[0].work_digest, f"the replay failed: {error}")]
            return [v for item in group for v in self._replayed(version, digest, [item])]

    def _bring(self, version: int, digest: bytes) -> None:
        policy = self._store.reach(version, digest, give_up=self._give_up)
        self._model.load(digest, policy.weights)

    def _judged(self, item: FetchedGroup, found: Sequence[Findings]) -> Verdict:
        stats = stats_of(found, item.advantages_micro())
        broken = judge(stats, self._info.spec.thresholds)
        if broken is None:
            alarm = self._drifts.fold(
                item.lease.worker, item.work_digest, stats, self._info.spec.thresholds
            )
            return self._signer.verdict(
                item.work_digest,
                Outcome.ACCEPTED,
                detail=alarm.detail if alarm else "",
                rollouts=item.rollouts,
                stats=stats,
                drifts=alarm is not None,
            )
        rejection, detail = broken
        named = self._named(item, stats)
        detail = f"{named.detail}: {detail}" if named else detail
        self._log.warning("work condemned", worker=item.lease.worker, detail=detail)
        explained = {"hypothesis": named.word, "explained": named.explained} if named else {}
        return self._signer.verdict(
            item.work_digest,
            Outcome.REJECTED,
            rejection=rejection.value,
            detail=detail[:1024],
            rollouts=item.rollouts,
            stats=stats,
            mismatches=mismatches_of(found, item.rollouts),
            **explained,
        )

    def _named(self, item: FetchedGroup, stats: ReplayStats) -> Named | None:
        """Return what explains a rejected group; None also where nothing could be tried."""
        version, digest, store = item.lease.policy_version, item.lease.policy_digest, self._store
        older = partial(store.older, version, most=OLDER_VERSIONS, give_up=self._give_up)
        try:
            weights = store.reach(version, digest, give_up=self._give_up).weights
            if self._suspects is None:
                self._suspects = self._open_suspects(weights)
            suspect = Suspect(item.lease, item.submission.rollouts, item.rollouts, weights, stats)
            return name(suspect, self._suspects, older, self._info.spec.thresholds)
        except UNTRIED as error:
            self._log.warning("no hypothesis could be tried", reason=str(error))
            return None

    def _undecided(self, work_digest: bytes, reason: str) -> Verdict:
        self._log.warning("replay undecided", reason=reason)
        return self._signer.verdict(work_digest, Outcome.UNDECIDED, detail=reason[:1024])


def by_turns(group: Sequence[FetchedGroup]) -> list[FetchedGroup]:
    """Order work so that each worker's n-th group comes before anyone's next; a worker's by nonce.

    Sequential tests then see a worker's groups in the order in which it was leased them, and a cheat
    is met early.
    """
    place: dict[bytes, tuple[int, str]] = {}
    counts: dict[str, int] = {}
    for item in sorted(group, key=lambda item: item.lease.nonce):
        worker = item.lease.worker
        counts[worker] = counts.get(worker, 0) + 1
        place[item.work_digest] = (counts[worker], worker)
    return sorted(group, key=lambda item: place[item.work_digest])
