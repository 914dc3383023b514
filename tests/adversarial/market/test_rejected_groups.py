"""Groups that can only be rejected, sent without end: they cost their sender leases, and the market no room.

The sender is signed in, a member and at its leases' own rate, so no limit of requests stops it.
"""

from pathlib import Path

import pytest

from orchestrator import leases, pauses
from orchestrator.rewards.pool import RewardPool
from orchestrator.rules.rejections import MOST_REST_SECONDS, NUM_FORGIVEN, rest_seconds
from orchestrator.store.blobs import Blobs
from orchestrator.store.keys import run_prefix
from protocol.messages import Leases
from protocol.rollout import Receipt
from protocol.verdict import Outcome
from tests.orchestrator.test_dropping import give_back
from tests.orchestrator.test_verdicts import code
from tests.stage.evidence import NAMED
from tests.stage.ground import Ground
from tests.stage.place import Party, Place, opened

MANY = 60
MINUTE = 60


def send_junk(worker: Party, most: int) -> int:
    """Send groups on another prompt than the leased one while there are leases; return how many were rejected."""
    sent = 0
    while sent < most and (response := worker.lease(1)).status_code == 200:
        lease = Leases.from_json(response.content).leases[0].lease
        submission = worker.submission(lease, prompt=(*lease.prompt[:-1], 5))
        receipt = Receipt.from_json(worker.submit(submission).content)
        assert receipt.rejection == "wrong_prompt"
        sent += 1
    return sent


@pytest.mark.parametrize(
    ("num_excess", "seconds"),
    [
        (0, 0),
        (NUM_FORGIVEN - 1, 0),
        (NUM_FORGIVEN, MINUTE),
        (NUM_FORGIVEN + 1, 2 * MINUTE),
        (NUM_FORGIVEN + 5, 32 * MINUTE),
        (NUM_FORGIVEN + 6, MOST_REST_SECONDS),
        (10**9, MOST_REST_SECONDS),
    ],
)
def test_rest_doubles_with_each_rejected_group_up_to_an_hour(num_excess: int, seconds: int) -> None:
    assert rest_seconds(num_excess, lease_seconds=MINUTE) == seconds


def test_a_lease_of_a_day_makes_the_rest_no_shorter_than_itself() -> None:
    assert rest_seconds(NUM_FORGIVEN + 3, lease_seconds=86_400) == 86_400


def test_where_rejection_is_free_one_worker_sends_as_many_as_it_likes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "rest_seconds", lambda *_, **__: 0)
    assert send_junk(place.party("alice"), MANY) == MANY


def test_a_worker_whose_groups_are_rejected_rests_for_longer_each_time(place: Place) -> None:
    alice = place.party("alice")
    assert send_junk(alice, MANY) == NUM_FORGIVEN
    refused = alice.lease()
    assert (refused.status_code, code(refused)) == (409, "too_many_rejected")
    assert "each good group takes one off" in refused.json()["message"]
    for minutes in (1, 2, 4):
        assert send_junk(alice, MANY) == 0
        asked = alice.lease().json()["retry_after_seconds"]
        assert 60 * minutes - 5 <= asked <= 60 * minutes
        place.wait(60 * minutes)
        assert send_junk(alice, MANY) == 1
    assert place.party("bob").lease().status_code == 200, "nobody else's concern"


def test_a_good_group_takes_a_rejected_one_off(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    """A machine that errs now and then never rests."""
    with opened(ground, redis_url, tmp_path, groups_per_batch=100) as place:
        alice, verifier = place.party("alice"), place.party("v0")
        for _ in range(NUM_FORGIVEN + 1):
            assert send_junk(alice, 1) == 1
            receipt = alice.deliver(alice.leases()[0].lease)
            assert verifier.decide(receipt.work_digest, Outcome.ACCEPTED) == "accepted"


def test_groups_that_a_replay_rejects_count_as_much(place: Place) -> None:
    """Weak cheats are not worth a stake; each took a verifier's replay of the whole group."""
    alice, verifier = place.party("alice"), place.party("v0")
    for _ in range(NUM_FORGIVEN):
        receipt = alice.deliver(alice.leases()[0].lease)
        assert verifier.decide(receipt.work_digest, Outcome.REJECTED) == "rejected"
    assert code(alice.lease()) == "too_many_rejected"


def test_who_is_excluded_hears_that_and_not_that_it_should_rest(place: Place) -> None:
    """It would wait for hours, and not see that its stake is asked for."""
    alice, verifier = place.party("alice"), place.party("v0")
    last = alice.deliver(alice.leases()[0].lease)
    assert send_junk(alice, MANY) == NUM_FORGIVEN
    assert code(alice.lease()) == "too_many_rejected"
    verifier.decide(last.work_digest, Outcome.REJECTED, NAMED)
    assert code(alice.lease()) == "excluded"


def blobs_in(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


def lasting(place: Place) -> set[bytes]:
    """Return the run's keys that never expire."""
    call = place.services.store.queue.call
    found = place.call(call, "KEYS", run_prefix(place.run_id).replace("{", "\\{") + "*")
    return {key for key in found if place.call(call, "TTL", key) == -1}


def test_rejected_groups_leave_nothing_that_lasts(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with opened(ground, redis_url, tmp_path) as place:
        alice = place.party("alice")
        send_junk(alice, 1)
        blobs, keys = blobs_in(tmp_path), lasting(place)
        assert send_junk(alice, MANY) == NUM_FORGIVEN - 1
        assert blobs_in(tmp_path) == blobs
        assert lasting(place) <= keys
        bob = place.party("bob")
        give_back(bob, bob.leases()[0].lease)
        keys, lease = lasting(place), bob.leases()[0].lease
        give_back(bob, lease)
        assert lasting(place) <= keys, "nor do leases that nobody used"


def test_what_admission_takes_is_kept_for_ever(place: Place) -> None:
    lease = place.party("alice").leases()[0].lease
    digest = place.party("alice").deliver(lease).work_digest
    prefix = run_prefix(place.run_id).encode()
    names = {
        prefix + b"lease:" + lease.lease_id.hex().encode(),
        prefix + b"group:" + digest.hex().encode(),
    }
    assert names <= lasting(place)


@pytest.mark.parametrize("forgets", [False, True])
def test_a_body_that_no_record_names_is_not_kept(
    ground: Ground, redis_url: str, tmp_path: Path, forgets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease is given back while the body is scored; and a copy of another group. Each is a new body."""
    if not forgets:

        async def keep(*_: object) -> None:
            return None

        monkeypatch.setattr(Blobs, "remove", keep)
    with opened(ground, redis_url, tmp_path) as place:
        alice = place.party("alice")
        first, copied, returned = (signed.lease for signed in alice.leases(3))
        rollouts = [
            r.of(r.token_ids(), [-20.0] * len(r.token_ids())) for r in place.rollouts(first)
        ]
        alice.deliver(first, rollouts)
        before = blobs_in(tmp_path)
        same = alice.submission(copied, rollouts, prompt=copied.prompt)
        assert Receipt.from_json(alice.submit(same).content).rejection == "duplicate_group"
        assert blobs_in(tmp_path) == before + (not forgets)
        score = RewardPool.score

        async def score_late(pool: RewardPool, asked: object) -> object:
            run = place.services.runs[place.run_id]
            await leases.give_back(place.services, run, alice.address, (returned.lease_id,))
            return await score(pool, asked)  # type: ignore[arg-type]

        monkeypatch.setattr(RewardPool, "score", score_late)
        before = blobs_in(tmp_path)
        assert code(alice.submit(alice.submission(returned))) == "lease_expired"
        assert blobs_in(tmp_path) == before + (not forgets)


def test_a_lease_that_was_given_back_costs_no_scoring(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = place.party("alice")
    lease = alice.leases()[0].lease
    give_back(alice, lease)
    monkeypatch.setattr(RewardPool, "score", None)
    refused = alice.submit(alice.submission(lease))
    assert code(refused) == "lease_expired" and "returned" in refused.text
