"""The only door to Redis: connection, scripts, and typed access to what `keys.py` names.

Every step that must be atomic is one Lua script; everything here may be repeated after a crash.
Rules live elsewhere: this file moves values. A lost connection surfaces as `Busy`, and the client
library reconnects with the next command.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError
from redis.exceptions import TimeoutError as RedisTimeoutError

from orchestrator import keys
from protocol.errors import Busy, TooManyRequests

Argument = bytes | str | int | float


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the name Redis caches it under."""

    source: str
    sha: str


class Queue:
    """One connection pool and the compiled scripts."""

    def __init__(self, url: str) -> None:
        self._redis: Redis = Redis.from_url(url, socket_connect_timeout=5, socket_timeout=15)
        self._scripts = _scripts()

    async def close(self) -> None:
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
        script = self._scripts[name]
        numkeys = 1 + len(also)
        tail = (numkeys, keys.run_prefix(run_id), *also, *arguments)
        try:
            return await self.call("EVALSHA", script.sha, *tail)
        except NoScriptError:
            return await self.call("EVAL", script.source, *tail)

    async def hash(self, key: str) -> dict[bytes, bytes]:
        """Return a whole hash; empty where there is none."""
        found: dict[bytes, bytes] = await self.call("HGETALL", key)
        return found

    async def admit_request(self, who: str, *, rate: float, burst: int, now: float) -> None:
        """Spend one request of `who`; raise `TooManyRequests` saying when to come back."""
        wait = await self.script("admit_request", 0, rate, burst, now, also=(keys.bucket(who),))
        require_no_wait(wait, who)

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
            raise Busy(
                "the orchestrator's queue does not answer; nothing was lost: send the same again",
                retry_after_seconds=1.0,
            ) from error


def require_no_wait(wait: bytes | int, who: str) -> None:
    """Raise `TooManyRequests` where a script's bucket was empty."""
    if wait:
        seconds = float(wait)
        raise TooManyRequests(
            f"too many requests from {who}: come back in {seconds:.2f} s",
            retry_after_seconds=round(seconds + 0.01, 2),
        )


def _scripts() -> dict[str, Script]:
    folder = files("orchestrator").joinpath("lua")
    prelude = folder.joinpath("standing.lua").read_text()
    found = {}
    for entry in folder.iterdir():
        name = entry.name.removesuffix(".lua")
        if entry.name.endswith(".lua") and name != "standing":
            source = prelude + "\n" + entry.read_text()
            found[name] = Script(source, sha1(source.encode(), usedforsecurity=False).hexdigest())
    return found
