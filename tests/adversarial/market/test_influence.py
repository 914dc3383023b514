"""Attack: steer the policy with more of its batches than one's stake: many workers, speed, false rewards."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
import zstandard

from protocol import canonical
from protocol.constants import MICRO
from protocol.messages import Batch, Leases
from protocol.verdict import Outcome
from tests.stage.ground import STAKE, Ground
from tests.stage.place import Place, opened
from tests.stage.terms import key

NUM_GROUPS = 8
SYBILS = tuple(f"influence sybil {n}" for n in range(6))
RICH = "influence rich"
"""Six workers of one attacker have 6 of 20 parts of the stake; somebody honest has the other 14."""


def newcomer(ground: Ground, name: str, stake: int) -> None:
    """Add somebody with gas and stake to the ground; once is enough for all tests."""
    if name in ground.people:
        return
    account, funder = key(name), ground.people["s1"]
    transaction = {
        "to": account.address,
        "value": 10**18,
        "gas": 21_000,
        "gasPrice": 10**11,
        "nonce": ground.w3.eth.get_transaction_count(funder.address),
        "chainId": ground.deployment.chain_id,
    }
    ground.w3.eth.send_raw_transaction(funder.sign_transaction(transaction).raw_transaction)
    ground.people[name] = account
    ground.by(name).mint(account.address, stake)
    ground.by(name).register(stake, account.address, account.address)


@contextmanager
def services(ground: Ground, redis_url: str, folder: Path, **changes: Any) -> Iterator[Place]:
    for name in SYBILS:
        newcomer(ground, name, STAKE)
    newcomer(ground, RICH, 14 * STAKE)
    changes = {"max_worker_share_millionths": 750_000, "max_worker_leases": NUM_GROUPS} | changes
    with opened(ground, redis_url, folder, groups_per_batch=NUM_GROUPS, **changes) as place:
        for name in (*SYBILS, RICH):
            ground.by(name).join_run(place.run_id)
        yield place


def deliver(place: Place, name: str, count: int) -> int:
    """Take up to `count` leases and deliver them; return how many there were."""
    party = place.party(name)
    response = party.lease(count)
    if response.status_code == 204:
        return 0
    leases = Leases.from_json(response.content).leases
    for signed in leases:
        receipt = party.deliver(signed.lease)
        place.party("v0").decide(receipt.work_digest, Outcome.ACCEPTED)
    return len(leases)


def flood(place: Place) -> int:
    """Have the attacker's workers deliver all that the pace lets out; return how many groups."""
    found = 0
    while more := sum(deliver(place, name, 1) for name in SYBILS):
        found += more
    return found


def part_of(place: Place, batch: Batch, *names: str) -> int:
    mine = {place.ground.address(name) for name in names}
    return sum(group.worker in mine for group in batch.groups)


def test_many_fast_workers_fill_a_batch_only_where_stake_is_no_cap(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    """Six of twenty parts of the stake are at most three of eight groups, however fast they come."""
    with services(ground, redis_url, tmp_path, max_stake_multiple_millionths=0) as place:
        place.party(RICH).leases(1)
        flood(place)
        batch = place.take_batch(0)
        assert batch is not None
        assert part_of(place, batch, *SYBILS) == NUM_GROUPS
    redis.Redis.from_url(redis_url).flushdb()
    with services(ground, redis_url, tmp_path, max_stake_multiple_millionths=MICRO) as place:
        place.party(RICH).leases(1)
        assert flood(place) >= 4
        assert place.take_batch(0) is None, "it waits for the others' part"
        assert deliver(place, RICH, NUM_GROUPS) >= 5
        batch = place.take_batch(0)
        assert batch is not None
        assert 2 <= part_of(place, batch, *SYBILS) <= 3


def test_who_comes_first_and_fills_the_pace_keeps_nobody_out(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    """Alone at work they may have all places; what that leaves undone must not wait for a restart."""
    with services(ground, redis_url, tmp_path, max_stake_multiple_millionths=2 * MICRO) as place:
        assert flood(place) == 2 * NUM_GROUPS
        assert place.party(RICH).lease(1).status_code == 204, "the pace is full"
        assert place.take_batch(0) is None, "now more stake is at work"
        assert deliver(place, RICH, NUM_GROUPS) >= 3
        batch = place.take_batch(0)
        assert batch is not None
        assert part_of(place, batch, *SYBILS) <= 5


def test_stake_that_went_away_does_not_hold_up_a_batch(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with services(ground, redis_url, tmp_path, max_stake_multiple_millionths=MICRO) as place:
        place.party(RICH).leases(1)
        flood(place)
        assert place.take_batch(0) is None
        place.wait(2 * place.spec.lease_seconds + 1)
        place.parties.clear()
        flood(place)
        batch = place.take_batch(0)
        assert batch is not None
        assert part_of(place, batch, *SYBILS) == NUM_GROUPS


def test_a_reward_is_what_the_text_earns_whatever_its_worker_says(place: Place) -> None:
    """There is no field to lie in; what is added is refused, and wrong sums earn nothing."""
    alice = place.party("alice")
    lease = alice.leases()[0].lease
    honest = alice.submission(lease, place.rollouts(lease, right=(True, False)))
    body = canonical.decode(honest.canonical()) | {"rewards": [10_000, 10_000]}
    refused = alice.submit(zstandard.compress(canonical.encode(body)))
    assert refused.json()["code"] == "malformed"
    assert "rewards" in refused.json()["message"]
    receipt = alice.deliver(lease, place.rollouts(lease, right=(True, False)))
    assert place.status(receipt.work_digest).rewards == (10_000, 0)
