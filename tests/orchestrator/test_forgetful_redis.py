"""Redis set back by a moment, emptied, or gone on from a cut log: what was promised is kept, once."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from orchestrator import restoring
from orchestrator.app import create_app
from protocol.messages import Batch, BatchGroup, EpochStage, GroupState
from protocol.verdict import Outcome
from tests.orchestrator.test_large_epochs import settle_all
from tests.orchestrator.test_settling import earn, final
from tests.stage.ground import Ground
from tests.stage.place import HOST, Place, open_market, opened
from tests.stage.queue import CrashingRedis, crashing_redis


@dataclass
class Fragile:
    """A market on a Redis that can lose what it was told."""

    place: Place
    redis: CrashingRedis
    folder: Path

    def lose(self, mark: int) -> None:
        """Set Redis back; sessions live on, for they are in nobody's store."""
        self.redis.lose(mark)

    def restart(self) -> TestClient:
        """Start another orchestrator process on the same blobs, with no memory of its own."""
        place = self.place
        place.services = open_market(place.ground, self.redis.url, self.folder, {})
        place.client = TestClient(create_app(place.services), base_url=f"http://{HOST}")
        return place.client


@pytest.fixture
def fragile(ground: Ground, tmp_path: Path) -> Iterator[Fragile]:
    with (
        crashing_redis(tmp_path / "redis") as redis,
        opened(ground, redis.url, tmp_path / "blobs", groups_per_batch=2, max_staleness=3) as place,
    ):
        yield Fragile(place, redis, tmp_path / "blobs")


@pytest.mark.parametrize("is_emptied", [False, True], ids=["set back", "emptied"])
def test_what_has_a_receipt_is_replayed_and_paid_though_redis_forgot_it(
    fragile: Fragile, is_emptied: bool
) -> None:
    place = fragile.place
    first = earn(place, "alice")
    mark = 0 if is_emptied else fragile.redis.mark()
    signed = place.party("alice").leases()[0]
    receipt = place.party("alice").deliver(signed.lease)
    torn = fragile.folder / "journal" / str(place.run_id) / "groups" / "ab12#ab12"
    torn.write_bytes(b"left by a crash in the middle of a write")
    fragile.lose(mark)
    assert place.get(place.path(f"submissions/0x{receipt.work_digest.hex()}")).status_code == 404
    place.tick()
    assert place.state(receipt.work_digest) is GroupState.REPLAY
    assert place.status(receipt.work_digest).receipt == receipt
    for task in place.party("v0").audits():
        assert place.party("v0").decide(task.work_digest, Outcome.ACCEPTED) == "accepted"
    tokens = sum(len(r.tokens) // 4 for r in place.rollouts(signed.lease))
    settle_all(place)
    ledger = place.ground.by("stranger")
    assert ledger.run(place.run_id).finalised == (first + tokens) * place.spec.rate


@pytest.mark.parametrize("is_emptied", [False, True], ids=["set back", "emptied"])
def test_no_nonce_is_leased_twice(fragile: Fragile, is_emptied: bool) -> None:
    """Two leases for one nonce are a fraud of the orchestrator that anybody can prove."""
    place = fragile.place
    mark = 0 if is_emptied else fragile.redis.mark()
    given = [signed.lease for signed in place.party("alice").leases(2)]
    fragile.lose(mark)
    assert place.party("alice").lease().status_code == 204, "not before the run is restored"
    place.tick()
    place.tick()
    again = [signed.lease for signed in place.party("alice").leases(2)]
    assert min(lease.nonce for lease in again) > restoring.NONCES_PER_LIFE
    assert {lease.epoch for lease in given} == {0}
    assert {lease.epoch for lease in again} == {1}, "whose secret nobody can have seen"
    fragile.lose(0)
    place.tick()
    place.tick()
    third = place.party("alice").leases()[0].lease
    assert third.nonce > 2 * restoring.NONCES_PER_LIFE
    assert place.party("alice").deliver(third).rejection == ""


def with_a_batch(fragile: Fragile, is_emptied: bool) -> tuple[int, Batch]:
    """Take a step's batch; return it with the mark to which Redis is then set back."""
    earn(fragile.place, "alice", 2)
    mark = 0 if is_emptied else fragile.redis.mark()
    batch = fragile.place.take_batch(0)
    assert batch is not None
    return mark, batch


@pytest.mark.parametrize("is_emptied", [False, True], ids=["set back", "emptied"])
def test_the_trainer_goes_on_from_its_version_with_the_batch_it_had(
    fragile: Fragile, is_emptied: bool
) -> None:
    place = fragile.place
    mark, batch = with_a_batch(fragile, is_emptied)
    assert place.publish(1).status_code == 204
    record = place.known("lineage", 1)
    assert place.party("trainer").post(place.path("batches/0/ack")).status_code == 204
    fragile.lose(mark)
    busy = place.get(place.path("policies/1"))
    assert (busy.status_code, busy.json()["code"]) == (503, "busy")
    assert "being restored" in busy.json()["message"]
    place.tick()
    assert place.get(place.path("policies/1")).status_code == 200
    assert place.known("lineage", 1) == record
    assert place.take_batch(0) == batch
    assert place.party("trainer").post(place.path("batches/0/ack")).status_code == 204
    assert ready(place) == [], "no group is in two batches"
    place.tick()
    earn(place, "alice", 2)
    for task in place.party("v0").audits():
        place.party("v0").decide(task.work_digest, Outcome.ACCEPTED)
    second = place.take_batch(1)
    assert second is not None
    assert not {g.work_digest for g in second.groups} & {g.work_digest for g in batch.groups}
    assert place.publish(2).status_code == 204


@pytest.mark.parametrize("is_emptied", [False, True], ids=["set back", "emptied"])
def test_a_version_is_not_refused_for_a_batch_that_redis_forgot(
    fragile: Fragile, is_emptied: bool
) -> None:
    place = fragile.place
    mark, _ = with_a_batch(fragile, is_emptied)
    manifest = place.manifest(1)
    fragile.lose(mark)
    busy = place.take_policy(manifest)
    assert (busy.status_code, busy.json()["code"]) == (503, "busy")
    place.tick()
    assert place.take_policy(manifest).status_code == 204


def test_an_emptied_redis_is_told_by_chain_and_blobs_what_was_paid(fragile: Fragile) -> None:
    place = fragile.place
    first = earn(place, "alice", 2)
    final(place, 0)
    fragile.lose(0)
    with fragile.restart():
        assert place.get(place.path("")[:-1]).status_code == 404
        place.call(restoring.restore_runs, place.services)
        assert place.get(place.path("")[:-1]).status_code == 200
        place.tick()
        record = place.call(
            place.services.store.workers.record, place.run_id, place.party("alice").address
        )
        assert (record.earned, record.last_settled) == (first, 2)
        assert place.epoch(0).stage is EpochStage.FINAL
        assert not place.party("v0").audits(), "what is paid is not replayed again"
        place.tick()
        second = earn(place, "alice", 2)
        settle_all(place)
        run = place.ground.by("stranger").run(place.run_id)
        assert run.finalised == (first + second) * place.spec.rate


def test_a_posted_epoch_that_redis_forgot_is_paid_once(fragile: Fragile) -> None:
    place = fragile.place
    tokens = earn(place, "alice", 2)
    place.tick(seconds=11)
    place.tick()
    assert place.sign_epoch(0).status_code == 204
    mark = fragile.redis.mark()
    place.tick()
    assert place.epoch(0).stage is EpochStage.POSTED
    fragile.lose(mark)
    tokens += earn_after(place)
    settle_all(place)
    ledger = place.ground.by("stranger")
    assert ledger.run(place.run_id).finalised == tokens * place.spec.rate


def test_what_was_refused_is_not_taken_up_by_a_new_life(fragile: Fragile) -> None:
    """Else whoever is late had only to wait for a crash."""
    place, alice = fragile.place, fragile.place.party("alice")
    [kept, late] = [signed.lease for signed in alice.leases(2)]
    body = alice.submission(late)
    place.call(place.services.store.leases.free, place.run_id, alice.address, [late.nonce], None)
    assert alice.submit(body).json()["code"] == "lease_expired"
    assert alice.deliver(kept).rejection == ""
    fragile.lose(0)
    place.tick()
    assert len(place.party("v0").audits()) == 1


def earn_after(place: Place) -> int:
    """Earn in a new life, once it is restored."""
    place.tick()
    place.tick()
    return earn(place, "alice")


def ready(place: Place) -> list[BatchGroup]:
    found = place.call(place.services.store.batches.ready, place.run_id)
    return [BatchGroup.from_json(raw) for raw in found]
