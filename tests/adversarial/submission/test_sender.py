"""Submissions by the wrong party, at the wrong time, or twice: refused, and nothing is lost."""

import pytest

from orchestrator import intake
from protocol.rollout import Receipt
from tests.stage.place import Place


def code(response: object) -> str:
    return str(response.json()["code"])  # type: ignore[attr-defined]


def test_without_a_session_nothing_is_taken(place: Place) -> None:
    alice = place.party("alice")
    submission = alice.submission(alice.leases()[0].lease)
    alice.token = ""
    assert code(alice.submit(submission)) == "unauthorized"
    alice.token = "a.b.c"
    assert code(alice.submit(submission)) == "token_expired"
    alice.sign_in()
    place.wait(place.services.config.session_seconds + 1)
    assert code(alice.submit(submission)) == "token_expired"


@pytest.mark.parametrize("signature", [bytes(65), b"\x01" * 65, b"\xff" * 64 + b"\x1b"])
def test_an_unsigned_group_is_refused_and_the_signed_one_then_taken(
    place: Place, signature: bytes
) -> None:
    alice = place.party("alice")
    submission = alice.submission(alice.leases()[0].lease)
    unsigned = submission.model_copy(update={"signature": signature})
    assert code(alice.submit(unsigned)) == "bad_signature"
    assert alice.submit(submission).status_code == 200


def test_a_group_changed_after_signing_is_refused(place: Place) -> None:
    alice = place.party("alice")
    lease = alice.leases()[0].lease
    submission = alice.submission(lease)
    longer = place.rollouts(lease, right=(True, True))
    for change in ({"rollouts": tuple(longer)}, {"submitted_at": submission.submitted_at + 1}):
        response = alice.submit(submission.model_copy(update=change))
        assert code(response) == "bad_signature"
        assert "sign exactly this group's Work" in response.json()["message"]


def test_a_group_signed_by_a_stranger_is_refused_unless_nobody_looks(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, stranger = place.party("alice"), place.party("stranger")
    lease = alice.leases()[0].lease
    forged = stranger.submission(lease)
    assert code(alice.submit(forged)) == "bad_signature"

    async def nobody_looks(*_: object) -> None:
        return None

    monkeypatch.setattr(intake, "_require_worker_signed", nobody_looks)
    assert alice.submit(forged).status_code == 200


def test_a_hot_key_signs_and_signs_in_for_its_identity(place: Place) -> None:
    alice, hot = place.party("alice"), place.party("hot")
    [signed] = hot.leases()
    assert signed.lease.worker == alice.address
    receipt = hot.deliver(signed.lease)
    assert (receipt.worker, receipt.rejection) == (alice.address, "")


def test_a_foreign_lease_cannot_be_used(place: Place) -> None:
    alice, bob = place.party("alice"), place.party("bob")
    lease = alice.leases()[0].lease
    assert code(bob.submit(bob.submission(lease))) == "not_found", "who has none is not read"
    bob.leases()
    assert code(bob.submit(bob.submission(lease))) == "lease_foreign"
    assert code(bob.submit(alice.submission(lease))) == "lease_foreign"
    assert alice.deliver(lease).rejection == ""


def test_an_invented_lease_is_not_found(place: Place) -> None:
    alice = place.party("alice")
    lease = alice.leases()[0].lease.model_copy(update={"lease_id": b"\x07" * 32})
    assert code(alice.submit(alice.submission(lease))) == "not_found"


def test_the_same_submission_again_gets_the_same_receipt_and_counts_once(place: Place) -> None:
    alice = place.party("alice")
    submission = alice.submission(alice.leases()[0].lease)
    first = alice.submit(submission)
    place.wait(3)
    again = alice.submit(submission)
    assert first.content == again.content
    assert len(place.party("v0").audits()) == 1


def test_another_submission_under_a_used_lease_is_refused(place: Place) -> None:
    alice = place.party("alice")
    lease = alice.leases()[0].lease
    alice.deliver(lease)
    other = alice.submission(lease, place.rollouts(lease, right=(True, True)))
    assert code(alice.submit(other)) == "lease_used"


def test_a_rejected_group_has_used_its_lease(place: Place) -> None:
    alice = place.party("alice")
    lease = alice.leases()[0].lease
    assert alice.deliver(lease, place.rollouts(lease)[:1]).rejection == "incomplete_group"
    assert code(alice.submit(alice.submission(lease))) == "lease_used"


def test_a_submission_is_taken_at_the_deadline_and_refused_after_it(place: Place) -> None:
    alice = place.party("alice")
    early, late = (signed.lease for signed in alice.leases(2))
    place.ground.clock.now = early.deadline
    assert alice.deliver(early).rejection == ""
    place.ground.clock.now = late.deadline + 2
    response = alice.submit(alice.submission(late))
    assert code(response) == "lease_expired"
    assert "2.0 s ago" in response.json()["message"]


@pytest.mark.parametrize(
    ("skew", "taken"), [(-121, False), (-120, True), (120, True), (121, False)]
)
def test_a_signed_time_may_differ_by_two_minutes(place: Place, skew: int, taken: bool) -> None:
    alice = place.party("alice")
    lease = alice.leases()[0].lease
    submission = alice.submission(lease, submitted_at=place.ground.clock.now + skew)
    response = alice.submit(submission)
    assert (response.status_code == 200) == taken
    if not taken:
        assert code(response) == "clock_skew"


def test_a_returned_lease_is_over(place: Place) -> None:
    from protocol.messages import ReturnedLeases

    alice = place.party("alice")
    lease = alice.leases()[0].lease
    body = ReturnedLeases(lease_ids=(lease.lease_id,)).to_json()
    assert alice.post(place.path("leases/return"), body).status_code == 204
    assert code(alice.submit(alice.submission(lease))) == "lease_expired"


def test_work_signed_after_the_run_was_stopped_is_refused(place: Place) -> None:
    alice = place.party("alice")
    lease = alice.leases()[0].lease
    place.ground.by("operator").stop_run(place.run_id)
    place.wait(2)
    place.call(place.services.refresh, place.services.runs[place.run_id])
    assert code(alice.submit(alice.submission(lease))) == "run_not_open"
    assert code(alice.lease()) == "run_not_open"


def test_an_engines_name_is_bound_by_the_signature_and_held_to_nothing(place: Place) -> None:
    alice = place.party("alice")
    lease = alice.leases()[0].lease
    made = alice.submission(lease, engine="mlx-metal")
    renamed = made.model_copy(update={"engine": "vllm-cuda"})
    assert code(alice.submit(renamed)) == "bad_signature"
    assert not Receipt.from_json(alice.submit(made).content).rejection


def test_every_receipt_is_the_orchestrators(place: Place) -> None:
    from protocol.signing import recover

    alice = place.party("alice")
    lease = alice.leases()[0].lease
    receipt = Receipt.from_json(alice.submit(alice.submission(lease)).content)
    digest = place.services.chain.domain.digest(receipt)
    assert recover(digest, receipt.signature) == place.spec.orchestrator
