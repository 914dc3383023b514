"""The connection to Redis and its scripts: the rest of this package sends everything through here.

Every step that must be atomic is one Lua script; everything here may be repeated after a crash.
Rules live elsewhere: this file moves values. A Redis that does not serve, for whatever reason of its own,
surfaces as `Away` (`outage.py`), and the client library reconnects with the next command.

Scripts asked for while others are under way travel together in the next round trip: each stays one
atomic step of its own, and under load a trip's cost is shared by a dozen of them.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from orchestrator.store import keys
from orchestrator.store.condition import PROBE_SECONDS, Finding, facts_of, findings
from orchestrator.store.outage import Away, Outage, trouble_of
from protocol.errors import TooManyRequests
from protocol.user_error import UserError, one_line

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
        self._place = place_of(url)
        try:
            self._redis: Redis = Redis.from_url(
                url, password=password or None, socket_connect_timeout=5, socket_timeout=15
            )
            pool = self._redis.connection_pool
            pool.make_connection()  # raises for options of the URL that it does not know
            if pool.connection_kwargs.get("decode_responses"):
                raise ValueError("decode_responses would change what is read: leave it out")
        except (ValueError, TypeError, OSError) as error:
            raise UserError(
                f"redis_url = {self._place} is none ({one_line(error)}): write redis://host:6379/0, "
                "rediss://… or unix:///path"
            ) from error
        self._outage = Outage("Redis", self._place)
        self._told: set[Finding] = set()
        self._scripts = _scripts()
        self._waiting: list[PendingCall] = []
        self._sender: asyncio.Task[None] | None = None

    async def look(self) -> list[Finding]:
        """Return what is to be known of this Redis; raise `Away` where it may yet come."""
        try:
            return findings(await facts_of(self._redis))
        except (RedisError, OSError) as error:
            trouble = trouble_of(error)
            if trouble is not None and trouble.passes:
                raise self._outage.refusal(
                    trouble.words, trouble.remedy, detail=one_line(error)
                ) from error
            what = trouble.words if trouble else f"it answers {one_line(error)}"
            return [Finding(what, trouble.remedy if trouble else "name another Redis", True)]

    async def require_fit(self) -> None:
        """Tell what is to be known of this Redis; raise `UserError` where no market can be on it.

        One that is away may yet come, and is looked at when it does.
        """
        try:
            found = await self.look()
        except Away:
            return
        for finding in found:
            if finding.is_fatal:
                raise UserError(f"redis_url = {self._place}: {finding.what}: {finding.remedy}")
        self._tell(found)
        with suppress(Away):
            await self.require_writable()  # or the log says why not

    async def require_writable(self) -> None:
        """Raise `Away` unless Redis takes a write: a full one answers everything else."""
        await self.call("SET", keys.PROBE, 1, "EX", PROBE_SECONDS)

    async def close(self) -> None:
        """Close the connections; scripts still waiting are not answered."""
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
        self._abandon()  # a sender that was cancelled before its first step did not
        await self._redis.aclose()

    async def call(self, *command: Argument) -> Any:
        """Run one command; raise `Away` where Redis does not serve."""
        async with _Serving(self):
            return await self._redis.execute_command(*command)

    async def pipeline(self, commands: Iterable[Sequence[Argument]]) -> list[Any]:
        """Run several commands as one transaction and return their answers."""
        async with _Serving(self):
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
            raise self.away(answer) or answer
        return answer

    async def _send(self) -> None:
        """Make round trips until no script waits; a lost connection answers all that do."""
        batch: list[PendingCall] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                try:
                    answers = await self._trip(batch)
                except Away as away:
                    batch, self._waiting = batch + self._waiting, []
                    answers = [away.copy() for _ in batch]
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
                gone = "the orchestrator is closing; nothing was lost: send the same again"
                waiting.answer.set_result(Away(gone, retry_after_seconds=1.0))
        self._waiting = []

    async def _trip(self, batch: Sequence[PendingCall]) -> list[Any]:
        async with _Serving(self):
            pipe = self._redis.pipeline(transaction=False)
            for waiting in batch:
                pipe.execute_command("EVALSHA", waiting.script.sha, *waiting.tail)
            return list(await pipe.execute(raise_on_error=False))

    async def hash(self, key: str) -> dict[bytes, bytes]:
        """Return a whole hash; empty where there is none."""
        found: dict[bytes, bytes] = await self.call("HGETALL", key)
        return found

    @asynccontextmanager
    async def lock(self, key: str, owner: str, seconds: int) -> AsyncIterator[bool]:
        """Hold a lock while inside; yields whether it was free or already ours."""
        held = await self.call("SET", key, owner, "NX", "EX", seconds)
        if not held:
            held = await self.call("GET", key) == owner.encode()
            if held:
                await self.call("EXPIRE", key, seconds)
        yield bool(held)

    def away(self, error: Exception) -> Away | None:
        """Tell the log why Redis does not serve; return the refusal, or None for a defect of ours."""
        trouble = trouble_of(error)
        if isinstance(error, Away) or trouble is None:
            return None
        return self._outage.refusal(trouble.words, trouble.remedy, detail=one_line(error))

    async def find_over(self) -> None:
        """Where Redis did not serve, see by a write whether it does again: a full one can be read."""
        if not self._outage.may_be_over():
            return
        try:
            await self._redis.execute_command("SET", keys.PROBE, 1, "EX", PROBE_SECONDS)
        except (RedisError, OSError):
            return
        self._outage.over()
        with suppress(Away):
            self._tell(await self.look())  # it may have come back as another

    def _tell(self, found: Sequence[Finding]) -> None:
        log = structlog.get_logger()
        for finding in (f for f in found if f not in self._told):
            say = log.error if finding.is_fatal else log.warning
            say("Redis", place=self._place, found=finding.what, remedy=finding.remedy)
        self._told.update(found)


class _Serving:
    """Turns the errors of a Redis that does not serve into `Away`, and notes when it serves again."""

    __slots__ = ("_queue",)

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            await self._queue.find_over()
        elif isinstance(error, (RedisError, OSError)) and (away := self._queue.away(error)):
            raise away from error


def place_of(url: str) -> str:
    """Return a Redis's address as it may be shown: without a password and options."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    name = user.partition(":")[0]
    return f"{parts.scheme}://{name}{'@' if name else ''}{host}{parts.path}"


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
