"""Engine classes on trial: measured and not paid, then admitted or refused, by a quorum each time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import baselines
from protocol.baseline import (
    Baseline,
    EndorsedBaseline,
    Endorsement,
    Evidence,
    Trial,
    TrialPolicy,
    Trials,
    check_evidence,
    trial_detail,
)
from protocol.messages import AuditRequest, AuditTask, AuditTasks, GroupState, Leases
from protocol.rollout import Receipt
from protocol.verdict import Outcome, ReplayStats
from tests.bounds import thresholds
from tests.orchestrator.ground import Ground
from tests.orchestrator.place import Party, Place, opened

NEW = "mlx-metal-bfloat16"
NUM_GROUPS = 100
POLICY = TrialPolicy(num_groups=NUM_GROUPS, num_workers=2, max_classes=2)
ROOM: dict[str, Any] = {"max_worker_leases": 2 * NUM_GROUPS, "groups_per_batch": 1_000}
MEASURED = ReplayStats(
    num_tokens=10,
    num_matched=10,
    mean_margin_micronats=0,
    max_margin_micronats=0,
    mean_logprob_gap_micronats=5,
    p99_logprob_gap_micronats=5,
)


@pytest.fixture(scope="module")
def trial_place(
    ground: Ground, redis_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """A run that takes classes on trial, measured by two of three verifiers."""
    with opened(
        ground,
        redis_server + "?db=2",
        Path(tmp_path_factory.mktemp("trials")),
        num_verifiers=3,
        threshold=2,
        trial=POLICY,
        **ROOM,
    ) as place:
        yield place


def code(response: Any) -> str:
    return str(response.json()["code"])


def sell(worker: Party, count: int, engine_class: str = NEW) -> list[Receipt]:
    """Lease for a class and send every group; fewer where the trial is full."""
    response = worker.lease(count, engine_class)
    if response.status_code == 204:
        return []
    assert response.status_code == 200, response.text
    receipts = []
    for signed in Leases.from_json(response.content).leases:
        made = worker.submission(signed.lease, engine_class=engine_class)
        answer = worker.submit(made)
        assert answer.status_code == 200, answer.text
        receipts.append(Receipt.from_json(answer.content))
    return receipts


def take(verifier: Party, count: int = 256) -> tuple[AuditTask, ...]:
    path = verifier.place.path("trials")
    response = verifier.post(path, AuditRequest(count=count).to_json())
    if response.status_code == 204:
        return ()
    assert response.status_code == 200, response.text
    return AuditTasks.from_json(response.content).tasks


def measure(
    by: Party, task: AuditTask, outcome: Outcome = Outcome.UNDECIDED, **changes: Any
) -> Any:
    """Send a measuring verdict; `changes` are fields set before signing."""
    detail = trial_detail(task.engine_class, task.lease.lease.worker)
    num_tokens = int(by.place.known(f"group:{task.work_digest.hex()}", "tokens") or 0)
    stats = MEASURED.model_copy(update={"num_tokens": num_tokens, "num_matched": num_tokens})
    fields = {"detail": detail, "stats": stats, "rejection": ""} | changes
    verdict = by.verdict(task.work_digest, outcome, **fields)
    path = by.place.path(f"trials/0x{task.work_digest.hex()}")
    return by.post(path, verdict.to_json())


def trials(place: Place) -> Trials:
    return Trials.from_json(place.get(place.path("trials")).content)


def trial_of(place: Place, worker: str, engine_class: str = NEW) -> Trial:
    address = place.ground.address(worker)
    return next(
        t for t in trials(place).trials if (t.worker, t.engine_class) == (address, engine_class)
    )


def endorse(verifier: Party, trial: Trial, **changes: Any) -> Any:
    """Sign the baseline of a trial; `changes` are fields of `Baseline`."""
    fields = {
        "run_id": verifier.place.run_id,
        "worker": trial.worker,
        "evidence": trial.evidence,
        "thresholds": thresholds(trial.engine_class),
        "refusal": "",
    }
    baseline = Baseline.model_validate(fields | changes)
    digest = verifier.place.market.chain.domain.digest(baseline)
    endorsement = Endorsement(verifier=verifier.address, signature=verifier.sign(digest))
    body = EndorsedBaseline(baseline=baseline, endorsement=endorsement)
    return verifier.post(verifier.place.path("baselines"), body.to_json())


def finish_trial(place: Place, worker: str, *, refusal: str = "") -> Trial:
    """Send what a baseline takes, have two verifiers measure it, and both sign."""
    sell(place.party(worker), NUM_GROUPS)
    for name in ("v0", "v1"):
        for task in take(place.party(name)):
            assert measure(place.party(name), task).status_code == 204
    trial = trial_of(place, worker)
    for name in ("v0", "v1"):
        assert endorse(place.party(name), trial, refusal=refusal).status_code == 204
    return trial_of(place, worker)


def test_a_run_without_trials_refuses_other_classes_and_names_its_own(place: Place) -> None:
    response = place.party("alice").lease(1, NEW)
    assert code(response) == "refused"
    assert "transformers-cpu-bfloat16" in response.json()["message"]


def test_a_class_is_measured_unpaid_by_a_quorum_and_then_earns(trial_place: Place) -> None:
    place, alice = trial_place, trial_place.party("alice")
    [receipt] = sell(alice, 1)
    assert receipt.rejection == "on_trial"
    assert "measured" in receipt.detail
    assert place.status(receipt.work_digest).state is GroupState.REJECTED
    assert not place.party("v0").audits(), "and no verifier is asked to judge it"

    [task] = take(place.party("v0"))
    assert measure(place.party("v0"), task).status_code == 204
    assert measure(place.party("v0"), task).status_code == 204, "a repetition is harmless"
    assert not take(place.party("v0")), "nobody measures a group twice"
    assert trial_of(place, "alice").num_measured == 0, "one verifier of three is no quorum"
    assert measure(place.party("v1"), task).status_code == 204
    assert trial_of(place, "alice").num_measured == 1

    first = finish_trial(place, "alice")  # nobody is excluded for a trial group
    assert (first.num_groups, first.num_measured) == (NUM_GROUPS, NUM_GROUPS)
    blob = place.get(f"/v1/blobs/0x{first.evidence.hex()}").content
    check_evidence(Evidence.from_canonical(blob), POLICY, threshold=2)
    assert not sell(alice, 1), "the class waits for another worker"
    assert not trials(place).admitted

    finish_trial(place, "bob")
    [admitted] = trials(place).admitted
    assert admitted.engine_class == NEW
    assert {s.baseline.worker for s in admitted.baselines} == {
        place.ground.address("alice"),
        place.ground.address("bob"),
    }
    [paid] = sell(alice, 1)
    assert not paid.rejection
    assert place.status(paid.work_digest).state is GroupState.REPLAY


def test_a_refused_worker_is_told_what_is_above_the_ceiling(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with opened(ground, redis_url, tmp_path, trial=POLICY, **ROOM) as place:
        alice, verifier = place.party("alice"), place.party("v0")
        sell(alice, NUM_GROUPS)
        assert not sell(alice, 1), "no more than a baseline takes"
        for task in take(verifier):
            measure(verifier, task)
        endorse(verifier, trial_of(place, "alice"), refusal="gap 0.3 is above 0.03")
        response = alice.lease(1, NEW)
        assert code(response) == "refused"
        assert "gap 0.3 is above 0.03" in response.json()["message"]
        assert not trials(place).admitted
        assert sell(place.party("bob"), 1), "another worker of the class may still try"


def test_measurements_that_are_none_are_refused_by_code(trial_place: Place) -> None:
    place, v0 = trial_place, trial_place.party("v0")
    [receipt] = sell(place.party("bob"), 1, "rocm-bfloat16")
    task = next(t for t in take(v0) if t.work_digest == receipt.work_digest)
    assert code(measure(v0, task, outcome=Outcome.ACCEPTED)) == "malformed"
    assert code(measure(v0, task, detail="fine")) == "malformed"
    shorter = MEASURED.model_copy(update={"num_tokens": 1, "num_matched": 1})
    assert code(measure(v0, task, stats=shorter)) == "malformed"
    assert code(measure(v0, task, run_id=place.run_id + 1)) == "malformed"
    assert code(measure(v0, task, verifier=place.ground.address("v1"))) == "malformed"
    forged = v0.verdict(
        task.work_digest,
        Outcome.UNDECIDED,
        detail=trial_detail(task.engine_class, task.lease.lease.worker),
    ).model_copy(update={"decided_at": 1})
    path = place.path(f"trials/0x{task.work_digest.hex()}")
    assert code(v0.post(path, forged.to_json())) == "bad_signature"
    assert code(measure(place.party("alice"), task)) == "forbidden"
    assert code(place.party("alice").post(place.path("trials"), AuditRequest().to_json())) == (
        "forbidden"
    )
    [judged] = sell(place.party("alice"), 1, "transformers-cpu-bfloat16")
    foreign = task.model_copy(update={"work_digest": judged.work_digest})
    detail = trial_detail("transformers-cpu-bfloat16", place.ground.address("alice"))
    assert code(measure(v0, foreign, detail=detail)) == "not_found"


def test_baselines_of_other_evidence_or_other_signers_are_refused(trial_place: Place) -> None:
    place = trial_place
    trial = trial_of(place, "alice")
    assert code(endorse(place.party("v0"), trial, evidence=bytes(32))) == "malformed"
    assert code(endorse(place.party("v0"), trial, run_id=place.run_id + 1)) == "malformed"
    assert code(endorse(place.party("alice"), trial)) == "forbidden"
    body = EndorsedBaseline(
        baseline=Baseline(
            run_id=place.run_id,
            worker=trial.worker,
            evidence=trial.evidence,
            thresholds=thresholds(NEW),
            refusal="",
        ),
        endorsement=Endorsement(verifier=place.ground.address("v0"), signature=bytes(65)),
    )
    path = place.path("baselines")
    assert code(place.party("v1").post(path, body.to_json())) == "malformed"
    assert code(place.party("v0").post(path, body.to_json())) == "bad_signature"


def test_a_group_that_too_many_cannot_measure_makes_room_for_another(trial_place: Place) -> None:
    place, engine_class = trial_place, "rocm-bfloat16"
    [receipt] = sell(place.party("alice"), 1, engine_class)
    before = trial_of(place, "alice", engine_class).num_groups
    nothing = MEASURED.model_copy(update={"num_tokens": 0, "num_matched": 0})
    for name in ("v0", "v1"):
        verifier = place.party(name)
        task = next(t for t in take(verifier) if t.work_digest == receipt.work_digest)
        assert measure(verifier, task, stats=nothing, detail="no weights").status_code == 204
        place.wait(6)
    assert trial_of(place, "alice", engine_class).num_groups == before - 1
    assert receipt.work_digest not in {t.work_digest for t in take(place.party("v2"))}


def test_names_of_classes_cost_nothing_so_only_so_many_are_taken(
    trial_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = trial_place
    bob = place.party("bob")
    response = bob.lease(1, "yet-another")
    assert code(response) == "refused"
    assert "the run allows 2" in response.json()["message"]
    monkeypatch.setattr(baselines, "TRIAL_IDLE_SECONDS", 30)
    place.wait(31)
    assert bob.lease(1, "yet-another").status_code == 200
