"""The one client with the real orchestrator in this process: who has which route, and signs in by itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from client.connection import Connection, Later
from client.verifier import VerifierRoutes
from client.worker import WorkerRoutes
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
