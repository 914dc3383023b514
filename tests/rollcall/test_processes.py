"""Children of a market: their logs, their failures, and that none outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rollcall.processes import Command, Processes
from rollcall.user_error import UserError

SLEEPER = "import time; print('up', flush=True); time.sleep(60)"


def python(name: str, code: str) -> Command:
    return Command(name, (sys.executable, "-c", code))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} outlived its parent"
        time.sleep(0.02)


def test_leaving_the_block_ends_every_child(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        pids = [processes.start(python(name, SLEEPER)).process.pid for name in ("a", "b")]
        assert all(is_alive(pid) for pid in pids)
    assert not any(is_alive(pid) for pid in pids)


def test_a_child_that_fails_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        child = processes.start(python("chain", "raise SystemExit('port 1 is taken')"))
        child.process.wait()
        with pytest.raises(UserError) as raised:
            processes.check()
    assert "chain ended with 1" in str(raised.value)
    assert "port 1 is taken" in str(raised.value)


def test_a_child_that_may_end_and_succeeds_is_no_failure(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        processes.start(python("trainer", "pass")).process.wait()
        processes.check(may_end=("trainer",))
        with pytest.raises(UserError, match="trainer ended with 0"):
            processes.check()


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEPER
    with Processes(tmp_path) as processes:
        child = processes.start(python("stubborn", stubborn))
        while "up" not in child.log.read_text():
            time.sleep(0.02)
        processes.stop(["stubborn"], seconds=0.2)
        assert child.process.returncode == -signal.SIGKILL


def test_no_child_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent_code = (
        "import sys, time; from pathlib import Path;"
        "from rollcall.processes import Command, Processes;"
        f"p = Processes(Path({str(tmp_path)!r}));"
        f"c = p.start(Command('child', (sys.executable, '-c', {SLEEPER!r})));"
        "print(c.process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    wait_until_gone(child)


INTERRUPTED_FORK = """
import os, signal, subprocess, sys
from pathlib import Path
from rollcall.processes import Command, Processes
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGINT))
words = (sys.executable, "-c", "import time; time.sleep(60)")
if sys.argv[1] == "held":
    processes = Processes(Path(sys.argv[2]))
    start = lambda: processes.start(Command("child", words)).process
else:
    start = lambda: subprocess.Popen(words, preexec_fn=lambda: None)
try:
    start().kill()
    print("lost")
except KeyboardInterrupt:
    print("seen", [running.name for running in processes])
    processes.kill("child")
"""


@pytest.mark.parametrize(("how", "found"), [("plain", "lost"), ("held", "seen ['child']")])
def test_ctrl_c_in_the_midst_of_a_start_is_not_lost(tmp_path: Path, how: str, found: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_FORK, how, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout.strip() == found, done.stderr
