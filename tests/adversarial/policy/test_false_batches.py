"""An orchestrator that gives the trainer other bodies than the batch names, or one body twice."""

from dataclasses import replace
from typing import Any

import pytest

import trainer.batch
from protocol.commitment import check_work
from protocol.errors import BadSignature, Malformed
from protocol.messages import BatchGroup
from protocol.rollout import SignedLease, Submission
from protocol.signing import sign
from tests.stage.place import Party, Place, pack
from tests.stage.signer import info_of
from trainer.batch import Group, read_group, select


def named(
    party: Party, signed: SignedLease, submission: Submission, **changes: Any
) -> tuple[BatchGroup, SignedLease, bytes]:
    """Return a batch's entry of a group, with the lease and the body that are shown for it."""
    entry = BatchGroup(
        work_digest=party.digest(signed.lease, submission),
        worker=signed.lease.worker,
        index=signed.lease.index,
        policy_version=signed.lease.policy_version,
        body=bytes(32),
        rewards=(10_000, 0) * (signed.lease.group_size // 2),
    )
    return entry.model_copy(update=changes), signed, pack(submission)


def read(place: Place, entry: BatchGroup, signed: SignedLease, body: bytes) -> Group:
    info = info_of(place)
    return read_group(entry, signed, body, info, divide_by_deviation=False, mask_truncated=False)


def by_orchestrator(place: Place, signed: SignedLease, **changes: Any) -> SignedLease:
    """Return another lease for the same nonce, as only the orchestrator can sign it."""
    services, lease = place.services, signed.lease.model_copy(update=changes)
    return SignedLease(
        lease=lease, signature=sign(services.key, services.chain.domain.digest(lease))
    )


def is_trained(place: Place, shown: tuple[BatchGroup, SignedLease, bytes]) -> bool:
    """Return whether a trainer would learn from a body that it did not hold to its name."""
    group = read(place, *shown)
    return bool(select([group], step=0, max_staleness=4, spent=()).groups)


def lies(place: Place) -> dict[str, tuple[BatchGroup, SignedLease, bytes]]:
    """What a batch may name beside the body, lease or version that the work is of."""
    alice = place.party("alice")
    signed, other = alice.leases(2)
    work, foreign = alice.submission(signed.lease), alice.submission(other.lease)
    altered = work.model_copy(update={"rollouts": work.rollouts[::-1]})
    unsigned = signed.model_copy(update={"signature": sign(alice.key, bytes(32))})
    shown = named(alice, signed, work)
    return {
        "another group's body": (*shown[:2], pack(foreign)),
        "an altered body": (*shown[:2], pack(altered)),
        "another version": named(alice, signed, work, policy_version=1 << 20),
        "another worker": named(alice, signed, work, worker=place.party("bob").address),
        "no lease of the orchestrator's": (shown[0], unsigned, shown[2]),
        "unsigned work": named(alice, signed, work.model_copy(update={"signature": bytes(65)})),
    }


def test_a_trainer_that_believes_its_batch_learns_from_bodies_of_other_work(
    shared_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as off:
        off.setattr(trainer.batch, "require_named", lambda *_: None)
        believed = {what: read(shared_place, *shown) for what, shown in lies(shared_place).items()}
    assert all(len(group.completions) for group in believed.values())


def test_a_body_is_held_to_the_work_the_lease_and_the_worker_that_the_batch_names(
    shared_place: Place,
) -> None:
    alice = shared_place.party("alice")
    signed = alice.leases()[0]
    assert is_trained(shared_place, named(alice, signed, alice.submission(signed.lease)))
    for what, shown in lies(shared_place).items():
        with pytest.raises((Malformed, BadSignature)):
            pytest.fail(f"{what} is learned from: {read(shared_place, *shown)}")


def twins(place: Place) -> list[Group]:
    """One body under the digests of two leases for its nonce, both signed by the orchestrator."""
    alice = place.party("alice")
    signed = alice.leases()[0]
    work = alice.submission(signed.lease)
    later = by_orchestrator(place, signed, deadline=signed.lease.deadline + 1)
    first, second = named(alice, signed, work), named(alice, later, work)
    assert first[0].work_digest != second[0].work_digest and first[2] == second[2]
    info = info_of(place)
    for entry, lease, _ in (first, second):
        check_work(
            *(entry.work_digest, lease, work),
            info=info,
            domain=place.services.chain.domain,
            spoke_for=None,
        )
    return [read(place, *first), read(place, *second)]


def test_one_body_under_two_digests_is_trained_on_once(shared_place: Place) -> None:
    groups = twins(shared_place)
    by_digest = [replace(group, lease_id=group.work_digest) for group in groups]
    assert len(select(by_digest, step=0, max_staleness=4, spent=()).groups) == 2
    found = select(groups, step=0, max_staleness=4, spent=())
    assert (len(found.groups), dict(found.dropped)) == (1, {"already_trained": 1})
    later = select(groups[1:], step=0, max_staleness=4, spent={groups[0].lease_id})
    assert (len(later.groups), dict(later.dropped)) == (0, {"already_trained": 1})
