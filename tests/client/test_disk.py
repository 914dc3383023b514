"""Totals and caches on a disk that damages or refuses them: neither keeps a role from its work."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from client.counters import Counters

DAMAGED = [
    b"",
    b"{",
    b'{"tokens": 5',
    b"[]",
    b"null",
    b"7",
    b"\xff\xfe",
    b'{"versions": 3}',
    bytes(64),
]


@pytest.mark.parametrize("left", DAMAGED)
def test_totals_that_cannot_be_read_begin_anew_and_are_kept_aside(
    tmp_path: Path, left: bytes
) -> None:
    """W5: the file holds totals only, and no decision waits for them."""
    path = tmp_path / "worker.json"
    path.write_bytes(left)
    with capture_logs() as said:
        counters = Counters(tmp_path, "worker")
    told = [entry["file"] for entry in said if entry["event"] == "file is damaged"]
    counters.add("tokens", 5)
    counters.write(now=True)
    assert json.loads(path.read_text())["tokens"] == 5
    assert told == [str(path)]
    assert (tmp_path / "worker.json.damaged").read_bytes() == left


def test_whole_totals_go_on(tmp_path: Path) -> None:
    first = Counters(tmp_path, "worker")
    first.add("tokens", 5)
    first.used_policy(1, 0, bytes(32), 2)
    first.write(now=True)
    again = Counters(tmp_path, "worker")
    again.add("tokens", 2)
    assert again.snapshot()["tokens"] == 7
    assert again.snapshot()["versions"] == first.snapshot()["versions"]


def test_a_cache_that_cannot_keep_is_still_a_cache(tmp_path: Path) -> None:
    """In a process of its own, whose files may not grow beyond a kilobyte."""
    code = f"""
import resource, signal
from pathlib import Path
from client.cache import ContentCache
from protocol.canonical import content_digest
cache = ContentCache(Path({str(tmp_path)!r}), max_bytes=10_000)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))
small, large = bytes(10), bytes(5_000)
for data in (small, large):
    cache.put(content_digest(data), data)
print(cache.get(content_digest(small)) == small, cache.get(content_digest(large)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True None"
    assert "nothing is cached" in done.stdout
