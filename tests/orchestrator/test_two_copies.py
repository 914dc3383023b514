"""Two orchestrators on one Redis, of which one has not looked at the chain for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from orchestrator.app import create_app
from orchestrator.jobs import Service
from orchestrator.run import Run
from orchestrator.services import Services
from orchestrator.store import keys
from protocol.constants import MICRO
from protocol.errors import NotFound
from protocol.messages import EpochStage
from protocol.rollout import Receipt
from protocol.run import AuditPolicy
from protocol.verdict import Outcome
from tests.orchestrator.test_faults import lose_blob
from tests.orchestrator.test_large_epochs import settle_all
from tests.orchestrator.test_settling import earn, final
from tests.stage.ground import Ground
from tests.stage.place import HOST, Place, open_market, opened

TRUSTING = AuditPolicy(num_probation_groups=1, rate_millionths=MICRO // 2)


@contextmanager
def copy_of(place: Place, redis_url: str, folder: Path) -> Iterator[Place]:
    """Another orchestrator that serves the place's run, as it stands at this moment."""
    services = open_market(place.ground, redis_url, folder, {})
    with TestClient(create_app(services), base_url=f"http://{HOST}") as client:
        copy = Place(place.ground, place.spec, place.run_id, services, client)
        assert copy.get(f"/v1/runs/{place.run_id}").status_code == 200
        yield copy


def reveal(place: Place) -> None:
    """Have the open epoch frozen: its secret is in a file that anyone may read."""
    place.tick(seconds=11)
    place.tick()
    assert place.epoch(0).stage is EpochStage.SIGNING


def test_a_slower_copy_grants_no_lease_from_a_secret_that_is_in_a_file(
    place: Place, redis_url: str, tmp_path: Path
) -> None:
    with copy_of(place, redis_url, tmp_path / "blobs") as slower:
        earn(place)
        reveal(place)
        assert place.party("bob").leases()[0].lease.epoch == 1
        assert slower.party("bob").lease().status_code == 204
        slower.call(slower.services.look, slower.services.runs[place.run_id])
        assert slower.party("bob").leases()[0].lease.epoch == 1


def test_a_slower_copy_draws_no_audit_from_a_secret_that_is_in_a_file(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    """Who knows the secret sends only what it will not draw."""
    with (
        opened(ground, redis_url, tmp_path, audit=TRUSTING, max_worker_leases=8) as place,
        copy_of(place, redis_url, tmp_path) as slower,
    ):
        alice = slower.party("alice")
        earn(place)
        kept = place.party("alice").leases(1)[0].lease
        earn_more = place.party("bob").leases(1)[0].lease
        receipt = place.party("bob").deliver(earn_more)
        place.party("v0").decide(receipt.work_digest, Outcome.ACCEPTED)
        reveal(place)
        response = alice.submit(alice.submission(kept))
        assert response.status_code == 200, response.text
        digest = Receipt.from_json(response.content).work_digest
        record = place.call(place.services.store.groups.group, place.run_id, digest)
        assert (record.draw_epoch, record.draw_rate) == (1, MICRO // 2)


def test_work_that_comes_while_every_secret_is_in_a_file_is_replayed(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with opened(ground, redis_url, tmp_path, audit=TRUSTING, max_worker_leases=8) as place:
        alice, run = place.party("alice"), place.services.runs[place.run_id]
        earn(place)
        kept = alice.leases(1)[0].lease
        key = f"rollcall:{{{place.run_id}}}:state"
        place.call(place.services.store.queue.call, "HSET", key, "revealed", 1)
        place.call(place.services.look, run)
        receipt = alice.deliver(kept)
        record = place.call(place.services.store.groups.group, place.run_id, receipt.work_digest)
        assert record.draw_rate == MICRO
        assert place.party("v0").audits()[0].work_digest == receipt.work_digest


def test_what_keeps_settlement_is_known_to_every_copy(
    place: Place, redis_url: str, tmp_path: Path
) -> None:
    """Only one of them settles; none may go on leasing what cannot be."""
    with copy_of(place, redis_url, tmp_path / "blobs") as other:
        run = other.services.runs[place.run_id]
        earn(place)
        final(place, 0)
        data = lose_blob(place, place.epoch(0).file)
        earn(place)
        with pytest.raises(NotFound):
            place.tick(seconds=11)
        other.call(other.services.look, run)
        refusal = other.party("bob").lease().json()
        assert refusal["code"] == "run_not_open"
        assert "the file of epoch 0 is lost" in refusal["message"]
        place.upload(data)
        settle_all(place)
        other.call(other.services.look, run)
        assert other.party("bob").lease().status_code == 200


def test_a_copy_that_has_not_loaded_a_run_yet_takes_its_work_a_second_later(
    place: Place, redis_url: str, tmp_path: Path
) -> None:
    with copy_of(place, redis_url, tmp_path / "blobs") as slower:
        alice = slower.party("alice")
        lease = alice.leases()[0].lease
        learned, slower.services.rewards._runs = slower.services.rewards._runs, {}
        body = alice.submission(lease)
        response = alice.submit(body)
        assert (response.status_code, response.json()["code"]) == (503, "busy"), response.text
        slower.services.rewards._runs = learned
        assert alice.submit(body).status_code == 200


def test_one_copy_alone_sends_to_the_chain_whatever_the_job(
    place: Place, redis_url: str, tmp_path: Path
) -> None:
    """Two would give their transactions the same numbers."""
    sent = []

    async def send(services: Services, _: Run) -> None:
        sent.append(services)

    def jobs_of(copy: Place, count: int) -> None:
        service = Service(copy.services)
        for _ in range(count):
            copy.call(service._alone(send), copy.services, copy.services.runs[place.run_id])

    with copy_of(place, redis_url, tmp_path / "blobs") as other:
        jobs_of(place, 2)
        jobs_of(other, 2)
        assert sent == [place.services] * 2
        place.call(place.services.store.queue.call, "DEL", keys.SENDER)  # as it expires
        jobs_of(other, 1)
        assert sent[2:] == [other.services]
