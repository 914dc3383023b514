"""What must hold when many ask at once, when time passes, and when parties come and go."""

import asyncio
from pathlib import Path

import httpx
import pytest

from orchestrator import leases
from orchestrator.app import create_app
from protocol.errors import by_code
from protocol.messages import GroupState, LeaseRequest, RunInfo, WorkerInfos
from protocol.run import AuditPolicy
from protocol.verdict import Outcome
from tests.stage.ground import Ground
from tests.stage.place import HOST, Place, opened, pack


def code(response: httpx.Response) -> str:
    return str(response.json()["code"])


def test_leases_stop_where_work_could_only_become_stale(place: Place) -> None:
    alice, bob = place.party("alice"), place.party("bob")
    assert len(alice.leases(4)) == 4, "(staleness 1 + version 0 + 1) × 2 groups"
    response = bob.lease()
    assert response.status_code == 204
    assert float(response.headers["retry-after"]) > 0


def test_a_worker_holds_at_most_its_limit_and_returning_frees_places(place: Place) -> None:
    alice = place.party("alice")
    alice.leases(4)
    assert code(alice.lease()) == "too_many_leases"


def test_groups_without_signal_leave_the_pace_to_those_that_a_batch_needs(place: Place) -> None:
    """Three of four teach nothing: more than the pace are bought, and the batch is full all the same."""
    alice, verifier = place.party("alice"), place.party("v0")
    for n in range(8):
        [signed] = alice.leases()
        right = (True, False) if n % 4 == 3 else (True,)
        receipt = alice.deliver(signed.lease, place.rollouts(signed.lease, right=right))
        assert verifier.decide(receipt.work_digest, Outcome.ACCEPTED) == "accepted"
    assert place.take_batch(0) is not None
    infos = WorkerInfos.from_json(place.get(f"/v1/workers/{alice.address}").content)
    mine = next(info for info in infos.runs if info.run_id == place.run_id)
    assert mine.accepted_groups == 8


def test_expired_leases_free_their_places_and_decide_their_nonces(place: Place) -> None:
    alice, run = place.party("alice"), place.services.runs[place.run_id]
    alice.leases(4)
    deadline = place.ground.clock.now + place.spec.lease_seconds

    async def expire(latest: float) -> int:
        return await leases.expire(place.services, run, latest=latest)

    assert place.call(expire, deadline - 1) == 0
    assert place.call(expire, deadline) == 4
    assert [signed.lease.nonce for signed in alice.leases(4)] == [5, 6, 7, 8]


def test_a_stranger_gets_no_lease_until_it_joins(place: Place) -> None:
    carol = place.party("carol")
    response = carol.lease()
    assert (response.status_code, code(response)) == (409, "not_joined")
    assert "joinRun" in response.json()["message"]
    place.ground.by("carol").join_run(place.run_id)
    place.wait(2)
    assert carol.lease().status_code == 200


def test_a_step_has_one_batch_however_often_it_is_asked_for(place: Place) -> None:
    alice, verifier = place.party("alice"), place.party("v0")
    for signed in alice.leases(4):
        receipt = alice.deliver(signed.lease)
        verifier.decide(receipt.work_digest, Outcome.ACCEPTED)
    trainer = place.party("trainer")
    first = trainer.batch(0)
    assert trainer.batch(0).content == first.content
    assert code(trainer.batch(2)) == "step_out_of_order"
    second = place.take_batch(1)
    assert second is not None
    assert not {g["work_digest"] for g in first.json()["groups"]} & {
        "0x" + g.work_digest.hex() for g in second.groups
    }
    assert code(trainer.batch(2)) == "step_out_of_order"
    assert trainer.post(place.path("batches/0/ack")).status_code == 204
    assert trainer.post(place.path("batches/0/ack")).status_code == 204
    assert trainer.batch(2).status_code == 204
    assert trainer.batch(0).content == first.content
    assert code(place.party("alice").batch(0)) == "forbidden"


def test_stale_groups_are_paid_and_not_trained_on(place: Place) -> None:
    alice, verifier = place.party("alice"), place.party("v0")
    receipts = [alice.deliver(signed.lease) for signed in alice.leases(4)]
    for receipt in receipts[:2]:
        verifier.decide(receipt.work_digest, Outcome.ACCEPTED)
    for version in (1, 2):
        assert place.publish(version).status_code == 204
    for receipt in receipts[2:]:
        verifier.decide(receipt.work_digest, Outcome.ACCEPTED)
    assert place.take_batch(0) is None
    assert {place.state(r.work_digest) for r in receipts} == {GroupState.ACCEPTED}
    late = place.party("bob")
    [signed] = late.leases()
    assert signed.lease.policy_version == 2


def test_a_group_that_arrives_too_stale_is_rejected_by_name(place: Place) -> None:
    alice = place.party("alice")
    in_time, too_late = alice.leases(2)
    assert place.publish(1).status_code == 204
    assert alice.deliver(in_time.lease).rejection == ""
    assert place.publish(2).status_code == 204
    receipt = alice.deliver(too_late.lease)
    assert receipt.rejection == "stale_policy"
    assert "at most 1" in receipt.detail


def test_fifty_submissions_at_once_of_one_lease_are_one(place: Place) -> None:
    alice = place.party("alice")
    lease = alice.leases()[0].lease
    body = pack(alice.submission(lease))

    async def race() -> list[bytes]:
        transport = httpx.ASGITransport(place.client.app)
        headers = {"authorization": f"Bearer {alice.token}", "host": HOST}
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as client:
            posts = (
                client.post(place.path("submissions"), content=body, headers=headers)
                for _ in range(50)
            )
            return [response.content for response in await asyncio.gather(*posts)]

    assert len(set(place.call(race))) == 1
    assert len(place.party("v0").audits()) == 1


def test_two_copies_of_the_orchestrator_serve_one_run(place: Place, tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    from tests.stage.place import open_market

    alice = place.party("alice")
    lease = alice.leases()[0].lease
    url = place.services.config.redis_url
    other = open_market(place.ground, url, tmp_path / "blobs", {})
    with TestClient(create_app(other), base_url=f"http://{HOST}") as client:
        mine = place.client
        place.client = client
        receipt = alice.deliver(lease)
        place.client = mine
    assert place.state(receipt.work_digest) is GroupState.REPLAY


def test_an_account_that_asks_too_often_is_told_when_to_come_back(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    config = {"limits": {"requests_per_second": 2.0, "request_burst": 3}}
    with opened(ground, redis_url, tmp_path / "blobs", config=config) as place:
        alice = place.party("alice")
        ask = LeaseRequest(count=1).to_json()
        codes = [alice.post(place.path("leases"), ask).status_code for _ in range(4)]
        assert codes == [200, 200, 200, 429]
        response = alice.submit(b"")
        assert response.json()["code"] == "too_many_requests", (
            "nothing is read before it is counted"
        )
        refused = alice.post(place.path("leases"), ask)
        assert refused.json()["code"] == "too_many_requests"
        assert float(refused.headers["retry-after"]) == pytest.approx(0.5, abs=0.1)
        assert by_code()["too_many_requests"].status == 429
        place.wait(1)
        assert alice.post(place.path("leases"), ask).status_code == 200


def test_half_of_an_established_workers_groups_are_replayed(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    audit = AuditPolicy(num_probation_groups=0, rate_millionths=500_000)
    with opened(
        ground, redis_url, tmp_path / "b", audit=audit, groups_per_batch=40, max_worker_leases=40
    ) as place:
        alice = place.party("alice")
        receipts = [alice.deliver(signed.lease) for signed in alice.leases(40)]
        states = [place.state(receipt.work_digest) for receipt in receipts]
        assert 8 < states.count(GroupState.REPLAY) < 32
        assert len(place.party("v0").audits(64)) == states.count(GroupState.REPLAY)


def test_the_run_says_what_it_offers(place: Place) -> None:
    info = RunInfo.from_json(place.get(f"/v1/runs/{place.run_id}").content)
    assert info.spec == place.spec
    assert info.newest_version == 0
    on_chain = place.ground.by("v0").run(place.run_id)
    assert info.budget_left_units == on_chain.budget // 10
    assert (info.num_voters, info.threshold) == (len(on_chain.verifiers), on_chain.threshold)
    assert info.permit_until == on_chain.permit_until
    manifest = place.services.runs[place.run_id].manifest
    assert manifest is not None
    assert info.published_at == manifest.manifest.created_at > 0
    listed = place.get("/v1/runs").json()["runs"]
    assert [run["run_id"] for run in listed] == [place.run_id]
    assert place.get("/v1/runs/999999").json()["code"] == "not_found"
    assert place.get("/v1/runs/x").json()["code"] == "malformed"
