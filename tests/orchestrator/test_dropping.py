"""Dropped leases over the real market: what they cost, whom they cost nothing, and how it is told."""

import random
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from orchestrator import leases
from orchestrator.store.keys import run_prefix
from protocol.checks.drops import DropPolicy
from protocol.checks.withholding import NUM_GROUPS_PER_LOOK
from protocol.messages import ReturnedLeases, WorkerInfo, WorkerInfos
from protocol.rollout import Lease
from protocol.run import AuditPolicy
from protocol.verdict import Outcome
from tests.stage.ground import Ground
from tests.stage.pace_law import after_drop
from tests.stage.place import Party, Place, opened

NO_PROBATION = AuditPolicy(num_probation_groups=0, rate_millionths=0)


@pytest.fixture
def strict(ground: Ground, redis_url: str, tmp_path: Path) -> Iterator[Place]:
    """Half of the leases may be dropped, and one crash with four is forgiven."""
    with opened(
        *(ground, redis_url, tmp_path / "blobs"),
        drops=DropPolicy(free_millionths=500_000, num_forgiven_crashes=1),
        audit=NO_PROBATION,
        groups_per_batch=100,
    ) as place:
        yield place


def drawn_at(place: Place, digest: bytes) -> int:
    """Return the share that a group was drawn with, from the orchestrator's own record."""
    run = place.services.runs[place.run_id]
    fields = place.call(
        place.services.store.queue.hash, f"{run_prefix(run.run_id)}group:{digest.hex()}"
    )
    return int(fields[b"draw_rate"])


def standing(place: Place, worker: Party) -> WorkerInfo:
    infos = WorkerInfos.from_json(place.get(f"/v1/workers/{worker.address}").content)
    return next(info for info in infos.runs if info.run_id == place.run_id)


def give_back(worker: Party, *leases: Lease) -> None:
    body = ReturnedLeases(lease_ids=tuple(lease.lease_id for lease in leases))
    response = worker.post(worker.place.path("leases/return"), body.to_json())
    assert response.status_code == 204, response.text


def drop(worker: Party, count: int) -> None:
    for _ in range(count):
        give_back(worker, worker.leases()[0].lease)


def test_who_drops_is_replayed_again_holds_fewer_leases_and_works_it_off(strict: Place) -> None:
    alice = strict.party("alice")
    for signed in alice.leases(4):
        alice.deliver(signed.lease)
    drop(alice, 4)
    assert standing(strict, alice).dropped_leases == 4
    assert standing(strict, alice).notice == "", "as many as a crash may cost"
    drop(alice, 1)
    found = standing(strict, alice)
    assert (found.most_leases, found.dropped_leases) == (3, 5)
    assert "at most 3 of 4 leases may be held; finish 1 groups" in found.notice
    response = alice.lease(4)
    leases = [item["lease"] for item in response.json()["leases"]]
    assert len(leases) == 3
    assert response.json()["notice"] == found.notice
    refused = alice.lease()
    assert refused.json()["code"] == "too_many_leases"
    assert "finish 1 groups" in refused.json()["message"]


def test_a_careless_workers_groups_are_all_replayed_until_it_has_paid(strict: Place) -> None:
    alice, verifier = strict.party("alice"), strict.party("v0")
    for _ in range(3):
        for signed in alice.leases(4):
            alice.deliver(signed.lease)
    for task in verifier.audits():
        verifier.decide(task.work_digest, Outcome.ACCEPTED)
    assert rate_of_next(alice) < 1_000, "twelve accepted groups: a share of one in thousands"
    drop(alice, 6)
    rates = [rate_of_next(alice) for _ in range(4)]
    assert rates[:2] == [1_000_000] * 2, "until the debt is within the allowance again"
    assert rates[2] < 1_000


def rate_of_next(worker: Party) -> int:
    digest = worker.deliver(worker.leases()[0].lease).work_digest
    assert worker.place.status(digest).draw_rate_millionths == 0, "not told before it is paid"
    return drawn_at(worker.place, digest)


def test_nobody_drops_for_another_nor_twice_nor_what_was_submitted(strict: Place) -> None:
    alice, bob = strict.party("alice"), strict.party("bob")
    kept, sold, returned = (signed.lease for signed in alice.leases(3))
    give_back(bob, kept, sold)
    assert alice.lease(2).status_code == 200, "one place was free, and one only"
    receipt = alice.deliver(sold)
    give_back(alice, sold, sold)
    assert strict.state(receipt.work_digest).value in ("replay", "accepted")
    give_back(alice, returned, returned)
    give_back(alice, returned)
    give_back(alice, Lease.model_construct(lease_id=bytes(32)))
    assert standing(strict, alice).dropped_leases == 1
    found = WorkerInfos.from_json(strict.get(f"/v1/workers/{bob.address}").content).runs
    assert not [info for info in found if info.run_id == strict.run_id], "bob held nothing"
    assert alice.deliver(kept).rejection == "", "still hers"


def test_a_group_that_admission_rejects_is_a_dropped_lease(strict: Place) -> None:
    """Otherwise garbage would be the free way to keep a poor group back."""
    alice = strict.party("alice")
    lease = alice.leases()[0].lease
    receipt = alice.deliver(lease, strict.rollouts(lease)[:1])
    assert receipt.rejection == "incomplete_group"
    assert standing(strict, alice).dropped_leases == 1


def expire_all(place: Place, step: int) -> int:
    """Free leases in rounds of so many seconds until the clock is past all deadlines."""
    run, freed = place.services.runs[place.run_id], 0
    for _ in range(0, 70, step):
        place.wait(step)

        async def round_of(latest: float) -> int:
            return await leases.expire(place.services, run, latest=latest)

        freed += place.call(round_of, float(place.ground.clock.now))
    return freed


def test_expired_leases_are_dropped_unless_the_market_was_away(strict: Place) -> None:
    alice = strict.party("alice")
    expire_all(strict, 5)
    alice.leases(2)
    assert expire_all(strict, 5) == 2
    assert standing(strict, alice).dropped_leases == 2
    alice.leases(2)
    assert expire_all(strict, 70) == 2
    assert standing(strict, alice).dropped_leases == 2, "nobody could have submitted"


def test_a_halt_makes_nobody_a_dropper(strict: Place) -> None:
    alice = strict.party("alice")
    leases = [signed.lease for signed in alice.leases(2)]
    strict.ground.by("operator").halt_run(strict.run_id)
    strict.tick()
    give_back(alice, *leases)
    assert standing(strict, alice).dropped_leases == 0


def test_the_queue_counts_as_the_rule_does(strict: Place) -> None:
    """Debt, leases open and leases missing, after every kind of end in a random order."""
    alice, verifier = strict.party("alice"), strict.party("v0")
    rule, dice = strict.spec.drop_rule, random.Random(5)
    debt = missing = finished = 0
    expire_all(strict, 5)
    for _ in range(40):
        leases = [signed.lease for signed in alice.leases(dice.randint(1, rule.most_leases(debt)))]
        end = dice.choice(["sold", "sold", "sold", "garbage", "returned", "expired"])
        for lease in leases:
            if end == "sold":
                alice.deliver(lease)
                debt, finished = max(0, debt - rule.per_group), finished + 1
            elif end == "garbage":
                alice.deliver(lease, strict.rollouts(lease)[:1])
        if end == "returned":
            give_back(alice, *leases)
        elif end == "expired":
            expire_all(strict, 9)
        if end != "sold":
            missing += len(leases)
            for _ in leases:
                debt = after_drop(rule, debt)
        assert standing(strict, alice).most_leases == rule.most_leases(debt)
    for task in verifier.audits(256):
        verifier.decide(task.work_digest, Outcome.ACCEPTED)
    prefix = run_prefix(strict.run_id)
    tallies = strict.call(strict.services.store.queue.hash, prefix + "rewards:0")
    assert tallies[b"open"] == b"0"
    assert int(tallies[f"{alice.address}:leased".encode()]) == finished + missing
    assert int(tallies[f"{alice.address}:finished".encode()]) == finished
    owed = strict.call(strict.services.store.queue.hash, f"{prefix}worker:{alice.address}")[
        b"drop_debt"
    ]
    assert int(owed) == debt
    assert debt > 0


def test_a_worker_is_due_for_a_look_as_often_as_the_protocol_says() -> None:
    script = files("orchestrator.store").joinpath("lua/standing.lua").read_text()
    assert f"count % {NUM_GROUPS_PER_LOOK} == 0" in script
