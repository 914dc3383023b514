"""Stopping a demo: Ctrl-C ends every process it started; a start that fails says which part."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rollcall.embedded import free_port, redis_command, wait_for_redis
from rollcall.processes import Processes
from rollcall.user_error import UserError


def processes_about(folder: Path) -> list[int]:
    """Return the pids whose command line or environment names the folder."""
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


def wait_for_log(folder: Path, name: str, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while not (folder / "market" / "logs" / f"{name}.log").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"{name} was never started"
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_demo_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "rollcall", "demo", "--report", str(tmp_path), "--plain"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for_log(tmp_path, "worker-cheat", process)
    assert len(processes_about(tmp_path)) >= 7
    process.send_signal(number)
    output, _ = process.communicate(timeout=40)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert processes_about(tmp_path) == []


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
