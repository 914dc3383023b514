"""The one client with the real orchestrator in this process: who has which route, and signs in by itself."""

from datetime import datetime, tzinfo
from typing import Self

import pytest

from client.connection import Connection, Later
from client.verifier import VerifierRoutes
from client.worker import WorkerRoutes
from protocol.messages import LeaseRequest, Leases
from tests.stage.in_process import InProcess
from tests.stage.place import HOST, Place, pack

URL = f"http://{HOST}"


@pytest.fixture(autouse=True)
def _at_the_runs_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's chain and its orchestrator have a clock of their own, far from this machine's."""

    class There(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(place.ground.clock.now, tz)

    monkeypatch.setattr("client.connection.datetime", There)


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
        tasks = verifier.audits(place.run_id, 16)
        assert not isinstance(tasks, Later)
        assert [task.work_digest for task in tasks.tasks] == [receipt.work_digest]
        assert isinstance(verifier.audits(place.run_id, 16), Later)
