"""A policy is published only with the true record of what made it."""

from protocol.messages import Batch
from protocol.policies.lineage import NO_LINEAGE, Records, TrainedGroup
from protocol.verdict import Outcome
from tests.stage.place import Place


def with_batch(place: Place) -> Batch:
    alice, verifier = place.party("alice"), place.party("v0")
    for signed in alice.leases(2):
        verifier.decide(alice.deliver(signed.lease).work_digest, Outcome.ACCEPTED)
    batch = place.take_batch(0)
    assert batch is not None
    return batch


def test_the_batch_that_a_step_was_given_is_what_its_record_lists(place: Place) -> None:
    batch = with_batch(place)
    bob = place.ground.address("bob")
    true = tuple(TrainedGroup.of(entry, [3, 0]) for entry in batch.groups)
    first, second = true
    for groups in (
        (),
        true[:1],
        true[::-1],
        (*true, first),
        (first.model_copy(update={"worker": bob}), second),
        (first.model_copy(update={"rewards": (10_000, 10_000)}), second),
        (first.model_copy(update={"policy_version": 1}), second),
        (first.model_copy(update={"tokens": (place.spec.max_tokens + 1, 0)}), second),
    ):
        refused = place.publish(1, lineage=place.lineage(1, groups=groups))
        assert refused.json()["code"] == "malformed", groups
    assert place.publish(1, lineage=place.lineage(1, groups=true)).status_code == 204


def test_a_record_that_is_missing_or_of_another_step_is_refused(place: Place) -> None:
    with_batch(place)
    for lineage, code in (
        (NO_LINEAGE, "not_found"),
        (b"\x05" * 32, "not_found"),
        (place.upload(b"no record").digest, "malformed"),
        (place.lineage(2), "malformed"),
        (place.lineage(1, run_id=0), "malformed"),
        (place.lineage(1, previous=b"\x01" * 32), "malformed"),
    ):
        assert place.publish(1, lineage=lineage).json()["code"] == code
    assert place.publish(1).status_code == 204


def test_records_are_served_in_order_as_far_as_they_go(place: Place) -> None:
    assert place.get(place.path("lineage")).json()["code"] == "not_found"
    for version in (1, 2, 3):
        assert place.publish(version).status_code == 204

    def ask(first: int, last: int) -> tuple[int, int]:
        data = place.get(place.path(f"lineage?first={first}&last={last}")).content
        found = Records.from_canonical(data)
        return found.first, len(found.records)

    assert ask(0, 9) == (1, 3)
    assert ask(2, 2) == (2, 1)
    for first, last in ((4, 9), (3, 2)):
        path = place.path(f"lineage?first={first}&last={last}")
        assert place.get(path).json()["code"] == "not_found"
