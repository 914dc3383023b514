"""Redis is any Redis at the start: what is wrong with one is said in a line with its remedy."""

import asyncio
import contextlib
import http.server
import inspect
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import redis
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from orchestrator.store import condition
from orchestrator.store.condition import COMMANDS, Facts, Finding, findings
from orchestrator.store.outage import Away
from orchestrator.store.store import Store
from protocol.user_error import UserError
from tests.adversarial.secrets.test_logs import PASSWORD, Serving, serving
from tests.stage.queue import redis_with, tls_in_front

__all__ = ["serving"]

KEPT = "appendonly yes"


def looked_at(url: str, password: str = "") -> list[Finding]:
    async def look() -> list[Finding]:
        store = Store(url, password)
        try:
            return await store.look()
        finally:
            await store.close()

    return asyncio.run(look())


def refusal(url: str, password: str = "") -> str:
    """Return the line with which `serve` refuses a Redis."""

    async def begin() -> None:
        store = Store(url, password)
        try:
            await store.require_fit()
        finally:
            await store.close()

    with pytest.raises(UserError) as found:
        asyncio.run(begin())
    line = str(found.value)
    assert "\n" not in line
    assert "Traceback" not in line
    return line


def test_a_redis_that_keeps_all_and_evicts_nothing_has_no_findings(tmp_path: Path) -> None:
    with redis_with(
        tmp_path / "r", KEPT, "maxmemory 100mb", "maxmemory-policy noeviction"
    ) as server:
        assert looked_at(server.url) == []


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("maxmemory 100mb", "maxmemory-policy allkeys-lru"), "forgets the records of work"),
        (("maxmemory 100mb", "maxmemory-policy volatile-lru"), "what stops replayed sign-ins"),
        (("maxmemory 100mb", "maxmemory-policy volatile-ttl"), "what stops replayed sign-ins"),
        (("cluster-enabled yes",), "cluster mode"),
        (("replicaof 127.0.0.1 1",), r"read-only replica of 127\.0\.0\.1:1"),
        (("user default on nopass ~* &* +@all -zadd -xadd",), "run XADD, ZADD|run ZADD, XADD"),
        (("user default on nopass ~other:* &* +@all",), "its user may not use what a market needs"),
        (("user default on nopass ~* &* +@all -eval",), "its user may not use"),
        (("rename-command ZADD ''",), "does not let its user run ZADD"),
        (("rename-command EVALSHA ''",), "does not let its user run EVALSHA"),
        (("rename-command MULTI ''",), "does not let its user run MULTI"),
        (("user default on nopass ~* &* +@all -evalsha",), "does not let its user run EVALSHA"),
        (("requirepass secret",), "it asks for a password: set ROLLCALL_REDIS_PASSWORD"),
    ],
)
def test_what_would_lose_records_or_refuse_everybody_is_refused_in_a_line(
    tmp_path: Path, lines: Sequence[str], said: str
) -> None:
    with redis_with(tmp_path / "r", KEPT, *(line.replace("''", '""') for line in lines)) as server:
        assert re.search(said, refusal(server.url)), refusal(server.url)


def test_a_policy_without_a_limit_evicts_nothing(tmp_path: Path) -> None:
    with redis_with(tmp_path / "r", KEPT, "maxmemory-policy allkeys-lru") as server:
        assert looked_at(server.url) == []


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((), "keeps nothing on disk"),
        (("save 60 1000",), "keeps snapshots alone"),
        (("rename-command CONFIG ''",), "CONFIG, which shows its snapshots, is forbidden"),
        (("user default on nopass ~* &* +@all -config",), "CONFIG, which shows its snapshots"),
        ((KEPT, "maxmemory 900kb"), "of its maxmemory of 921600 bytes are used"),
    ],
)
def test_what_can_be_lived_with_is_told_with_its_remedy(
    tmp_path: Path, lines: Sequence[str], said: str
) -> None:
    with redis_with(tmp_path / "r", *(line.replace("''", '""') for line in lines)) as server:
        [finding] = looked_at(server.url)
        assert said in finding.what
        assert finding.remedy
        assert not finding.is_fatal

        async def begin() -> None:
            store = Store(server.url)
            await store.require_fit()
            await store.close()

        with capture_logs() as logged:
            asyncio.run(begin())
        [told] = [entry["found"] for entry in logged if "found" in entry]
        assert said in told  # its memory differs by some bytes from look to look


def test_a_redis_that_shows_nothing_of_itself_is_served_and_it_is_said(tmp_path: Path) -> None:
    users = "user default on nopass ~* &* +@all -config -info"
    with redis_with(tmp_path / "r", users) as server:
        found = looked_at(server.url)
    # INFO is needed too: scripts tell by it whether Redis began a new life.
    assert [finding.is_fatal for finding in found] == [True, False]
    assert "run INFO" in found[0].what
    assert "could not be looked at" in found[1].what


def test_an_old_version_is_named() -> None:
    info = {"redis_version": "5.0.14", "role": "master", "aof_enabled": "1"}
    [finding] = findings(Facts(info, ""))
    assert (finding.what, finding.is_fatal) == ("it is version 5.0.14", True)
    assert findings(Facts({**info, "redis_version": "6.0.0"}, "")) == []
    assert findings(Facts({**info, "redis_version": "255.255.255"}, "")) == []


@pytest.mark.parametrize(
    ("password", "lines", "said"),
    [
        ("wrong", ("requirepass secret",), "it refuses this user or password"),
        ("", ("requirepass secret",), "it asks for a password: set ROLLCALL_REDIS_PASSWORD"),
    ],
)
def test_a_password_that_does_not_fit_is_named_and_never_shown(
    tmp_path: Path, password: str, lines: Sequence[str], said: str
) -> None:
    with redis_with(tmp_path / "r", KEPT, *lines) as server:
        line = refusal(server.url, password)
        assert said in line
        assert "secret" not in line
        assert looked_at(server.url, "secret" if lines else "") == []


def test_a_user_of_its_own_is_let_in(tmp_path: Path) -> None:
    user = "user market on >mine ~rollcall:* &* +@all -config -flushall"
    with redis_with(tmp_path / "r", KEPT, user) as server:
        assert looked_at(f"redis://market@{server.address}/0", "mine") == []
        line = refusal(f"redis://market@{server.address}/0", "other")
    assert f"redis_url = redis://market@{server.address}/0: it refuses" in line


@pytest.mark.parametrize(
    ("path", "said"),
    [("/99", "it has no database of that number: end redis_url with /0")],
)
def test_a_database_that_is_not_there_is_named(tmp_path: Path, path: str, said: str) -> None:
    with redis_with(tmp_path / "r", KEPT) as server:
        assert said in refusal(f"redis://{server.address}{path}")


def test_a_cluster_is_named_also_where_a_number_is_asked_of_it(tmp_path: Path) -> None:
    with redis_with(tmp_path / "r", KEPT, "cluster-enabled yes") as server:
        with server.owner() as owner, contextlib.suppress(ResponseError):
            owner.execute_command("CLUSTER", "ADDSLOTS", *range(16_384))
        assert "cluster mode" in refusal(server.url)
        assert "it is a cluster: name a Redis" in refusal(f"redis://{server.address}/3")


def test_the_two_keys_of_a_request_are_in_two_slots_of_a_cluster(tmp_path: Path) -> None:
    """What the refusal saves a market from: the first stranger's request would be an error of ours."""
    with redis_with(tmp_path / "r", KEPT, "cluster-enabled yes") as server:
        with server.owner() as owner:
            slots = range(16_384)
            owner.execute_command("CLUSTER", "ADDSLOTS", *slots)

        async def admit() -> None:
            store = Store(server.url)
            try:
                await store.runs.admit_request("a", 1, rate=1.0, burst=1, now=1.0)
            finally:
                await store.close()

        with pytest.raises(Away, match="it is a cluster"):
            asyncio.run(admit())


def test_tls_is_spoken_to_an_authority_of_ones_own_and_what_is_wrong_is_said(
    tmp_path: Path,
) -> None:
    with (
        redis_with(tmp_path / "r", KEPT) as server,
        tls_in_front(server, tmp_path) as (port, authority),
    ):
        url = f"rediss://127.0.0.1:{port}/0"
        assert looked_at(f"{url}?ssl_ca_certs={authority}") == []
        line = refusal(url)
        assert "its certificate is not trusted here: name its authority" in line
        assert "ssl_ca_certs=" in line
        with pytest.raises(Away, match="closes the connection"), capture_logs() as said:
            looked_at(f"redis://127.0.0.1:{port}/0")
        assert "rediss://" in said[0]["remedy"]


@contextlib.contextmanager
def web_server() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_something_else_than_a_redis_is_named() -> None:
    with web_server() as port:
        assert "what answers is no Redis" in refusal(f"redis://127.0.0.1:{port}/0")


def test_a_host_that_is_no_name_is_not_waited_for() -> None:
    assert "its host is no name: look at the host in redis_url" in refusal("redis://a..b:6379/0")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("nosuch=3", "unexpected keyword argument 'nosuch'"),
        ("decode_responses=True", "leave it out"),
        ("socket_timeout=abc", "Invalid value for 'socket_timeout'"),
    ],
)
def test_an_option_that_cannot_be_is_refused_before_anything_is_asked(
    option: str, said: str
) -> None:
    assert said in refusal(f"redis://127.0.0.1:1/0?{option}")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("min-replicas-to-write 1",), "too few of its replicas are there"),
        (("maxmemory 1",), "its memory is full"),
    ],
)
def test_one_that_takes_no_write_is_told_at_the_start(
    tmp_path: Path, lines: Sequence[str], said: str
) -> None:
    async def begin(url: str) -> None:
        store = Store(url)
        await store.require_fit()
        await store.close()

    with redis_with(tmp_path / "r", KEPT, *lines) as server, capture_logs() as logged:
        asyncio.run(begin(server.url))
    assert said in [entry.get("reason") for entry in logged]


@pytest.mark.parametrize("url", ["127.0.0.1:6379", "http://127.0.0.1:6379", "", "redis://h:port/0"])
def test_an_address_that_cannot_be_one_is_refused_with_what_to_write(url: str) -> None:
    assert "write redis://host:6379/0" in refusal(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://127.0.0.1:1/0", "it cannot be reached"),
        ("redis://nobody.invalid:6379/0", "its host is not found"),
        ("unix:///nowhere/redis.sock", "it cannot be reached"),
    ],
)
def test_one_that_may_yet_come_is_waited_for_and_named(url: str, said: str) -> None:
    async def begin() -> None:
        store = Store(url)
        await store.require_fit()
        await store.close()

    with capture_logs() as logged:
        asyncio.run(begin())
    [entry] = logged
    assert entry["event"] == "Redis does not serve: trying again"
    assert (entry["reason"], entry["place"]) == (said, url)


def test_every_command_that_the_store_sends_is_looked_at() -> None:
    folder = Path(inspect.getfile(condition)).parent
    scripts = "\n".join(path.read_text() for path in (folder / "lua").glob("*.lua"))
    sent = set(re.findall(r"(?:redis\.p?call|size)\('([A-Z]+)'", scripts))
    for path in folder.glob("*.py"):
        sent |= set(re.findall(r"\(\s*\"([A-Z]{3,})\",", path.read_text()))
    assert len(sent) > 25
    assert sent <= COMMANDS.keys() | {"EVAL", "EVALSHA", "PING", "CONFIG"}


def test_serve_ends_with_the_line_and_serves_nobody(serving: Serving) -> None:
    with redis.Redis(port=serving.redis_port, password=PASSWORD) as owner:
        owner.config_set("maxmemory", 1 << 30)
        owner.config_set("maxmemory-policy", "volatile-lru")
        [line] = serving.said_by(serving.command()).strip().splitlines()
        assert "with maxmemory-policy volatile-lru it forgets what stops replayed sign-ins" in line
        assert "set maxmemory-policy to noeviction" in line
        owner.config_set("maxmemory-policy", "noeviction")
    [line] = serving.said_by(serving.command("--set", "blob_url=file:///proc/blobs")).splitlines()
    assert "blob_url = file:///proc/blobs takes no blobs" in line
