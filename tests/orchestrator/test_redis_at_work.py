"""Redis is any Redis at work: what becomes wrong with one is told rarely, with its cause, and nothing is lost."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import AuthenticationError, BusyLoadingError, MasterDownError, ResponseError
from structlog.testing import capture_logs

from local.voice import AGAIN_SECONDS
from orchestrator.jobs import Service
from orchestrator.store import condition, keys
from orchestrator.store.outage import Away, Outage, trouble_of
from orchestrator.store.store import Store
from tests.orchestrator.test_large_epochs import settle_all
from tests.orchestrator.test_settling import earn
from tests.stage.ground import Ground
from tests.stage.place import Place, opened
from tests.stage.queue import AnyRedis, redis_with

KEPT = "appendonly yes"


@pytest.fixture
def odd(ground: Ground, tmp_path: Path) -> Iterator[tuple[Place, AnyRedis]]:
    """A market on a Redis of its own."""
    with (
        redis_with(tmp_path / "r", KEPT, "lua-time-limit 10") as server,
        opened(ground, server.url, tmp_path / "blobs") as place,
    ):
        yield place, server


def fill(owner: redis.Redis) -> Callable[[], Any]:
    owner.config_set("maxmemory", 1)
    return lambda: owner.config_set("maxmemory", 0)


def demote(owner: redis.Redis) -> Callable[[], Any]:
    owner.execute_command("REPLICAOF", "127.0.0.1", "1")
    return lambda: owner.execute_command("REPLICAOF", "NO", "ONE")


def orphan(owner: redis.Redis) -> Callable[[], Any]:
    owner.config_set("replica-serve-stale-data", "no")
    return demote(owner)


def spoil(owner: redis.Redis) -> Callable[[], Any]:
    """Let its snapshots fail: a folder that holds something stands in their place."""
    Path(str(owner.config_get("dir")["dir"]), "dump.rdb", "something").mkdir(parents=True)
    owner.config_set("appendonly", "no")
    owner.config_set("save", "3600 1")
    owner.execute_command("BGSAVE")
    while owner.info("persistence")["rdb_last_bgsave_status"] == "ok":
        continue
    return lambda: owner.config_set("save", "")


def lock(owner: redis.Redis) -> Callable[[], Any]:
    owner.config_set("requirepass", "secret")
    owner.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    return lambda: owner.config_set("requirepass", "")


def crowd(owner: redis.Redis) -> Callable[[], Any]:
    owner.config_set("min-replicas-to-write", 1)
    return lambda: owner.config_set("min-replicas-to-write", 0)


def forbid(owner: redis.Redis) -> Callable[[], Any]:
    owner.execute_command("ACL", "SETUSER", "default", "-set", "-hset")
    return lambda: owner.execute_command("ACL", "SETUSER", "default", "+@all")


@pytest.mark.parametrize(
    ("break_it", "cause"),
    [
        (fill, "its memory is full"),
        (demote, "it is a read-only replica"),
        (orphan, "it is a"),
        (spoil, "it cannot save to its disk"),
        (lock, "it asks for a password"),
        (crowd, "too few of its replicas are there"),
        (forbid, "its user may not use what a market needs"),
    ],
)
def test_a_redis_that_refuses_is_busy_with_its_cause_and_told_once(
    odd: tuple[Place, AnyRedis], break_it: Callable[[redis.Redis], Callable[[], Any]], cause: str
) -> None:
    place, server = odd
    alice = place.party("alice")
    signed = alice.leases(2)
    bodies = [alice.submission(s.lease) for s in signed]
    with server.owner() as owner, capture_logs() as said:
        mend = break_it(owner)
        for _ in range(3):
            refused = alice.submit(bodies[0])
            assert (refused.status_code, refused.json()["code"]) == (503, "busy"), refused.text
            assert cause in refused.json()["message"]
        ready = place.get("/readyz")
        assert ready.status_code == 503
        assert cause in ready.text
        assert place.get("/healthz").status_code == 200
        told = [entry for entry in said if entry["event"].startswith("Redis does not serve")]
        assert len(told) == len({entry["reason"] for entry in told}), "a cause is told once"
        assert told[0]["reason"].startswith(cause)
        assert told[0]["place"] == server.url
        assert not any("exception" in entry or "exc_info" in entry for entry in said)
        assert not any("send the same again" in str(entry) for entry in said)
        mend()
        while place.get("/readyz").status_code != 200:
            continue
        while not any(entry["event"].startswith("Redis answers again") for entry in said):
            place.get("/readyz")
        assert alice.submit(bodies[1]).status_code == 200


def test_a_script_that_holds_redis_is_named(odd: tuple[Place, AnyRedis]) -> None:
    place, server = odd
    endless = threading.Thread(target=lambda: hold(server))
    endless.start()
    with server.owner() as owner:
        while not is_busy(owner):
            continue
        refused = place.party("v0").lease() if "v0" in place.parties else place.get("/readyz")
        assert "another program's script holds it" in refused.text
        owner.execute_command("SCRIPT", "KILL")
        endless.join()
        while place.get("/readyz").status_code != 200:
            continue


def hold(server: AnyRedis) -> None:
    with server.owner() as other, contextlib.suppress(redis.RedisError):
        other.eval("while true do end", 0)


def is_busy(owner: redis.Redis) -> bool:
    try:
        owner.ping()
    except ResponseError:
        return True
    return False


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MasterDownError("Link with MASTER is down"), "it is a replica that lost its primary"),
        (AuthenticationError("Client sent AUTH, but no password is set"), "it has no password"),
        (BusyLoadingError("Redis is loading the dataset in memory"), "it is loading its data"),
        (ResponseError("MISCONF Redis is configured to save RDB"), "it cannot save to its disk"),
        (
            ResponseError(
                "Error running script (call to f_1): @user_script:1: -OOM command not allowed"
            ),
            "its memory is full",
        ),
        (redis.TimeoutError("Timeout reading from socket"), "it does not answer in time"),
        (TimeoutError(), "it does not answer in time"),
        (redis.ConnectionError("max number of clients reached"), "it takes no more connections"),
    ],
)
def test_causes_are_told_by_what_redis_says(error: Exception, words: str) -> None:
    found = trouble_of(error)
    assert found is not None
    assert found.words == words


@pytest.mark.parametrize(
    "text", ["WRONGTYPE Operation against a key", "value is not an integer", "@user_script: 3: nil"]
)
def test_a_defect_of_ours_stays_an_error(text: str) -> None:
    assert trouble_of(ResponseError(text)) is None


def test_an_outage_is_told_at_once_then_rarely_and_when_it_is_over() -> None:
    now = [100.0]
    outage = Outage("Redis", "redis://h:1/0", clock=lambda: now[0])

    def events(during: Callable[[], object]) -> list[str]:
        with capture_logs() as said:
            during()
        return [entry["event"] for entry in said]

    def refuse() -> object:
        return outage.refusal("it cannot be reached", "start it")

    assert events(outage.over) == []
    assert events(refuse) == ["Redis does not serve: trying again"]
    assert events(lambda: [refuse() for _ in range(1_000)]) == []
    now[0] += AGAIN_SECONDS - 1
    assert events(refuse) == []
    now[0] += 1
    assert events(refuse) == ["Redis does not serve: trying again"]
    assert events(lambda: outage.refusal("its memory is full", "raise it")) != [], "another cause"
    now[0] += 31
    assert outage.may_be_over()
    assert not outage.may_be_over(), "once a second"
    assert events(outage.over) == [f"Redis answers again after {AGAIN_SECONDS + 31:.0f} s"]
    assert events(refuse) == [], "one that comes and goes is told as rarely"
    assert events(outage.over) == []


def test_jobs_that_meet_an_absent_redis_leave_it_to_one_line(
    ground: Ground, tmp_path: Path
) -> None:
    """R4: eleven lines a second, in words meant for a client and without a reason."""
    with (
        redis_with(tmp_path / "r", KEPT) as server,
        opened(ground, server.url, tmp_path / "blobs", config={"tick_seconds": 0.01}) as place,
    ):
        service = Service(place.services)
        failures = place.services.metrics.background_failures

        def failed() -> float:
            [metric] = failures.collect()
            samples = metric.samples
            return sum(s.value for s in samples if s.name.endswith("_total"))

        with server.owner() as owner, capture_logs() as said:
            mend = fill(owner)
            place.call(begin, service)
            while failed() < 20:
                place.get("/healthz")
            place.call(service.close)
            mend()
    told = [entry for entry in said if entry["log_level"] in ("warning", "error", "critical")]
    assert [entry["reason"] for entry in told] == ["its memory is full"]
    assert not any("send the same again" in str(entry) for entry in said)


async def begin(service: Service) -> None:
    service.start()


def test_a_redis_that_comes_back_as_another_is_looked_at_again(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store(server.url)
        await store.require_fit()
        with server.owner() as owner:
            owner.config_set("maxmemory", 1)
            with pytest.raises(Away):
                await store.runs.answers()
            owner.config_set("maxmemory", 1 << 30)
            owner.config_set("maxmemory-policy", "allkeys-lru")
            while not any("forgets" in str(entry.get("found")) for entry in said):
                with contextlib.suppress(Away):
                    await store.runs.answers()
        await store.close()

    with redis_with(tmp_path / "r", KEPT) as server, capture_logs() as said:
        asyncio.run(run())
    assert [entry["log_level"] for entry in said if "found" in entry] == ["error"]


def test_the_probe_is_no_run_and_goes_by_itself(odd: tuple[Place, AnyRedis]) -> None:
    place, server = odd
    assert place.get("/readyz").status_code == 200
    with server.owner() as owner:
        assert 0 < owner.ttl(keys.PROBE) <= condition.PROBE_SECONDS


def test_a_market_runs_on_a_managed_redis(ground: Ground, tmp_path: Path) -> None:
    """A password, no CONFIG, no dangerous commands, little memory: leases to final epochs."""
    lines = (
        "user default on >managed ~rollcall:* &* +@all -@dangerous +info",
        "maxmemory 16mb",
        "maxmemory-policy noeviction",
    )
    with (
        redis_with(tmp_path / "r", *lines) as server,
        opened(
            ground,
            f"redis://{server.address}/0",
            tmp_path / "blobs",
            redis_password="managed",
            groups_per_batch=2,
        ) as place,
    ):
        findings = place.call(place.services.store.look)
        assert [finding.is_fatal for finding in findings] == [False]
        tokens = earn(place, "alice", 2)
        assert place.take_batch(0) is not None
        assert place.publish(1).status_code == 204
        settle_all(place)
        run = place.ground.by("stranger").run(place.run_id)
        assert run.finalised == tokens * place.spec.rate
        assert place.get("/readyz").status_code == 200
