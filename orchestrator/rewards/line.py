"""Whose groups are scored next: one of each worker in turn, and those of slow workers alone and seldom.

What one worker's completions cost the scorer, that worker waits for. However many are slow, together they
take a fifth of one child's time as long as others have quick groups. Where all are slow, as an environment may be, nobody rests.
"""

from asyncio import Future
from collections import deque
from dataclasses import dataclass, field, replace
from typing import NamedTuple

SHORT_SECONDS = 0.1
"""A group that took longer makes its worker slow, until one took less: most take a hundredth of it."""
REST = 4
"""Times what it took that nobody slow is scored after a slow worker's group."""
CALM_SECONDS = 60.0
"""Without a quick group for so long, slow ones go on without a rest."""
PROVEN = 8
"""After so many quick groups in a row a worker is not taken for slow because others' hung beside its own."""


class Job(NamedTuple):
    """A group to be scored: run id, index of its task, the token bytes of each rollout, and who sampled it."""

    run_id: int
    task: int
    rollouts: list[bytes]
    worker: str = ""


@dataclass(frozen=True, slots=True)
class BeingScored:
    """A group and who waits for its rewards (None: undecided)."""

    job: Job
    answer: "Future[tuple[int, ...] | None]"
    is_suspect: bool = False
    """Whether it was in a frame that was lost: it is tried alone, once."""


@dataclass(slots=True)
class Line:
    """The groups that wait, by worker in the order of their turns. `now` is in seconds from any start."""

    _waiting: dict[str, deque[BeingScored]] = field(default_factory=dict)
    _streaks: dict[str, int] = field(default_factory=dict)
    """Quick groups of a worker in a row; 0 where it is slow."""
    _slow_from: float = 0.0
    """When a slow worker's next group may go; infinite while one is being scored."""
    _quick_at: float = -CALM_SECONDS

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def join(self, group: BeingScored) -> None:
        self._waiting.setdefault(group.job.worker, deque()).append(group)

    def take(self, most: int, now: float) -> list[BeingScored]:
        """Return the groups of the next frame; none where nobody may go."""
        frame: list[BeingScored] = []
        while len(frame) < most:
            worker = next((w for w in self._waiting if self._may_go(w, frame, now)), None)
            if worker is None:
                break
            line = self._waiting.pop(worker)
            group = line.popleft()
            if line:
                self._waiting[worker] = line
            if group.answer.done():  # nobody waits for it any more
                continue
            frame.append(group)
            if self._is_slow(group):
                self._slow_from = float("inf")
            if self._is_alone(group):
                break
        return frame

    def scored(self, group: BeingScored, seconds: float, now: float) -> None:
        """Learn what a group took."""
        worker, was_slow = group.job.worker, self._is_slow(group)
        if seconds > SHORT_SECONDS:
            self._streaks[worker] = 0
            self._slow_from = now + REST * seconds
            return
        self._quick_at = now
        self._streaks[worker] = self._streaks.get(worker, 0) + 1
        if was_slow:
            self._slow_from = now

    def lost(self, frame: list[BeingScored], seconds: float, now: float) -> list[BeingScored]:
        """Learn that a frame was lost; return what is given up. The others are each tried alone."""
        if self._is_slow(frame[0]) or frame[0].is_suspect:
            self.scored(frame[0], max(seconds, 2 * SHORT_SECONDS), now)
        if frame[0].is_suspect:
            return frame
        again: dict[str, deque[BeingScored]] = {}
        for group in frame:
            line = again.setdefault(group.job.worker, deque())
            line.append(replace(group, is_suspect=True))
        for worker, line in again.items():
            line.extend(self._waiting.pop(worker, ()))
        self._waiting = again | self._waiting
        return []

    def _may_go(self, worker: str, frame: list[BeingScored], now: float) -> bool:
        first = self._waiting[worker][0]
        if frame and self._is_alone(first):
            return False
        is_calm = now - self._quick_at >= CALM_SECONDS
        return not self._is_slow(first) or is_calm or now >= self._slow_from

    def _is_alone(self, group: BeingScored) -> bool:
        return group.is_suspect or self._is_slow(group)

    def _is_slow(self, group: BeingScored) -> bool:
        """Whether it takes its turn from those of slow workers."""
        streak = self._streaks.get(group.job.worker)
        return streak == 0 or (group.is_suspect and (streak or 0) < PROVEN)
