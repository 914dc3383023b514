"""The one client with the real orchestrator in this process: who has which route, and signs in by itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client.connection import Connection, Later
from client.verifier import VerifierRoutes
from client.worker import WorkerRoutes
from orchestrator import leases, replays
from protocol.errors import Malformed
from protocol.messages import AuditRequest, LeaseRequest, Leases
from tests.stage.ground import Ground
from tests.stage.in_process import InProcess
from tests.stage.place import HOST, Place, opened, pack
from tests.stage.world import Running

URL = f"http://{HOST}"


@pytest.fixture
def place(redis_url: str, tmp_path: Path) -> Iterator[Place]:
    """A market whose clock is this machine's, as the client's is."""
    with opened(Ground.build(Running()), redis_url, tmp_path / "blobs") as place:
        yield place


def connected(place: Place, name: str) -> Connection:
    key = bytes(place.ground.people[name].key)
    chain_id = place.ground.deployment.chain_id
    return Connection(URL, key, chain_id=chain_id, transport=InProcess(place.client))


def test_a_group_passes_from_worker_to_verifier_through_the_client(place: Place) -> None:
    with WorkerRoutes(connected(place, "alice")) as worker:
        leases = worker.lease(place.run_id, LeaseRequest(count=1))
        assert isinstance(leases, Leases)
        lease = leases.leases[0].lease
        body = place.party("alice").submission(lease)
        receipt = worker.submit(place.run_id, pack(body))
        assert worker.submission(place.run_id, receipt.work_digest).receipt == receipt
    with VerifierRoutes(connected(place, "v0")) as verifier:
        tasks = verifier.audits(place.run_id, AuditRequest(count=16))
        assert not isinstance(tasks, Later)
        assert [task.work_digest for task in tasks.tasks] == [receipt.work_digest]
        assert isinstance(verifier.audits(place.run_id, AuditRequest(count=16)), Later)


def test_nobody_takes_more_than_it_asked_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker would work beyond the bound on what it is owed, a verifier hold all bodies at a time."""
    grant, take = leases.grant, replays.take

    async def grant_more(services: Any, run: Any, account: Any, request: LeaseRequest) -> Any:
        return await grant(services, run, account, LeaseRequest(count=request.count + 1))

    async def take_more(services: Any, run: Any, account: Any, asked: AuditRequest) -> Any:
        return await take(services, run, account, AuditRequest(count=asked.count + 1))

    monkeypatch.setattr(leases, "grant", grant_more)
    monkeypatch.setattr(replays, "take", take_more)
    with WorkerRoutes(connected(place, "alice")) as worker:
        with monkeypatch.context() as off:
            off.setattr("client.worker.require_asked", lambda *_: None)
            granted = worker.lease(place.run_id, LeaseRequest(count=1))
        assert isinstance(granted, Leases)
        assert len(granted.leases) == 2, "with the defence off"
        with pytest.raises(Malformed, match="2 leases were handed out where 1 were asked for"):
            worker.lease(place.run_id, LeaseRequest(count=1))
    for signed in granted.leases:
        place.party("alice").deliver(signed.lease)
    with (
        VerifierRoutes(connected(place, "v0")) as verifier,
        pytest.raises(Malformed, match="2 replays were handed out where 1 were asked for"),
    ):
        verifier.audits(place.run_id, AuditRequest(count=1))
