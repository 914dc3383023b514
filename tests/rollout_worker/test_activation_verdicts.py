"""A verifier's verdicts in a run that asks for activation commitments: signed bodies, real replays."""

from protocol.run import RunSpec
from tests.adversarial.activation_lab import MEASURED, Group, proved, with_proofs
from tests.rollout_worker import test_recheck
from tests.rollout_worker.test_recheck import ALICE, Desk, outcomes

desk = test_recheck.desk


def asking(desk: Desk) -> RunSpec:
    return desk.shelf.spec.model_copy(update={"activations": MEASURED})


def moved(groups: list[Group]) -> list[Group]:
    """Return the groups, each with the commitments of the next where their numbers agree."""
    changed = []
    for own, other in zip(groups, [*groups[1:], groups[0]], strict=True):
        by_size = {len(r.activations): r.activations for r in other}
        changed.append(with_proofs(own, lambda data, found=by_size: found.get(len(data), data)))  # type: ignore[misc]
    return changed


def test_honest_commitments_are_accepted_and_moved_ones_condemn(desk: Desk) -> None:
    desk.bench.engine.load(desk.bench.policy)
    leases = desk.leases(ALICE, 4)
    groups = proved(desk.bench, leases)
    honest = desk.tasks(ALICE, leases, groups)
    assert outcomes(desk.rechecker(spec=asking(desk)).verdicts(honest)) == ["accepted"] * 4
    forged = desk.tasks(ALICE, leases, moved(groups))
    assert {task.work_digest for task in forged}.isdisjoint(task.work_digest for task in honest)
    # The attack: where the run does not ask, nobody looks.
    assert outcomes(desk.rechecker().verdicts(forged)) == ["accepted"] * 4
    verdicts = desk.rechecker(spec=asking(desk)).verdicts(forged)
    assert outcomes(verdicts) == ["replay_activations"] * 4
    assert "this run allows 12, 6 and 4" in verdicts[0].detail


def test_commitments_that_admission_let_slip_are_no_reason_to_accept(desk: Desk) -> None:
    desk.bench.engine.load(desk.bench.policy)
    leases = desk.leases(ALICE, 2)
    groups = proved(desk.bench, leases)
    missing = desk.tasks(ALICE, leases, [with_proofs(group, lambda _: b"") for group in groups])
    assert outcomes(desk.rechecker(spec=asking(desk)).verdicts(missing)) == ["bad_activations"] * 2
    null = desk.tasks(
        ALICE, leases, [with_proofs(group, lambda data: bytes(len(data))) for group in groups]
    )
    verdicts = desk.rechecker(spec=asking(desk)).verdicts(null)
    assert outcomes(verdicts) == ["undecided"] * 2
    assert "modulus 0 of proof 0" in verdicts[0].detail
