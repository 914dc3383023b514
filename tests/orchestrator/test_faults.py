"""Lost blobs, clocks that are off and deep re-organisations: nothing is lost or paid twice, and who must act is told."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ledger.errors import ContractError
from orchestrator.store.blobs import path_of
from protocol.constants import MAX_CLOCK_SKEW_SECONDS
from protocol.errors import NotFound
from protocol.messages import EpochStage
from tests.orchestrator.test_large_epochs import settle_all
from tests.orchestrator.test_settling import earn, final
from tests.stage.ground import Ground
from tests.stage.place import Place, opened


@pytest.fixture
def place(ground: Ground, redis_url: str, tmp_path: Path) -> Iterator[Place]:
    """A run with room for more groups than a batch."""
    with opened(ground, redis_url, tmp_path, groups_per_batch=16) as place:
        yield place


def freeze(place: Place, number: int) -> bytes:
    """Have an epoch proposed; return its file's digest."""
    place.tick(seconds=11)
    place.tick()
    info = place.epoch(number)
    assert info.stage is EpochStage.SIGNING
    return info.file


def lose_blob(place: Place, digest: bytes) -> bytes:
    """Remove a blob from its folder; return what it was."""
    data: bytes = place.call(place.services.blobs.get, digest)
    place.call(place.services.blobs.drop, [path_of(digest)])
    return data


def test_an_epoch_whose_file_is_lost_before_it_is_signed_is_frozen_anew(place: Place) -> None:
    tokens = earn(place, "alice", 2)
    lose_blob(place, freeze(place, 0))
    settle_all(place)
    assert place.ground.by("v0").run(place.run_id).finalised == tokens * place.spec.rate


def test_settlement_says_which_file_it_lacks_and_goes_on_when_it_is_put_back(place: Place) -> None:
    first = earn(place, "alice", 2)
    final(place, 0)
    data = lose_blob(place, place.epoch(0).file)
    second = earn(place, "alice", 2)
    with pytest.raises(NotFound, match="PUT it under /v1/blobs"):
        place.tick(seconds=11)
    refusal = place.party("bob").lease().json()
    assert refusal["code"] == "run_not_open"
    assert "the file of epoch 0 is lost" in refusal["message"]
    assert place.upload(data).digest == place.epoch(0).file
    settle_all(place)
    assert place.party("bob").lease().status_code == 200
    ledger = place.ground.by("v0")
    assert ledger.run(place.run_id).finalised == (first + second) * place.spec.rate


def test_an_orchestrator_whose_clock_is_slow_leases_nothing_and_says_why(place: Place) -> None:
    """The chain owes nothing for work dated before the run was: it would never be paid."""
    place.tick()
    clock, right = place.ground.clock, place.ground.clock.now
    chain_time = place.services.runs[place.run_id].chain_time
    for behind, status in ((MAX_CLOCK_SKEW_SECONDS, 200), (3_600, 409)):
        clock.now = chain_time - behind
        place.parties.clear()
        response = place.party("alice").lease()
        assert response.status_code == status, response.text
    assert "set that machine's clock" in response.json()["message"]
    clock.now = right
    place.parties.clear()
    assert place.party("bob").lease().status_code == 200


def test_work_dated_by_a_clock_that_is_an_hour_fast_is_paid_when_the_chain_is_there(
    place: Place,
) -> None:
    clock = place.ground.clock
    place.tick()
    clock.now += 3_600
    place.parties.clear()
    tokens = earn(place, "alice", 2)
    clock.now -= 3_600
    place.parties.clear()
    for _ in range(3):
        place.tick(seconds=4)
    assert place.ground.by("v0").run(place.run_id).num_posted == 0
    place.tick(seconds=3_600)
    place.ground.by("stranger").mint(place.ground.address("stranger"), 1)
    settle_all(place)
    assert place.ground.by("v0").run(place.run_id).finalised == tokens * place.spec.rate


def test_twelve_blocks_taken_back_at_settlement_are_settled_again_and_paid_once(
    place: Place,
) -> None:
    """Openings, postings and finality itself: whoever claims waits for more blocks than that."""
    chain, ledger = place.ground.chain, place.ground.by("stranger")
    tokens = 0
    for number in range(3):
        tokens += earn(place, "alice", 2)
        final(place, number)
    before = ledger.run(place.run_id)
    assert (before.num_final, before.finalised) == (3, tokens * place.spec.rate)
    chain.rewind(place.ground.w3.eth.block_number - 12)
    assert ledger.run(place.run_id).num_final < 3
    tokens += earn_after(place)
    settle_all(place)
    after = ledger.run(place.run_id)
    assert after.finalised == after.committed == tokens * place.spec.rate


def earn_after(place: Place) -> int:
    """Earn where the chain may still have to open what it forgot."""
    for _ in range(4):
        with suppress(
            ContractError
        ):  # the sender may have its lost transaction mined again by itself
            place.tick(seconds=2)
    return earn(place, "alice", 2)
