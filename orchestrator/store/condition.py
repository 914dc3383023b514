"""Whether a Redis can hold a market: looked at before anybody is served, and each time it came back.

What would lose records or refuse every request is fatal; the rest is told. What a managed Redis does not
let its users see is said, and never taken for good.
"""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from orchestrator.store import keys
from orchestrator.store.outage import OTHER_REDIS

OLDEST = (6, 0)
"""The first version with users and with HELLO; scripts are replicated by their effects since 5.0."""
NEARLY_FULL = 0.9
PROBE_SECONDS = 60

COMMANDS = {
    **dict.fromkeys(
        ("DEL", "EXISTS", "GET", "HGETALL", "PERSIST", "SCARD", "SMEMBERS", "ZCARD"), 1
    ),
    **dict.fromkeys(("EXPIRE", "HDEL", "HEXISTS", "HGET", "HMGET", "INCRBY", "SADD", "SET"), 2),
    **dict.fromkeys(("SISMEMBER", "SREM", "ZREM", "ZSCORE"), 2),
    **dict.fromkeys(("HINCRBY", "HSET", "HSETNX", "XREAD", "ZADD", "ZCOUNT", "ZRANGE"), 3),
    **dict.fromkeys(("ZRANGEBYSCORE", "ZREMRANGEBYSCORE", "ZREVRANGE"), 3),
    "XADD": 4,
    "INFO": 0,
}
"""What the store and its scripts send, and the fewest words that each takes."""
TRY = """
local lacking = {}
for i = 1, #ARGV, 2 do
  local words = {}
  for j = 1, tonumber(ARGV[i + 1]) do words[j] = KEYS[1] end
  local answer = redis.pcall(ARGV[i], unpack(words))
  local problem = type(answer) == 'table' and answer.err or ''
  if string.match(problem, "can't run") or string.match(problem, "can't access")
    or string.match(problem, 'NOPERM') or string.match(problem, '[Uu]nknown .*command') then
    lacking[#lacking + 1] = ARGV[i]
  end
end
redis.pcall('DEL', KEYS[1])
return lacking
"""
"""Call each command on a key of its own; most are refused for their words, after their permission."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know of a Redis; a fatal one must be mended before a market opens on it."""

    what: str
    remedy: str
    is_fatal: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What could be looked at; `None` where Redis does not let its user see."""

    info: Mapping[str, Any] | None
    saves: str | None
    """When it makes snapshots, as its `save` says; empty for never."""
    lacking: tuple[str, ...] = ()
    """Commands that its user may not use, or that it does not know."""


async def facts_of(redis: Redis) -> Facts:
    """Look at a Redis; raise what it answers where it lets nobody in."""
    await redis.execute_command("PING")
    words = [str(word) for command in COMMANDS.items() for word in command]
    lacking = await redis.execute_command("EVAL", TRY, 1, keys.PROBE, *words)
    lacking += [name for name, ask in _sent_alone(redis) if await _is_refused(ask)]
    info = await _seen(redis, "INFO")
    saves = await _seen(redis, "CONFIG", "GET", "save")
    return Facts(
        info=info,
        saves=None if saves is None else str(_text(dict(saves), "save")),
        lacking=tuple(name.decode() for name in lacking),
    )


def _sent_alone(redis: Redis) -> tuple[tuple[bytes, Awaitable[Any]], ...]:
    """Return what no script can call and the store sends."""
    pair = redis.pipeline(transaction=True)
    pair.execute_command("PING")
    unknown = redis.execute_command("EVALSHA", "0" * 40, 0)
    return (b"EVALSHA", unknown), (b"MULTI", pair.execute())


async def _is_refused(ask: Awaitable[Any]) -> bool:
    try:
        await ask
    except NoPermissionError:
        return True
    except ResponseError as error:
        return any(part in str(error).lower() for part in ("unknown command", "without multi"))
    return False


async def _seen(redis: Redis, *command: str) -> Any:
    """Return what a command shows, or None where it is forbidden, renamed or unknown."""
    try:
        found = await redis.execute_command(*command)
    except (NoPermissionError, ResponseError):
        return None
    return found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=False))


def _text(values: Mapping[Any, Any], name: str) -> str:
    found = values.get(name, values.get(name.encode(), ""))
    return found.decode() if isinstance(found, bytes) else str(found)


def findings(facts: Facts) -> list[Finding]:
    """Return what is to be known of a Redis, the fatal first."""
    found = []
    if facts.lacking:
        names = ", ".join(facts.lacking)
        found.append(
            Finding(f"it does not let its user run {names}", "grant it: +@all ~rollcall:*", True)
        )
    if facts.info is None:
        unseen = "INFO is forbidden: version, role, memory and persistence could not be looked at"
        return [*found, Finding(unseen, "let its user run INFO, or look at them by hand")]
    for rule in (_version, _role, _eviction, _room, _persistence):
        found += rule(facts, facts.info)
    return sorted(found, key=lambda finding: not finding.is_fatal)


def _version(_: Facts, info: Mapping[str, Any]) -> list[Finding]:
    version = _text(info, "redis_version")
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if len(parts) < 2 or parts >= OLDEST:
        return []
    oldest = ".".join(map(str, OLDEST))
    return [Finding(f"it is version {version}", f"install {oldest} or newer", True)]


def _role(_: Facts, info: Mapping[str, Any]) -> list[Finding]:
    if _text(info, "cluster_enabled") == "1":
        what = "it is in cluster mode, and a market's atomic steps touch keys of several slots"
        return [Finding(what, OTHER_REDIS, True)]
    if _text(info, "role") == "slave":
        primary = f"{_text(info, 'master_host')}:{_text(info, 'master_port')}"
        return [
            Finding(f"it is a read-only replica of {primary}", "name the primary instead", True)
        ]
    return []


def _eviction(_: Facts, info: Mapping[str, Any]) -> list[Finding]:
    limit, policy = _number(info, "maxmemory"), _text(info, "maxmemory_policy")
    if not limit or policy == "noeviction":
        return []
    if not policy:
        return [Finding("maxmemory-policy could not be looked at", "see that it is noeviction")]
    lost = "the records of work" if policy.startswith("allkeys") else "what stops replayed sign-ins"
    what = f"with maxmemory-policy {policy} it forgets {lost} once {limit} bytes are full"
    return [Finding(what, "set maxmemory-policy to noeviction", True)]


def _room(_: Facts, info: Mapping[str, Any]) -> list[Finding]:
    limit, used = _number(info, "maxmemory"), _number(info, "used_memory")
    if not limit or used < NEARLY_FULL * limit:
        return []
    what = f"{used} of its maxmemory of {limit} bytes are used"
    return [Finding(what, "raise maxmemory: a full one refuses every lease and submission")]


def _persistence(facts: Facts, info: Mapping[str, Any]) -> list[Finding]:
    remedy = (
        "set appendonly yes; leases and drops that it forgets are lost, work with a receipt is not"
    )
    found = []
    if _text(info, "aof_enabled") == "1":
        if _text(info, "aof_last_write_status") == "err":
            found.append(Finding("its last write to disk failed", "make room on its disk"))
    elif facts.saves is None:
        what = "it keeps no append-only file, and CONFIG, which shows its snapshots, is forbidden"
        found.append(Finding(what, remedy))
    elif facts.saves:
        what = f"it keeps snapshots alone (save {facts.saves}): a crash sets it back to the last"
        found.append(Finding(what, remedy))
    else:
        found.append(Finding("it keeps nothing on disk: a restart empties it", remedy))
    if _text(info, "rdb_last_bgsave_status") == "err":
        found.append(Finding("its last snapshot failed", "make room on its disk, and read its log"))
    return found


def _number(info: Mapping[str, Any], name: str) -> int:
    text = _text(info, name)
    return int(text) if text.isdecimal() else 0
