"""Stopping a demo: Ctrl-C, SIGTERM and `kill -9` end every process it started; a start that fails says
which part.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from protocol.user_error import UserError
from rollcall.demo.processes import Processes
from rollcall.demo.services import free_port, redis_command, wait_for_redis
from tests.stage.waiting import require_alive, started, wait_until


def processes_about(folder: Path) -> list[int]:
    """Return the pids whose command line names the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in words:
                found.append(int(entry.name))
    return found


@contextmanager
def demo(folder: Path, until: str = "worker-cheat") -> "Iterator[subprocess.Popen[str]]":
    """Start a demo and wait until this part of it is started; the default is its last."""
    words = [sys.executable, "-m", "rollcall", "demo", "--report", str(folder), "--plain"]
    log, last = folder / "said.txt", folder / "market" / "logs" / f"{until}.log"
    with log.open("w") as said, started(words, stdout=said, stderr=said) as process:
        wait_until(last.exists, check=lambda: require_alive(process, log))
        yield process


@pytest.mark.parametrize(
    ("number", "until"), [(signal.SIGINT, "worker-cheat"), (signal.SIGTERM, "chain")]
)
def test_a_stopped_demo_leaves_no_process(
    tmp_path: Path, number: signal.Signals, until: str
) -> None:
    with demo(tmp_path, until) as process:
        assert len(processes_about(tmp_path)) >= (7 if until == "worker-cheat" else 2)
        process.send_signal(number)
        process.wait()
        said = (tmp_path / "said.txt").read_text()
        assert process.returncode == 130, said
        assert "Traceback" not in said
        assert processes_about(tmp_path) == []


def test_a_killed_demo_leaves_no_process(tmp_path: Path) -> None:
    """What a child's own children do then is `tests/rollcall/test_processes.py`'s."""
    with demo(tmp_path) as process:
        assert len(processes_about(tmp_path)) >= 7
        process.kill()
        process.wait()
        wait_until(lambda: not processes_about(tmp_path))


def test_a_failed_start_names_the_part_and_shows_its_log(tmp_path: Path) -> None:
    port = free_port()
    with Processes(tmp_path / "logs") as processes:
        processes.start(redis_command(tmp_path / "first", port))
        wait_for_redis(processes, port)
        second = redis_command(tmp_path / "second", port)
        processes.start(second)
        with pytest.raises(UserError) as raised:
            while True:
                processes.check()
                time.sleep(0.05)
    assert "redis ended with 1" in str(raised.value)
    assert "Address already in use" in str(raised.value)
