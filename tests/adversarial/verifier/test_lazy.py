"""A verifier that accepts everything it is handed and replays nothing.

Without canaries it keeps its vote for ever: honest work is most of what there is, so it is right as often
as who replays. With them it is found within a number of replays that follows from their share.
"""

from pathlib import Path

from protocol.checks.canary import replays_until_failed
from protocol.messages import Leases
from protocol.verdict import Outcome
from tests.orchestrator.test_canaries import ALICE, BOB, deliver, examined, info
from tests.stage.ground import Ground
from tests.stage.place import Place

NUM_GROUPS = 40
SHARE = 0.3


def judged_until_found(place: Place) -> int | None:
    """Sell work and have it judged; return at which replay the lazy verifier lost its vote."""
    num_replays = 0
    canary_worker = place.ground.address(BOB)
    for _ in range(NUM_GROUPS):
        deliver(place, ALICE)
        if canary_worker in place.services.runs[place.run_id].canaries:
            lease = place.party(BOB).lease()
            if lease.status_code == 200:
                [signed] = Leases.from_json(lease.content).leases
                place.party(BOB).deliver(signed.lease)
        for task in place.party("v0").audits():
            num_replays += 1
            assert place.party("v0").judge(task.work_digest, Outcome.ACCEPTED).is_success
        for name in ("v1", "v2"):
            for task in place.party(name).audits():
                is_false = task.lease.lease.worker == canary_worker
                truth = Outcome.REJECTED if is_false else Outcome.ACCEPTED
                assert place.party(name).judge(task.work_digest, truth).is_success
        if not info(place, "v0").has_vote:
            return num_replays
    return None


def test_it_keeps_its_vote_where_nobody_tests_it(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with examined(ground, redis_url, tmp_path, false=()) as place:
        assert judged_until_found(place) is None
        assert info(place, "v0").num_accepted >= NUM_GROUPS // 2


def test_it_is_found_within_the_replays_that_the_share_of_canaries_states(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with examined(ground, redis_url, tmp_path, share=SHARE) as place:
        found_at = judged_until_found(place)
    bound = replays_until_failed(SHARE, confidence=0.99, false_share=1.0)
    assert found_at is not None
    assert found_at <= bound
