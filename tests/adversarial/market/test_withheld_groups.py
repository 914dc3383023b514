"""A worker that samples everything and keeps the poor groups back, beside one that merely crashes.

What a policy makes of a lease is fixed before anyone samples it. Here a dice roll per (worker, nonce)
stands for it: whoever looks first knows what a group is worth before anyone else does. Drops are free in these markets,
so that nothing but the test of rewards stands in the way.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.checks import withholding
from orchestrator.store.keys import run_prefix
from protocol.advantage import group_advantages
from protocol.checks.drops import DropPolicy
from protocol.checks.withholding import NUM_GROUPS_PER_LOOK, Case, is_withholding
from protocol.constants import MICRO
from protocol.environments.base import FULL_SCORE
from protocol.messages import Event, ReturnedLeases, WorkerInfo, WorkerInfos
from protocol.rollout import Lease, Rollout
from protocol.run import AuditPolicy
from protocol.verdict import Outcome
from tests.orchestrator.test_settling import final
from tests.stage.ground import Ground
from tests.stage.place import Party, Place, opened

NUM_VERSIONS = 8
TERMS: dict[str, Any] = {
    "drops": DropPolicy(free_millionths=MICRO),
    "audit": AuditPolicy(num_probation_groups=0, rate_millionths=0),
    "group_size": 4,
    "groups_per_batch": 40,
    "max_staleness": 8,
    "max_worker_leases": 64,
    "config": {"limits": {"requests_per_second": 1e6, "request_burst": 10**6}},
}
Right = tuple[bool, ...]


def sampled(lease: Lease) -> Right:
    """Return which rollouts the policy gets right: half of them, and nobody's choice."""
    dice = random.Random(f"{lease.worker} {lease.nonce}")
    return tuple(dice.random() < 0.5 for _ in lease.seeds)


def is_poor(right: Right) -> bool:
    return sum(right) <= len(right) // 2


def crashes() -> Callable[[Right], bool]:
    dice = random.Random(1)
    return lambda _: dice.random() < 0.15


def work(worker: Party, count: int, drops: Callable[[Right], bool]) -> None:
    """Sell what `drops` leaves of so many leases, and return the rest."""
    dropped = []
    for signed in worker.leases(count):
        right = sampled(signed.lease)
        if drops(right):
            dropped.append(signed.lease.lease_id)
        else:
            worker.deliver(signed.lease, answers(worker.place, signed.lease, right))
    body = ReturnedLeases(lease_ids=tuple(dropped))
    worker.post(worker.place.path("leases/return"), body.to_json())


def answers(place: Place, lease: Lease, right: Right) -> list[Rollout]:
    """Return the group, as likely as text that repeats by chance: small sums do, and are no copies."""
    made = [rollout.token_ids() for rollout in place.rollouts(lease, right=right)]
    return [Rollout.of(tokens, [-0.1] * len(tokens)) for tokens in made]


def trade(place: Place) -> None:
    """Let the withholder and the crasher work side by side under one version after another."""
    alice, bob, verifier = (place.party(name) for name in ("alice", "bob", "v0"))
    crashing = crashes()
    for version in range(NUM_VERSIONS):
        work(alice, 56, is_poor)
        work(bob, 40, crashing)
        for task in verifier.audits():
            verifier.decide(task.work_digest, Outcome.ACCEPTED)
        assert place.take_batch(version) is not None
        assert place.publish(version + 1).status_code == 204
        place.party("trainer").post(place.path(f"batches/{version}/ack"))


def trained_on(place: Place, worker: Party) -> list[tuple[int, ...]]:
    """Return the rewards of this worker's groups in all batches."""
    batches = [place.take_batch(step) for step in range(NUM_VERSIONS)]
    groups = [group for batch in batches if batch for group in batch.groups]
    return [group.rewards for group in groups if group.worker == worker.address]


def mean_reward(groups: list[tuple[int, ...]]) -> float:
    return sum(map(sum, groups)) / sum(map(len, groups)) / FULL_SCORE


def lesson(groups: list[tuple[int, ...]]) -> float:
    """Return the mean advantage of right answers: what finding one teaches."""
    found = [
        float(advantage)
        for rewards in groups
        for advantage, reward in zip(group_advantages(rewards), rewards, strict=True)
        if reward
    ]
    return sum(found) / len(found)


def standing(place: Place, worker: Party) -> WorkerInfo:
    infos = WorkerInfos.from_json(place.get(f"/v1/workers/{worker.address}").content)
    return next(info for info in infos.runs if info.run_id == place.run_id)


def case_of(place: Place, worker: Party) -> Case:
    run = place.services.runs[place.run_id]
    found = place.call(withholding.case_of, place.services, run, worker.address)
    assert isinstance(found, Case)
    return found


def test_poor_groups_kept_back_bend_the_training_until_they_are_found(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with opened(ground, redis_url, tmp_path, **TERMS) as place:
        alice, bob = place.party("alice"), place.party("bob")
        trade(place)
        run = place.services.runs[place.run_id]

        # Nobody looked: it works. Each group is genuine, replays find nothing, all of them are trained on.
        hers, his = trained_on(place, alice), trained_on(place, bob)
        assert len(hers) > 80
        assert mean_reward(hers) == 0.75, "three of four right, as batches tell it"
        assert 0.45 < mean_reward(his) < 0.55, "the policy's own"
        assert lesson(hers) < 0.6 * lesson(his), (
            "hard problems are solved and nothing is learnt of it"
        )
        case = case_of(place, alice)
        assert len(case.strata) == NUM_VERSIONS, "nothing is left undecided"
        assert is_withholding(case.model_copy(update={"alarms_per_million": 0})) is None
        assert not standing(place, alice).is_excluded

        before = standing(place, alice).accepted_groups
        open_lease, ready = alice.leases()[0].lease, is_ready(place, alice)
        assert ready
        place.call(withholding.tick, place.services, run)
        found = standing(place, alice)
        assert found.is_excluded
        assert "dropped poor ones" in found.exclusion
        assert not standing(place, bob).is_excluded, "dropped a sixth, and nothing by reward"

        # No more of hers is leased, taken or trained on. What was accepted is true and stays owed.
        assert found.accepted_groups == before
        assert found.rejected_by_reason == {}
        assert not is_ready(place, alice)
        assert alice.lease().json()["code"] == "excluded"
        refused = alice.submit(alice.submission(open_lease)).json()
        assert refused["code"] == "excluded"
        assert "beyond chance" in refused["message"]
        assert not place.get(place.path("fraud-reports")).json()["tasks"], "and nobody's stake"

        verifier = place.party("v0")
        for task in verifier.audits():
            verifier.decide(task.work_digest, Outcome.ACCEPTED)
        paid = [item.worker for item in final(place, 0).contributions]
        assert paid.count(alice.address) == standing(place, alice).accepted_groups > 100

        # Anyone decides the case again.
        kept = Case.from_canonical(place.get(f"/v1/blobs/{exclusion(place)['case']}").content)
        evidence = is_withholding(kept)
        assert evidence is not None
        assert evidence.excess > 10
        assert round(evidence.log_probability, 2) == exclusion(place)["log_probability"]


def is_ready(place: Place, worker: Party) -> bool:
    """Whether any group of the worker waits for a batch."""
    run = place.services.runs[place.run_id]
    waiting = place.call(
        place.services.store.queue.call, "ZRANGE", run_prefix(run.run_id) + "ready", 0, -1
    )
    return any(worker.address.encode() in candidate for candidate in waiting)


def exclusion(place: Place) -> dict[str, Any]:
    run = place.services.runs[place.run_id]
    entries = place.call(
        place.services.store.queue.call, "XRANGE", run_prefix(run.run_id) + "events", "-", "+"
    )
    bodies = [fields[b"body"] for _, fields in entries if fields[b"kind"] == b"exclusion"]
    assert len(bodies) == 1
    return dict(Event.from_json(bodies[0]).fields)


def test_a_look_that_falls_due_during_a_look_is_not_lost(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading what is due and noting that it was done, the worker delivers its next 64 groups."""
    worker, looks = place.ground.address("alice"), run_prefix(place.run_id) + "looks"
    queue, seen = place.services.store.queue, []

    async def case_of(*_: object) -> None:
        seen.append(await queue.call("ZSCORE", looks, worker))
        if len(seen) == 1:
            await queue.call("ZADD", looks, 2 * NUM_GROUPS_PER_LOOK, worker)

    monkeypatch.setattr(withholding, "case_of", case_of)
    place.call(queue.call, "ZADD", looks, NUM_GROUPS_PER_LOOK, worker)
    for _ in range(3):
        place.call(withholding.tick, place.services, place.services.runs[place.run_id])
    assert seen == [NUM_GROUPS_PER_LOOK, 2 * NUM_GROUPS_PER_LOOK]
