"""An orchestrator shows verifiers another lease for honest work: with other seeds.

The lease id follows from run, worker and nonce, so both leases have it. Verifiers replay what they are
shown: were only the id bound by what the worker signed, they would condemn it, each by its own honest replay.
"""

import pytest

from protocol import rollout
from protocol.canonical import encode, keccak256
from protocol.messages import AuditTask
from protocol.rollout import Lease, Submission
from protocol.verdict import Outcome
from tests.rollout_worker.test_recheck import ALICE, Desk, desk, honest

__all__ = ["desk"]


def bind_the_id_alone(lease: Lease, submission: Submission) -> bytes:
    """The defence off: of the lease, what is signed has the id and the policy."""
    terms = [lease.lease_id, lease.policy_digest, list(submission.prompt)]
    return keccak256(encode([*terms, submission.rollouts_root(), submission.num_tokens()]))


def shown_another(desk: Desk, task: AuditTask) -> AuditTask:
    lease = task.lease.lease.model_copy(update={"seeds": task.lease.lease.seeds[::-1]})
    return task.model_copy(update={"lease": desk.signed(lease)})


def test_honest_work_is_not_judged_by_a_lease_it_was_not_made_for(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as off:
        off.setattr(rollout, "payload_digest", bind_the_id_alone)
        tasks = honest(desk, ALICE, 1)
        framed = desk.rechecker().verdicts([shown_another(desk, task) for task in tasks])
        assert [v.outcome for v in framed] == [Outcome.REJECTED]
        (desk.folder / "drift.jsonl").unlink(missing_ok=True)
    tasks = honest(desk, ALICE, 1)
    verdicts = desk.rechecker().verdicts([shown_another(desk, task) for task in tasks])
    assert [v.outcome for v in verdicts] == [Outcome.UNDECIDED]
    assert "what is shown as work" in verdicts[0].detail
    assert [v.outcome for v in desk.rechecker().verdicts(tasks)] == [Outcome.ACCEPTED]
