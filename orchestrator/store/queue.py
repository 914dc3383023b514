"""The connection to Redis and its scripts: the rest of this package sends everything through here.

Every step that must be atomic is one Lua script; everything here may be repeated after a crash.
Rules live elsewhere: this file moves values. A lost connection surfaces as `Busy`, and the client
library reconnects with the next command.

Scripts asked for while others are under way travel together in the next round trip: each stays one
atomic step of its own, and under load a trip's cost is shared by a dozen of them.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoScriptError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from orchestrator.config import PASSWORD_VARIABLE
from orchestrator.store import keys
from protocol.errors import Busy, TooManyRequests
from protocol.user_error import UserError

Argument = bytes | str | int | float


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the name Redis caches it under."""

    source: str
    sha: str


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A script's run and who waits for its answer."""

    script: Script
    tail: tuple[Argument, ...]
    answer: asyncio.Future[Any]


class Queue:
    """One connection pool and the compiled scripts."""

    def __init__(self, url: str, password: str = "") -> None:
        self._redis: Redis = Redis.from_url(
            url, password=password or None, socket_connect_timeout=5, socket_timeout=15
        )
        self._scripts = _scripts()
        self._waiting: list[PendingCall] = []
        self._sender: asyncio.Task[None] | None = None

    async def require_entry(self) -> None:
        """Raise `UserError` where Redis refuses the password; a Redis that is away may yet come."""
        try:
            await self._redis.execute_command("PING")
        except AuthenticationError as error:
            raise UserError(
                f"Redis does not let this orchestrator in: set {PASSWORD_VARIABLE} to its `requirepass`"
            ) from error
        except (RedisConnectionError, RedisTimeoutError, OSError):
            return

    async def close(self) -> None:
        """Close the connections; scripts still waiting are not answered."""
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
        self._abandon()  # a sender that was cancelled before its first step did not
        await self._redis.aclose()

    async def call(self, *command: Argument) -> Any:
        """Run one command; raise `Busy` where Redis cannot be reached."""
        with _reachable():
            return await self._redis.execute_command(*command)

    async def pipeline(self, commands: Iterable[Sequence[Argument]]) -> list[Any]:
        """Run several commands as one transaction and return their answers."""
        with _reachable():
            pipe = self._redis.pipeline(transaction=True)
            for command in commands:
                pipe.execute_command(*command)
            return list(await pipe.execute())

    async def script(
        self, name: str, run_id: int, *arguments: Argument, also: Sequence[str] = ()
    ) -> Any:
        """Run a script on a run; `also` are further keys after the run's prefix."""
        tail = (1 + len(also), keys.run_prefix(run_id), *also, *arguments)
        loop = asyncio.get_running_loop()
        waiting = PendingCall(self._scripts[name], tail, loop.create_future())
        self._waiting.append(waiting)
        if self._sender is None:
            self._sender = loop.create_task(self._send())
        answer = await waiting.answer
        if isinstance(answer, NoScriptError):
            return await self.call("EVAL", waiting.script.source, *tail)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _send(self) -> None:
        """Make round trips until no script waits; a lost connection answers all that do."""
        batch: list[PendingCall] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                try:
                    answers = await self._trip(batch)
                except Busy:
                    batch, self._waiting = batch + self._waiting, []
                    answers = [_unreachable() for _ in batch]
                for waiting, answer in zip(batch, answers, strict=True):
                    if not waiting.answer.done():
                        waiting.answer.set_result(answer)
        finally:
            self._waiting, self._sender = batch + self._waiting, None
            self._abandon()

    def _abandon(self) -> None:
        """Answer whoever still waits: nobody may wait for a sender that is gone, whatever ended it;
        nor be cancelled by it, for a cancelled background job ends without a word.
        """
        for waiting in self._waiting:
            if not waiting.answer.done():
                waiting.answer.set_result(_unreachable())
        self._waiting = []

    async def _trip(self, batch: Sequence[PendingCall]) -> list[Any]:
        with _reachable():
            pipe = self._redis.pipeline(transaction=False)
            for waiting in batch:
                pipe.execute_command("EVALSHA", waiting.script.sha, *waiting.tail)
            return list(await pipe.execute(raise_on_error=False))

    async def hash(self, key: str) -> dict[bytes, bytes]:
        """Return a whole hash; empty where there is none."""
        found: dict[bytes, bytes] = await self.call("HGETALL", key)
        return found

    async def admit_request(
        self, who: str, cost: int = 1, *, rate: float, burst: int, now: float
    ) -> None:
        """Spend what a request of `who` costs; raise `TooManyRequests` saying when to come back."""
        bucket = (keys.bucket(who),)
        wait = await self.script("admit_request", 0, rate, burst, now, cost, "", also=bucket)
        require_no_wait(wait, who)

    async def charge(self, who: str, cost: int, *, rate: float, burst: int, now: float) -> None:
        """Spend in any case: what is not there is owed, a burst at most."""
        bucket = (keys.bucket(who),)
        await self.script("admit_request", 0, rate, burst, now, cost, "1", also=bucket)

    @asynccontextmanager
    async def lock(self, run_id: int, name: str, owner: str, seconds: int) -> AsyncIterator[bool]:
        """Hold a run's named lock while inside; yields whether it was free or already ours."""
        key = keys.run_prefix(run_id) + name
        held = await self.call("SET", key, owner, "NX", "EX", seconds)
        if not held:
            held = await self.call("GET", key) == owner.encode()
            if held:
                await self.call("EXPIRE", key, seconds)
        yield bool(held)


class _reachable:  # noqa: N801 - reads as a statement in `with`
    """Turn the client library's connection errors into `Busy`."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (RedisConnectionError, RedisTimeoutError, OSError)):
            raise _unreachable() from error


def _unreachable() -> Busy:
    return Busy(
        "the orchestrator's queue does not answer; nothing was lost: send the same again",
        retry_after_seconds=1.0,
    )


def require_no_wait(wait: bytes | int, who: str) -> None:
    """Raise `TooManyRequests` where a script's bucket was empty."""
    if wait:
        raise TooManyRequests.of(who, float(wait))


def _scripts() -> dict[str, Script]:
    folder = files("orchestrator.store").joinpath("lua")
    prelude = folder.joinpath("standing.lua").read_text()
    found = {}
    for entry in folder.iterdir():
        name = entry.name.removesuffix(".lua")
        if entry.name.endswith(".lua") and name != "standing":
            source = prelude + "\n" + entry.read_text()
            found[name] = Script(source, sha1(source.encode(), usedforsecurity=False).hexdigest())
    return found
