"""A verifier's replays over real blobs and a real model: sequential tests, restarts, things that fail."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import zstandard

from client.connection import Connection
from client.policies import PolicyCache
from client.public import PublicRoutes
from protocol.canonical import content_digest
from protocol.checks.evidence import Consequence, Hypothesis, consequence
from protocol.checks.sequential import OUTLIERS
from protocol.messages import AuditTask
from protocol.policies.manifest import Weights, entries, policy_digest
from protocol.policies.patch import anchor_bytes, split
from protocol.rollout import Lease, Rollout, SignedLease, Submission, lease_id, work_of
from protocol.run import RunSpec
from protocol.signing import Domain, address_of, sign
from protocol.verdict import Outcome, Seal, Statistic, Verdict
from rollout_worker.engines.rounded import rounded
from rollout_worker.replay.measure import Findings, ReplayModel
from rollout_worker.verify.drift import DriftBook
from rollout_worker.verify.recheck import FetchedGroup, Rechecker, by_turns
from rollout_worker.verify.verdicts import VerdictSigner
from tests.stage.ground import Ground
from tests.stage.in_process import InProcess
from tests.stage.place import HOST, Place, opened
from tests.stage.sampling_lab import MODEL, Lab, exact
from tests.stage.terms import digest_of, run_info

VERIFIER = bytes([9]) * 32
ALICE, BOB = bytes([11]) * 32, bytes([12]) * 32
NEVER = 600.0
WHOLE = tuple(range(8))


@cache
def suspects() -> ReplayModel:
    """What hypotheses are tried on, opened once per process."""
    return ReplayModel(MODEL)


@dataclass
class Desk:
    """A run whose policy is the starting model, and audits of groups that were made for it."""

    bench: Lab
    place: Place
    routes: PublicRoutes
    folder: Path
    nonces: Iterator[int]

    @property
    def domain(self) -> Domain:
        return self.place.services.chain.domain

    def publish(self, version: int) -> None:
        """Publish the starting model as a version."""
        tensors = entries(self.bench.policy)
        anchor = tuple(self.place.upload(part) for part in split(anchor_bytes(self.bench.policy)))
        answer = self.place.publish(
            version, tensors=tensors, policy_digest=policy_digest(tensors), anchor=anchor
        )
        assert answer.status_code == 204, answer.text

    def leases(self, worker: bytes, count: int) -> list[Lease]:
        run_id, digest = self.place.run_id, self.place.spec.model_digest
        changed = []
        for lease in self.bench.leases(count):
            nonce = next(self.nonces)
            changed.append(
                lease.model_copy(
                    update={
                        "lease_id": lease_id(run_id, address_of(worker), nonce),
                        "run_id": run_id,
                        "environment": self.place.spec.environment,
                        "rate": self.place.spec.rate,
                        "worker": address_of(worker),
                        "nonce": nonce,
                        "policy_digest": digest,
                    }
                )
            )
        return changed

    def tasks(
        self,
        worker: bytes,
        leases: Sequence[Lease],
        groups: Sequence[Sequence[Rollout]],
        *,
        drawn: tuple[int, ...] = WHOLE,
        are_stored: bool = True,
    ) -> list[AuditTask]:
        """Sign groups as their worker and the orchestrator would, and store their bodies."""
        return [
            self._task(worker, lease, tuple(group), drawn, are_stored)
            for lease, group in zip(leases, groups, strict=True)
        ]

    def _task(
        self,
        worker: bytes,
        lease: Lease,
        group: tuple[Rollout, ...],
        drawn: tuple[int, ...],
        is_stored: bool,
    ) -> AuditTask:
        unsigned = Submission(
            lease_id=lease.lease_id,
            engine="transformers-cpu",
            prompt=lease.prompt,
            rollouts=group,
            submitted_at=0,
            signature=bytes(65),
        )
        gflops = self.place.spec.gflops(unsigned.num_tokens())
        work = self.domain.digest(work_of(lease, unsigned, gflops=gflops))
        submission = unsigned.model_copy(update={"signature": sign(worker, work)})
        body = zstandard.compress(submission.canonical())
        if is_stored:
            self.place.upload(body)
        return AuditTask(
            work_digest=work,
            lease=self.signed(lease),
            body=content_digest(body),
            rollouts=drawn,
        )

    def signed(self, lease: Lease) -> SignedLease:
        """Sign a lease as the orchestrator, which may sign two with one id."""
        signature = sign(self.place.services.key, self.domain.digest(lease))
        return SignedLease(lease=lease, signature=signature)

    def rechecker(
        self,
        *,
        spec: RunSpec | None = None,
        model: object = None,
        most_seconds: float = NEVER,
        suspects: Callable[[Weights], ReplayModel] = lambda _: suspects(),
    ) -> Rechecker:
        """Open the verifier's program again, on the files that an earlier one left."""
        info = run_info(
            spec or self.place.spec,
            run_id=self.place.run_id,
            chain_id=self.domain.chain_id,
            ledger=self.domain.ledger,
        )

        def open_model(_: Weights) -> ReplayModel:
            if isinstance(model, BaseException):
                raise model
            return model or self.bench.model  # type: ignore[return-value]

        signer = VerdictSigner(
            *(info.run_id, address_of(VERIFIER), VERIFIER, self.domain),
            now=self.routes.clock.now,
        )
        return Rechecker(
            self.routes,
            info,
            PolicyCache(
                self.routes, run_id=info.run_id, spec=info.spec, domain=self.domain, keep=2
            ),
            signer,
            spoke_for=lambda signer, worker, _: signer == worker,
            drifts=DriftBook(self.folder / "drift.jsonl"),
            most_seconds=most_seconds,
            open_model=open_model,
            open_suspects=suspects,
            give_up=lambda: False,
        )


@pytest.fixture
def desk(ground: Ground, redis_url: str, tmp_path: Path) -> Iterator[Desk]:
    bench = exact()
    with opened(
        *(ground, redis_url, tmp_path / "blobs"),
        is_published=False,
        model_digest=digest_of(bench.policy),
        group_size=8,
        max_tokens=64,
        thresholds=bench.thresholds,
    ) as place:
        transport = InProcess(place.client)
        routes = PublicRoutes(Connection(f"http://{HOST}", transport=transport))
        desk = Desk(bench, place, routes, tmp_path, itertools.count(1))
        desk.publish(0)
        yield desk


def int8(desk: Desk, worker: bytes, count: int) -> list[AuditTask]:
    """Sample with eight-bit weights: the faintest cheat that pays."""
    leases = desk.leases(worker, count)
    desk.bench.engine.load(rounded(desk.bench.policy, bits=8))
    return desk.tasks(worker, leases, desk.bench.sample(leases))


def honest(desk: Desk, worker: bytes, count: int) -> list[AuditTask]:
    desk.bench.engine.load(desk.bench.policy)
    leases = desk.leases(worker, count)
    return desk.tasks(worker, leases, desk.bench.sample(leases))


def with_bounds(spec: RunSpec, **limits: int) -> RunSpec:
    """Return the run with limits that no group, or no sum over groups, reaches."""
    wide = {
        statistic.value: spec.thresholds.bounds(statistic).model_copy(update=limits)
        for statistic in Statistic
    }
    return spec.model_copy(update={"thresholds": spec.thresholds.model_copy(update=wide)})


FAR = 1 << 60


def blind(spec: RunSpec) -> RunSpec:
    """Switch the bounds of one group off, as in a dtype too coarse for them: sums are left."""
    return with_bounds(spec, group=FAR)


def outcomes(verdicts: Sequence[Verdict]) -> list[str]:
    return [verdict.rejection or verdict.outcome.value for verdict in verdicts]


def alarms(verdicts: Sequence[Verdict]) -> list[int]:
    """Return the places of the groups at which their worker's test alarmed."""
    return [i for i, verdict in enumerate(verdicts) if verdict.drifts]


EVERY_FOURTH = [OUTLIERS, 2 * OUTLIERS + 1, 3 * OUTLIERS + 2]
"""Where a test alarms whose every group is an outlier: three are not enough, and after an alarm it begins
anew."""


def test_groups_that_pass_alone_alarm_together_and_stay_paid(desk: Desk) -> None:
    tasks, spec = int8(desk, ALICE, 12), desk.place.spec
    off = desk.rechecker(spec=with_bounds(spec, group=FAR, drift=FAR)).verdicts(tasks)
    assert outcomes(off) == ["accepted"] * 12  # the attack, with both tests off
    assert alarms(off) == []
    (desk.folder / "drift.jsonl").unlink()
    found = desk.rechecker(spec=blind(spec)).verdicts(tasks)
    assert outcomes(found) == ["accepted"] * 12
    assert alarms(found) == EVERY_FOURTH
    assert {consequence(v, blind(spec).thresholds) for v in found} == {Consequence.NONE}


def test_an_alarm_names_the_statistic_the_groups_and_the_bound(desk: Desk) -> None:
    verdicts = desk.rechecker(spec=blind(desk.place.spec)).verdicts(int8(desk, ALICE, 12))
    alarming = next(v for v in verdicts if v.drifts)
    assert alarming.outcome is Outcome.ACCEPTED
    assert "over the last 4 groups replayed" in alarming.detail
    assert "honest work in float32 stays at or below" in alarming.detail
    assert [v.detail for v in verdicts if not v.drifts] == [""] * 9


def test_a_cheat_is_named_and_honest_work_beside_it_passes(desk: Desk) -> None:
    cheating, working = int8(desk, ALICE, 20), honest(desk, BOB, 20)
    verdicts = desk.rechecker().verdicts([*cheating, *working])
    found = {v.work_digest: v for v in verdicts}
    good = [found[task.work_digest] for task in working]
    assert {(v.outcome, v.drifts, v.hypothesis) for v in good} == {(Outcome.ACCEPTED, False, "")}
    replayed = [found[t.work_digest] for t in cheating if t.work_digest in found]
    assert {(v.outcome, v.hypothesis) for v in replayed} == {(Outcome.REJECTED, Hypothesis.INT8)}
    assert all("weights rounded to int8: " in v.detail for v in replayed)
    thresholds = desk.place.spec.thresholds
    assert {consequence(v, thresholds) for v in replayed} == {Consequence.NAMED}
    unreplayed = len(cheating) - len(replayed)  # what was in hand beyond the first sixteen groups
    assert unreplayed > 0, (
        "nothing is said on them: undecided is said in the clear, and would tell the vote"
    )


def test_a_worker_condemned_under_one_policy_is_left_under_the_next(desk: Desk) -> None:
    desk.publish(1)
    newer = [
        lease.model_copy(update={"policy_version": 1})
        for worker in (ALICE, BOB)
        for lease in desk.leases(worker, 1)
    ]
    desk.bench.engine.load(desk.bench.policy)
    later = [
        task
        for worker, lease in zip((ALICE, BOB), newer, strict=True)
        for task in desk.tasks(worker, [lease], desk.bench.sample([lease]))
    ]
    found = {v.work_digest: v for v in desk.rechecker().verdicts([*later, *int8(desk, ALICE, 2)])}
    assert later[0].work_digest not in found
    assert found[later[1].work_digest].outcome is Outcome.ACCEPTED


def test_only_the_drawn_rollouts_are_replayed_and_judged(desk: Desk) -> None:
    """A cheat in one rollout is seen where that one is drawn: its verdict covers what it judged."""
    leases = desk.leases(ALICE, 1)
    desk.bench.engine.load(desk.bench.policy)
    [group] = desk.bench.sample(leases)
    desk.bench.engine.load(rounded(desk.bench.policy, bits=8))
    [cheap] = desk.bench.sample(leases)
    mixed = (*group[:6], cheap[6], group[7])
    for drawn, outcome in (((0, 3), Outcome.ACCEPTED), ((3, 6), Outcome.REJECTED)):
        [verdict] = desk.rechecker().verdicts(desk.tasks(ALICE, leases, [mixed], drawn=drawn))
        assert (verdict.outcome, verdict.rollouts) == (outcome, drawn)
        assert verdict.stats.num_tokens == sum(len(mixed[i].token_ids()) for i in drawn)
        assert {m.rollout for m in verdict.mismatches} <= set(drawn)
        (desk.folder / "drift.jsonl").unlink(missing_ok=True)
    for nonsense in ((), (8,), (0, 99)):
        [verdict] = desk.rechecker().verdicts(desk.tasks(ALICE, leases, [mixed], drawn=nonsense))
        assert verdict.outcome is Outcome.UNDECIDED
        assert "are not some of the group's 8" in verdict.detail


def test_a_restarted_verifier_goes_on_with_its_tests_and_counts_a_group_once(desk: Desk) -> None:
    tasks, spec = int8(desk, ALICE, 11), blind(desk.place.spec)
    whole = desk.rechecker(spec=spec).verdicts(tasks)
    assert alarms(whole) == EVERY_FOURTH[:2]
    (desk.folder / "drift.jsonl").unlink()
    parts = [
        desk.rechecker(spec=spec).verdicts(tasks[:2]),
        desk.rechecker(spec=spec).verdicts(tasks[2:]),
    ]
    assert alarms([*parts[0], *parts[1]]) == alarms(whole)
    with (desk.folder / "drift.jsonl").open("ab") as file:
        file.write(b'{"worker": "0x')  # what a crash cut short
    before = DriftBook(desk.folder / "drift.jsonl").state(address_of(ALICE))
    assert before.gap.num_groups == 3  # since the second alarm
    again = desk.rechecker(spec=spec).verdicts(tasks[:4])
    assert DriftBook(desk.folder / "drift.jsonl").state(address_of(ALICE)) == before
    assert alarms(again) == EVERY_FOURTH[:1], "its verdict may be what the crash lost"


def test_a_seal_promises_one_verdict_and_two_verdicts_of_one_group_have_two(desk: Desk) -> None:
    """By its salt: who guessed the figures of a replay could else read the vote in its seal."""
    rechecker, tasks = desk.rechecker(), int8(desk, ALICE, 1)
    [found], [again] = rechecker.verdicts(tasks), rechecker.verdicts(tasks)
    assert Seal.of(found).evidence_digest == found.evidence_digest() != again.evidence_digest()
    unsalted = {"salt": bytes(32), "decided_at": 0, "signature": bytes(65)}
    assert again.model_copy(update=unsalted) == found.model_copy(update=unsalted)


class Failing:
    """A replay that fails as a full machine fails: the fault is injected where memory is asked for."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def load(self, _: Weights) -> None:
        pass

    def findings(self, _: object) -> list[list[Findings]]:
        raise self.error


@pytest.mark.parametrize(
    "error", [MemoryError("no room for 8 GiB"), RuntimeError("CUDA out of memory")]
)
def test_a_replay_without_memory_is_undecided(desk: Desk, error: Exception) -> None:
    tasks = honest(desk, BOB, 2)
    for model in (Failing(error), error):
        verdicts = desk.rechecker(model=model).verdicts(tasks)
        assert [v.outcome for v in verdicts] == [Outcome.UNDECIDED] * 2
        assert all("memory" in v.detail or "no room" in v.detail for v in verdicts)
        assert all(v.rejection == "" for v in verdicts)


def test_a_cheat_is_rejected_where_no_second_model_can_be_opened_to_name_it(desk: Desk) -> None:
    def open_suspects(_: Weights) -> ReplayModel:
        raise RuntimeError("CUDA out of memory")

    verdicts = desk.rechecker(suspects=open_suspects).verdicts(int8(desk, ALICE, 2))
    assert {(v.outcome, v.hypothesis) for v in verdicts} == {(Outcome.REJECTED, "")}
    thresholds = desk.place.spec.thresholds
    assert {consequence(v, thresholds) for v in verdicts} == {Consequence.UNPAID}


def test_what_is_not_begun_in_time_is_undecided(desk: Desk) -> None:
    tasks = honest(desk, BOB, 2)
    late = desk.rechecker(most_seconds=-1.0).verdicts(tasks)
    assert [v.outcome for v in late] == [Outcome.UNDECIDED] * 2
    assert all("replay.most_seconds" in v.detail for v in late)
    assert outcomes(desk.rechecker().verdicts(tasks)) == ["accepted"] * 2


def test_an_unknown_policy_and_a_missing_body_are_undecided(desk: Desk) -> None:
    [task] = honest(desk, BOB, 1)
    lost = desk.leases(BOB, 1)
    [gone] = desk.tasks(BOB, lost, desk.bench.sample(lost), are_stored=False)
    lease = desk.leases(BOB, 1)[0].model_copy(update={"policy_version": 7})
    [unknown] = desk.tasks(BOB, [lease], desk.bench.sample([lease]))
    verdicts = {v.work_digest: v for v in desk.rechecker().verdicts([task, unknown, gone])}
    assert verdicts[task.work_digest].outcome is Outcome.ACCEPTED
    assert verdicts[unknown.work_digest].outcome is Outcome.UNDECIDED
    assert verdicts[gone.work_digest].outcome is Outcome.UNDECIDED


def test_work_under_other_terms_than_the_runs_is_not_replayed(desk: Desk) -> None:
    """Signed by orchestrator and worker: honest by its lease, and no answer to the run's tasks."""
    spec, [lease] = desk.place.spec, desk.leases(ALICE, 1)
    desk.bench.engine.load(desk.bench.policy)
    for changes, said in (
        ({"temperature_millionths": 1}, "the lease's temperature"),
        ({"rate": spec.rate + 1}, "the lease's rate"),
        ({"lease_id": bytes(32)}, "the lease's lease id"),
    ):
        other = lease.model_copy(update=changes)
        [verdict] = desk.rechecker().verdicts(
            desk.tasks(ALICE, [other], desk.bench.sample([other]))
        )
        assert verdict.outcome is Outcome.UNDECIDED
        assert said in verdict.detail


def test_workers_take_turns_and_keep_their_own_order(desk: Desk) -> None:
    def evidence(worker: bytes, nonce: int) -> FetchedGroup:
        lease = desk.leases(worker, 1)[0].model_copy(update={"nonce": nonce})
        return FetchedGroup(bytes([nonce]) * 32, lease, None, WHOLE)  # type: ignore[arg-type]

    mixed = [evidence(ALICE, 3), evidence(ALICE, 1), evidence(ALICE, 2), evidence(BOB, 9)]
    ordered = [(item.lease.worker, item.lease.nonce) for item in by_turns(mixed)]
    assert [n for worker, n in ordered if worker == address_of(ALICE)] == [1, 2, 3]
    assert address_of(BOB) in {worker for worker, _ in ordered[:2]}
