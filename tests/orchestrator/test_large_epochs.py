"""More work than one epoch takes: it is settled by several, and nobody's share is another's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.rules import settle
from orchestrator.unsettled import payable
from protocol.messages import Contribution, EpochFile, EpochStage
from protocol.verdict import Outcome
from tests.orchestrator.test_settling import earn
from tests.stage.ground import Ground
from tests.stage.place import Place, opened


@pytest.fixture
def place(ground: Ground, redis_url: str, tmp_path: Path) -> Iterator[Place]:
    """A run with room for more groups than the epochs below take."""
    with opened(ground, redis_url, tmp_path, groups_per_batch=8, max_worker_leases=8) as place:
        yield place


def settle_all(place: Place) -> list[tuple[Contribution, ...]]:
    """Drive every epoch to its end; return what each paid."""
    found: list[tuple[Contribution, ...]] = []
    for _ in range(24):
        place.tick(seconds=4)
        number = place.ground.by("stranger").run(place.run_id).num_posted
        if place.epoch(number).stage is EpochStage.SIGNING:
            found.append(proposed(place, number).contributions)
            assert place.sign_epoch(number).status_code == 204
    return found


def proposed(place: Place, number: int) -> EpochFile:
    data = place.get(f"/v1/blobs/0x{place.epoch(number).file.hex()}").content
    return EpochFile.from_canonical(data)


def test_work_of_any_amount_is_paid_by_several_epochs_each_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "MOST_GROUPS", 3)
    alice = earn(place, "alice", 4) + earn(place, "alice", 3)
    bob = earn(place, "bob")
    paid = settle_all(place)
    assert all(len(work) <= 3 for work in paid)
    counts = [sum(item.worker == place.party("bob").address for item in work) for work in paid]
    assert counts[0] == 1, "who has little waiting gets all of it in"
    nonces = [i.nonce for work in paid for i in work if i.worker == place.party("alice").address]
    assert nonces == [1, 2, 3, 4, 5, 6, 7]
    assert place.ground.by("v0").run(place.run_id).finalised == (alice + bob) * place.spec.rate


def test_an_epoch_after_a_full_one_does_not_wait_for_its_time(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    earn(place, "alice", 4)
    monkeypatch.setattr(settle, "MOST_GROUPS", 2)
    place.tick(seconds=11)
    assert place.ground.by("stranger").run(place.run_id).num_opened == 2
    place.tick()
    assert place.ground.by("stranger").run(place.run_id).num_opened == 3
    place.tick()
    assert place.ground.by("stranger").run(place.run_id).num_opened == 3, "one more, and no third"


def test_a_worker_whose_first_work_is_not_owed_or_undecided_holds_up_nobody(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "MOST_GROUPS", 2)
    alice, verifier = place.party("alice"), place.party("v0")
    receipts = [alice.deliver(signed.lease) for signed in alice.leases(3)]
    for receipt in receipts[1:]:
        verifier.decide(receipt.work_digest, Outcome.ACCEPTED)
    earn(place, "bob", 3)
    place.wait(2)
    place.ground.by("stranger").mint(place.ground.address("stranger"), 1)
    run = place.services.runs[place.run_id]
    place.call(place.services.look, run)
    found = place.call(payable, place.services, run, 0)
    assert [(item.worker, item.nonce) for item in found.values()] == [
        (place.party("bob").address, 1),
        (place.party("bob").address, 2),
    ]
