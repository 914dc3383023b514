"""Replays that nobody finishes, at the head of the queue: those behind them are handed out all the same."""

from pathlib import Path

import pytest

from orchestrator.store.keys import run_prefix
from tests.orchestrator.test_ladder import without
from tests.orchestrator.test_verdicts import one_group
from tests.stage.ground import Ground
from tests.stage.place import Place, opened

PAGE = 512
HEAD_ONLY = "redis.call('HSET', p .. 'looked', verifier, look(from) or 0)"


def stick(place: Place, count: int) -> None:
    """Put old places into the queue that v0 may not take, for it has sealed its votes on their groups."""
    call, prefix, v0 = (
        place.services.store.queue.call,
        run_prefix(place.run_id),
        place.ground.address("v0"),
    )
    for n in range(count):
        digest = f"{n:064x}"
        place.call(call, "HSET", f"{prefix}group:{digest}", "state", "replay")
        place.call(call, "HSET", f"{prefix}seals:{digest}", v0, "its seal")
        place.call(call, "ZADD", prefix + "audits", n, f"{digest}:1")


@pytest.mark.parametrize("head_only", [True, False])
@pytest.mark.parametrize("num_stuck", [PAGE, 3 * PAGE])
def test_stuck_replays_at_the_head_of_the_queue_hold_up_no_others(
    ground: Ground, redis_url: str, tmp_path: Path, num_stuck: int, head_only: bool
) -> None:
    """Groups that two verifiers disagree on while the third is away: more than are looked at in one step."""
    with opened(ground, redis_url, tmp_path, num_verifiers=3, threshold=2) as place:
        scripts = place.services.store.queue._scripts
        if head_only:
            scripts["take_audits"] = without(scripts["take_audits"], HEAD_ONLY)
        stick(place, num_stuck)
        fresh = [one_group(place) for _ in range(3)]
        found = [t.work_digest for _ in range(3) for t in place.party("v0").audits(1)]
        for _ in range(6):
            found += [task.work_digest for task in place.party("v0").audits(1)]
        assert set(found) == (set() if head_only else set(fresh))


def test_the_oldest_places_are_looked_at_each_time(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    """Who looks on behind the stuck ones still sees one of those that is free again."""
    with opened(ground, redis_url, tmp_path, num_verifiers=3, threshold=2) as place:
        stick(place, 2 * PAGE)
        fresh = one_group(place)
        verifier, queue = place.party("v0"), place.services.store.queue
        while not (tasks := verifier.audits(1)):
            pass
        assert [task.work_digest for task in tasks] == [fresh]
        waiting = one_group(place)
        key = run_prefix(place.run_id) + "audits"
        place.call(queue.call, "ZADD", key, 3, waiting.hex() + ":1")
        assert [task.work_digest for task in verifier.audits(1)] == [waiting]
