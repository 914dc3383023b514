"""A Redis of a test's own, which can be set back to an earlier moment or emptied, as a crash may do."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.conftest import redis_binary
from tests.stage.waiting import require_alive, started, wait_until


class CrashingRedis:
    """One server with an append-only log; each `start` goes on from what the log then holds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._address = folder / "redis.sock"
        self._running: Any = None
        folder.mkdir()

    @property
    def url(self) -> str:
        return f"unix://{self._address}"

    @property
    def _log(self) -> Path:
        return self._folder / "appendonly.aof"

    def start(self) -> None:
        words = [redis_binary(), "--port", "0", "--unixsocket", str(self._address), "--save", ""]
        words += ["--appendonly", "yes", "--appendfsync", "everysec", "--dir", str(self._folder)]
        self._running = started(words, cwd=self._folder, stdout=subprocess.DEVNULL)
        self._process = self._running.__enter__()
        wait_until(self._answers, check=lambda: require_alive(self._process))

    def crash(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._running.__exit__(None, None, None)
        self._address.unlink(missing_ok=True)

    def mark(self) -> int:
        """Return this moment's place in the log."""
        return self._log.stat().st_size

    def lose(self, mark: int) -> None:
        """Crash, and go on from the log as it was at a mark; 0 for an empty one."""
        self.crash()
        with self._log.open("r+b") as file:
            file.truncate(mark)
        self.start()

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.exceptions.ConnectionError:
            return False


@contextmanager
def crashing_redis(folder: Path) -> Iterator[CrashingRedis]:
    server = CrashingRedis(folder)
    server.start()
    try:
        yield server
    finally:
        server.crash()
