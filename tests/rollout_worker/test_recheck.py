"""A verifier's replays over real blobs and a real model: sequential tests, restarts, things that fail."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard

from protocol.canonical import content_digest
from protocol.messages import AuditTask, RunInfo, RunStatus
from protocol.policy import Weights
from protocol.rollout import Lease, Rollout, SignedLease, Submission, lease_id, work_of
from protocol.run import RunSpec
from protocol.sequential import OUTLIERS
from protocol.signing import address_of, sign
from protocol.verdict import Outcome, Rejection, Verdict, judge
from rollout_worker.client import Market
from rollout_worker.drift import DriftBook
from rollout_worker.engines.rounded import rounded
from rollout_worker.recheck import Evidence, Rechecker, by_turns
from rollout_worker.replay import Findings, ReplayModel
from rollout_worker.weights import PolicyStore
from tests.adversarial.sampling_lab import EOS, Lab, exact
from tests.rollout_worker.policies import (
    DOMAIN,
    ORCHESTRATOR,
    RUN,
    Shelf,
    serving,
    spec_for,
)
from tests.rollout_worker.test_client import market_at

VERIFIER = bytes([9]) * 32
ALICE, BOB = bytes([11]) * 32, bytes([12]) * 32
NEVER = 600.0


@dataclass
class Desk:
    """A run whose policy is the starting model, and audits of groups that were made for it."""

    bench: Lab
    shelf: Shelf
    market: Market
    folder: Path
    nonces: Iterator[int]

    def leases(self, worker: bytes, count: int) -> list[Lease]:
        digest = self.shelf.manifests[0].manifest.policy_digest
        changed = []
        for lease in self.bench.leases(count):
            nonce = next(self.nonces)
            changed.append(
                lease.model_copy(
                    update={
                        "lease_id": lease_id(RUN, address_of(worker), nonce),
                        "run_id": RUN,
                        "worker": address_of(worker),
                        "nonce": nonce,
                        "policy_digest": digest,
                    }
                )
            )
        return changed

    def tasks(
        self, worker: bytes, leases: Sequence[Lease], groups: Sequence[Sequence[Rollout]]
    ) -> list[AuditTask]:
        """Sign and shelve groups as their worker and the orchestrator would."""
        return [
            self._task(worker, lease, tuple(group))
            for lease, group in zip(leases, groups, strict=True)
        ]

    def _task(self, worker: bytes, lease: Lease, group: tuple[Rollout, ...]) -> AuditTask:
        unsigned = Submission(
            lease_id=lease.lease_id,
            engine="transformers-cpu",
            prompt=lease.prompt,
            rollouts=group,
            submitted_at=0,
            signature=bytes(65),
        )
        gflops = self.shelf.spec.gflops(unsigned.num_tokens())
        work = DOMAIN.digest(work_of(lease, unsigned, gflops=gflops))
        submission = unsigned.model_copy(update={"signature": sign(worker, work)})
        body = zstandard.compress(submission.canonical())
        self.shelf.blobs[content_digest(body)] = body
        signed = SignedLease(lease=lease, signature=sign(ORCHESTRATOR, DOMAIN.digest(lease)))
        return AuditTask(
            audit_id=work,
            work_digest=work,
            lease=signed,
            body=content_digest(body),
        )

    def rechecker(
        self,
        *,
        spec: RunSpec | None = None,
        model: object = None,
        most_seconds: float = NEVER,
    ) -> Rechecker:
        """Open the verifier's program again, on the files that an earlier one left."""
        info = RunInfo(
            run_id=RUN,
            spec=spec or self.shelf.spec,
            chain_id=DOMAIN.chain_id,
            ledger=DOMAIN.ledger,
            token=address_of(bytes([5]) * 32),
            status=RunStatus.OPEN,
            newest_version=0,
            epoch=0,
            budget_left_units=1,
            min_stake="0",
        )

        def open_model(_: Weights) -> ReplayModel:
            if isinstance(model, BaseException):
                raise model
            return model or self.bench.model  # type: ignore[return-value]

        return Rechecker(
            self.market,
            info,
            PolicyStore(self.market, run_id=RUN, spec=info.spec, domain=DOMAIN, keep=2),
            verifier=address_of(VERIFIER),
            key=VERIFIER,
            domain=DOMAIN,
            spoke_for=lambda signer, worker, _: signer == worker,
            drifts=DriftBook(self.folder / "drift.jsonl"),
            most_seconds=most_seconds,
            open_model=open_model,
            give_up=lambda: False,
        )


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    bench = exact()
    spec = spec_for(
        bench.policy,
        vocabulary_size=128,
        eos_token_id=EOS,
        group_size=8,
        max_prompt_tokens=64,
        max_tokens=64,
        compute_dtype=bench.thresholds.compute_dtype,
        thresholds=bench.thresholds,
    )
    shelf = Shelf(spec, chunk_bytes=1 << 20)
    shelf.publish(0, bench.policy)
    with ExitStack() as stack:
        server = stack.enter_context(serving(shelf))
        market = stack.enter_context(market_at(server.url, tmp_path))
        yield Desk(bench, shelf, market, tmp_path, itertools.count(1))


def faint(desk: Desk, worker: bytes, count: int) -> list[AuditTask]:
    """Sample with eight-bit weights, and keep groups that no bound on one group finds."""
    leases = desk.leases(worker, 2 * count + 16)
    desk.bench.engine.load(rounded(desk.bench.policy, bits=8))
    groups = desk.bench.sample(leases)
    measured = desk.bench.measured(leases, groups)
    passed = [
        i for i, stats in enumerate(measured) if judge(stats, desk.shelf.spec.thresholds) is None
    ]
    assert len(passed) >= count
    return desk.tasks(
        worker, [leases[i] for i in passed[:count]], [groups[i] for i in passed[:count]]
    )


def honest(desk: Desk, worker: bytes, count: int) -> list[AuditTask]:
    desk.bench.engine.load(desk.bench.policy)
    leases = desk.leases(worker, count)
    return desk.tasks(worker, leases, desk.bench.sample(leases))


def without_drift(spec: RunSpec) -> RunSpec:
    """Switch the sequential test off: bounds that no sum reaches."""
    bounds = spec.thresholds
    far = bounds.gap.drift.model_copy(update={"high": 1 << 60})
    off = {
        name: getattr(bounds, name).model_copy(update={"drift": far})
        for name in ("mismatches", "margin", "gap")
    }
    return spec.model_copy(update={"thresholds": bounds.model_copy(update=off)})


def outcomes(verdicts: Sequence[Verdict]) -> list[str]:
    return [verdict.rejection or verdict.outcome.value for verdict in verdicts]


def test_groups_that_pass_alone_condemn_their_worker_together(desk: Desk) -> None:
    tasks = faint(desk, ALICE, 12)
    off = desk.rechecker(spec=without_drift(desk.shelf.spec)).verdicts(tasks)
    assert outcomes(off) == ["accepted"] * 12  # the attack, with the sequential test off
    (desk.folder / "drift.jsonl").unlink()
    found = outcomes(desk.rechecker().verdicts(tasks))
    first = found.index("replay_drift")
    assert first >= OUTLIERS
    assert found[:first] == ["accepted"] * first
    assert set(found[first:]) == {"replay_drift"}


def test_a_drifting_verdict_names_the_statistic_the_groups_and_the_bound(desk: Desk) -> None:
    verdicts = desk.rechecker().verdicts(faint(desk, ALICE, 12))
    condemning = next(v for v in verdicts if v.rejection == Rejection.REPLAY_DRIFT)
    assert condemning.outcome is Outcome.REJECTED
    assert "nats of log-probability gap" in condemning.detail
    assert "groups replayed" in condemning.detail
    assert "stays at or below" in condemning.detail


def test_honest_work_never_drifts_beside_a_cheat_in_the_same_batch(desk: Desk) -> None:
    cheating, working = faint(desk, ALICE, 20), honest(desk, BOB, 20)
    verdicts = desk.rechecker().verdicts([*cheating, *working])
    found = {v.work_digest: v for v in verdicts}
    assert {found[task.work_digest].outcome for task in working} == {Outcome.ACCEPTED}
    left = [found[task.work_digest] for task in cheating]
    assert Rejection.REPLAY_DRIFT in {v.rejection for v in left}
    unreplayed = [v for v in left if v.outcome is Outcome.UNDECIDED]
    assert unreplayed  # what was in hand beyond the first sixteen groups
    assert all("condemns its worker" in v.detail for v in unreplayed)
    assert all(v.stats.num_tokens == 0 for v in unreplayed)


def test_a_worker_condemned_under_one_policy_is_left_under_the_next(desk: Desk) -> None:
    desk.shelf.publish(1, desk.bench.policy, anchor=True)
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
    found = {v.work_digest: v for v in desk.rechecker().verdicts([*later, *faint(desk, ALICE, 12)])}
    assert "condemns its worker" in found[later[0].work_digest].detail
    assert found[later[1].work_digest].outcome is Outcome.ACCEPTED


def test_a_restarted_verifier_goes_on_with_its_tests_and_counts_a_group_once(desk: Desk) -> None:
    tasks = faint(desk, ALICE, 12)
    whole = desk.rechecker().verdicts(tasks)
    (desk.folder / "drift.jsonl").unlink()
    parts = [desk.rechecker().verdicts(tasks[:2]), desk.rechecker().verdicts(tasks[2:])]
    assert outcomes([*parts[0], *parts[1]]) == outcomes(whole)
    with (desk.folder / "drift.jsonl").open("ab") as file:
        file.write(b'{"worker": "0x')  # what a crash cut short
    book = DriftBook(desk.folder / "drift.jsonl")
    before = book.state(address_of(ALICE))
    assert before.num_groups == 12
    again = desk.rechecker().verdicts(tasks[:2])
    assert DriftBook(desk.folder / "drift.jsonl").state(address_of(ALICE)) == before
    assert outcomes(again) == ["replay_drift"] * 2  # its worker's test stands above the bound


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


def test_what_is_not_begun_in_time_is_undecided(desk: Desk) -> None:
    tasks = honest(desk, BOB, 2)
    late = desk.rechecker(most_seconds=-1.0).verdicts(tasks)
    assert [v.outcome for v in late] == [Outcome.UNDECIDED] * 2
    assert all("replay.most_seconds" in v.detail for v in late)
    assert outcomes(desk.rechecker().verdicts(tasks)) == ["accepted"] * 2


def test_an_unknown_policy_and_a_missing_body_are_undecided(desk: Desk) -> None:
    [task, gone] = honest(desk, BOB, 2)
    lease = desk.leases(BOB, 1)[0].model_copy(update={"policy_version": 7})
    [unknown] = desk.tasks(BOB, [lease], desk.bench.sample([lease]))
    del desk.shelf.blobs[gone.body]
    verdicts = {v.work_digest: v for v in desk.rechecker().verdicts([task, unknown, gone])}
    assert verdicts[task.work_digest].outcome is Outcome.ACCEPTED
    assert verdicts[unknown.work_digest].outcome is Outcome.UNDECIDED
    assert verdicts[gone.work_digest].outcome is Outcome.UNDECIDED


def test_workers_take_turns_and_keep_their_own_order(desk: Desk) -> None:
    def evidence(worker: bytes, nonce: int) -> Evidence:
        lease = desk.leases(worker, 1)[0].model_copy(update={"nonce": nonce})
        return Evidence(bytes([nonce]) * 32, lease, None)  # type: ignore[arg-type]

    mixed = [evidence(ALICE, 3), evidence(ALICE, 1), evidence(ALICE, 2), evidence(BOB, 9)]
    ordered = [(item.lease.worker, item.lease.nonce) for item in by_turns(mixed)]
    assert [n for worker, n in ordered if worker == address_of(ALICE)] == [1, 2, 3]
    assert address_of(BOB) in {worker for worker, _ in ordered[:2]}
