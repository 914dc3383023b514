"""Attack: groups that keep the scorer busy, so that others' wait; from one worker, or from many identities."""

import asyncio
from asyncio import Future
from typing import Any

import pytest

from orchestrator.config import Rewards
from orchestrator.rewards import line
from orchestrator.rewards.line import CALM_SECONDS, REST, SHORT_SECONDS, BeingScored, Job, Line
from orchestrator.rewards.pool import RewardPool
from tests.orchestrator.test_rewards import solution, tokens
from tests.stage.terms import MODEL, make_spec

QUICK, LOST = 0.002, 5.0


class Waiting(Future[Any]):
    """An answer that nobody has given."""

    def __init__(self) -> None:
        super().__init__(loop=asyncio.new_event_loop())
        self.get_loop().close()


def group(worker: str, index: int = 0) -> BeingScored:
    return BeingScored(Job(1, index, [], worker), Waiting())


def waits(most: int = 64, *, num_slow: int = 1, seconds: float = 600.0) -> list[float]:
    """Let honest groups come every second, from its 30th on beside endless ones that hang; return how long each
    honest one waited.
    """
    queue, now, since, honest = Line(), 0.0, {}, 0
    found: list[float] = []
    hostile = [f"slow {number}" for number in range(num_slow)] * 200
    while now < seconds:
        while hostile and now > 30.0:
            queue.join(group(hostile.pop()))
        while honest <= now:
            fresh = group(f"honest {honest % 3}", honest)
            since[honest] = float(honest)
            honest += 1
            queue.join(fresh)
        frame = queue.take(most, now)
        if not frame:
            now += 0.05
            continue
        if any(item.job.worker.startswith("slow") for item in frame):
            now += LOST
            queue.lost(frame, LOST, now)
            continue
        now += QUICK * len(frame)
        for item in frame:
            queue.scored(item, QUICK, now)
            found.append(now - since[item.job.task])
    return found


@pytest.mark.parametrize("num_slow", [1, 20])
def test_hanging_groups_hold_up_others_a_fifth_of_the_time_at_most(
    num_slow: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many send them: they share one turn."""
    found = waits(num_slow=num_slow)
    assert len(found) > 590
    assert max(found) <= 2 * LOST + 1, "a group that hangs is tried twice"
    assert sum(wait > 0.1 for wait in found) / len(found) < 1.5 / (1 + REST)
    monkeypatch.setattr(line, "REST", 0)
    off = waits(num_slow=num_slow)
    assert sum(wait > 0.1 for wait in off) / len(off) > 0.8


def test_where_all_are_slow_nobody_rests() -> None:
    """An environment may take its time: that is no worker's doing."""
    queue = Line()
    for number in range(100):
        queue.join(group(f"worker {number % 4}", number))
    now, num_scored = 0.0, 0
    while queue:
        frame = queue.take(64, now)
        assert frame, "never idle"
        for item in frame:
            now += 0.5
            queue.scored(item, 0.5, now)
            num_scored += 1
    assert (num_scored, now) == (100, 50.0)


def test_slow_groups_ride_alone_and_quick_ones_one_of_each_in_turn() -> None:
    queue = Line()
    for worker in ("a", "a", "a", "b", "c", "c"):
        queue.join(group(worker))
    assert [item.job.worker for item in queue.take(4, 0.0)] == ["a", "b", "c", "a"]
    rest = queue.take(64, 0.0)
    assert [item.job.worker for item in rest] == ["c", "a"]
    queue.scored(rest[0], QUICK, 1.0)
    queue.scored(rest[1], SHORT_SECONDS * 2, 1.0)
    for worker in ("a", "a", "b"):
        queue.join(group(worker))
    assert [item.job.worker for item in queue.take(64, 1.0)] == ["b"], "a rests"
    assert queue.take(64, 1.0) == []
    [ridden] = queue.take(64, 1.0 + REST * SHORT_SECONDS * 2)
    assert queue.take(64, 2.0) == [], "one at a time"
    queue.scored(ridden, QUICK, 2.0)
    assert [item.job.worker for item in queue.take(64, 2.0)] == ["a"], "it is quick again"
    assert not queue.take(64, 3.0 + CALM_SECONDS)


def test_of_a_lost_frame_each_is_tried_alone_and_once() -> None:
    queue = Line()
    for worker in ("a", "b"):
        queue.join(group(worker))
    assert queue.lost(queue.take(64, 0.0), LOST, 5.0) == []
    first, second = queue.take(64, 5.0), queue.take(64, 5.0)
    assert [item.job.worker for item in (*first, *second)] == ["a", "b"]
    assert queue.lost(first, LOST, 10.0) == first, "given up"
    queue.scored(second[0], QUICK, 10.0)
    assert not queue


def test_who_does_not_wait_any_more_costs_nothing() -> None:
    queue, gone = Line(), group("a")
    queue.join(gone)
    gone.answer.cancel()
    queue.join(group("b"))
    assert [item.job.worker for item in queue.take(64, 0.0)] == ["b"]


def scored_before_honest(monkeypatch: pytest.MonkeyPatch, *, in_turn: bool) -> int:
    """Return how many of a worker's endless completions a real child scored before another's short ones."""
    if not in_turn:
        monkeypatch.setattr(Line, "_is_slow", lambda *_: False)
        monkeypatch.setattr(line.Job, "worker", "one line for all", raising=False)

    async def score() -> int:
        rewards = RewardPool(Rewards(max_groups_per_call=4, timeout_seconds=60))
        rewards.learn(1, make_spec(), (MODEL / "tokenizer.json").read_bytes())
        rewards.start()
        endless, good = tokens("#0 ") * 200_000, [tokens(solution(5))]
        slow = [asyncio.create_task(rewards.score(Job(1, 5, [endless], "slow"))) for _ in range(12)]
        await asyncio.wait(slow, return_when=asyncio.FIRST_COMPLETED)
        for _ in range(3):
            assert await rewards.score(Job(1, 5, good, "honest")) == (10_000,)
        num = sum(task.done() for task in slow)
        await rewards.close()
        for task in slow:
            task.cancel()
        return num

    return asyncio.run(score())


def test_a_real_scorer_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scored_before_honest(monkeypatch, in_turn=True) <= 6
    assert scored_before_honest(monkeypatch, in_turn=False) == 12
