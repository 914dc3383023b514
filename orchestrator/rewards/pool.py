"""Recompute rewards in bounded children, so that no completion can hurt the orchestrator.

Groups that arrive while a child is busy travel in its next frame: the pipe costs little under load. Who goes
next is `line.py`'s. A child that is late or dies is killed; each group of its frame is then tried alone, once. A group
that fails twice has no rewards: it is paid and not trained on, and nobody is blamed.
"""

import asyncio
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from typing import Any

import msgpack
import structlog

from client.surroundings import for_child
from orchestrator.config import Rewards
from orchestrator.rewards.line import BeingScored, Job, Line
from protocol.errors import Busy
from protocol.run import RunSpec

REST_SECONDS = 0.05
"""How often a child without work looks whether somebody's rest is over."""


class ScorerLost(Exception):
    """The child was late or died; its frame is unanswered."""


class RewardPool:
    """A few scoring children fed from one line."""

    def __init__(self, settings: Rewards) -> None:
        self._settings = settings
        self._line = Line()
        self._has_joined = asyncio.Event()
        self._runs: dict[int, dict[str, Any]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.num_killed = 0

    def learn(self, run_id: int, spec: RunSpec, tokenizer: bytes) -> None:
        """Make a run known; each child is told before its first group of it."""
        self._runs[run_id] = {
            "do": "learn",
            "run_id": run_id,
            "environment": spec.environment,
            "config": dict(spec.environment_config),
            "tokenizer": tokenizer.decode(),
            "eos_token_ids": list(spec.eos_token_ids),
        }

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._serve()) for _ in range(self._settings.num_children)
        ]

    async def close(self) -> None:
        """Stop the children; groups still waiting are not answered."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def score(self, job: Job | tuple[int, int, list[bytes]]) -> tuple[int, ...] | None:
        """Return one reward per rollout in ten-thousandths, or None where undecided.

        Raises `Busy` for a run that was not learned: another process may lease it a second before.
        """
        if job[0] not in self._runs:
            raise Busy(f"run {job[0]} is being loaded; send the same again", retry_after_seconds=1)
        waiting = BeingScored(Job(*job), asyncio.get_running_loop().create_future())
        self._line.join(waiting)
        self._has_joined.set()
        return await waiting.answer

    async def _serve(self) -> None:
        child = Child(self._settings)
        try:
            while True:
                await self._answer_surely(child, await self._frame())
        finally:
            await child.kill()

    async def _frame(self) -> list[BeingScored]:
        """Wait for groups that may be scored now."""
        most = self._settings.max_groups_per_call
        while not (frame := self._line.take(most, time.monotonic())):
            self._has_joined.clear()
            seconds = REST_SECONDS if self._line else None
            with suppress(TimeoutError):
                await asyncio.wait_for(self._has_joined.wait(), seconds)
        return frame

    async def _answer_surely(self, child: "Child", frame: list[BeingScored]) -> None:
        """Answer a frame whatever happens: a worker waits for each, and every later one for this task."""
        log, began = structlog.get_logger(), time.monotonic()
        try:
            await self._answer(child, frame)
        except ScorerLost:
            self.num_killed += 1
            now = time.monotonic()
            for waiting in self._line.lost(frame, now - began, now):
                log.warning("rewards undecided", run_id=waiting.job.run_id, index=waiting.job.task)
                _settle(waiting, None)
        except Exception:
            log.exception("scoring has a defect", groups=len(frame))
            await child.kill()
            for waiting in frame:
                self._line.scored(waiting, 0.0, time.monotonic())
                _settle(waiting, None)

    async def _answer(self, child: "Child", frame: list[BeingScored]) -> None:
        answers = await child.score([waiting.job for waiting in frame], self._runs)
        for waiting, (rewards, seconds) in zip(frame, answers, strict=True):
            self._line.scored(waiting, seconds, time.monotonic())
            _settle(waiting, tuple(rewards))


def _settle(waiting: BeingScored, rewards: tuple[int, ...] | None) -> None:
    if not waiting.answer.done():
        waiting.answer.set_result(rewards)


class Child:
    """One scoring process, started when needed and after every loss."""

    def __init__(self, settings: Rewards) -> None:
        self._settings = settings
        self._process: Process | None = None
        self._known: set[int] = set()

    async def score(
        self, jobs: list[Job], runs: dict[int, dict[str, Any]]
    ) -> list[tuple[list[int], float]]:
        """Score groups, and say how long each took; raise `ScorerLost` and be without a process where the child fails."""
        try:
            await self._start()
            # A new child first imports and reads its data; that is not the completion's doing.
            for run_id in {job.run_id for job in jobs} - self._known:
                async with asyncio.timeout(30 + self._settings.timeout_seconds):
                    await self._ask(runs[run_id])
                self._known.add(run_id)
            async with asyncio.timeout(self._settings.timeout_seconds):
                return list(await self._ask({"do": "score", "groups": [job[:3] for job in jobs]}))
        except (TimeoutError, asyncio.IncompleteReadError, OSError) as error:
            await self.kill()
            raise ScorerLost from error

    async def kill(self) -> None:
        """End the process, whatever it is doing."""
        process, self._process = self._process, None
        self._known = set()
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def _start(self) -> None:
        if self._process is not None and self._process.returncode is None:
            return
        self._known = set()
        environment = for_child()
        environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
        environment["TOKENIZERS_PARALLELISM"] = "false"
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "orchestrator.rewards.child", str(self._settings.memory_bytes)),
            stdin=PIPE,
            stdout=PIPE,
            env=environment,
            limit=1 << 20,
        )

    async def _ask(self, message: dict[str, Any]) -> Any:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise OSError("the scorer is not running")
        frame = msgpack.packb(message)
        process.stdin.write(len(frame).to_bytes(4, "big") + frame)
        await process.stdin.drain()
        size = int.from_bytes(await process.stdout.readexactly(4), "big")
        return msgpack.unpackb(await process.stdout.readexactly(size))
