"""Children of a market: their logs, their failures, and that none outlives its parent."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from protocol.user_error import UserError
from rollcall.demo import guard
from rollcall.demo.guard import LOOK_SECONDS
from rollcall.demo.processes import Command, Processes

SLEEPER = "import time; print('up', flush=True); time.sleep(600)"


def python(name: str, code: str) -> Command:
    return Command(name, (sys.executable, "-c", code))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def wait_until_gone(pid: int) -> None:
    while is_alive(pid):
        time.sleep(0.02)


def test_leaving_the_block_ends_every_child(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        pids = [processes.start(python(name, SLEEPER)).process.pid for name in ("a", "b")]
        assert all(is_alive(pid) for pid in pids)
    assert not any(is_alive(pid) for pid in pids)


def test_a_child_whose_name_was_given_again_ends_too(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        pids = [processes.start(python("a", SLEEPER)).process.pid for _ in range(2)]
    for pid in pids:
        wait_until_gone(pid)


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


FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""
PARENT = f"""
import subprocess, sys, time
from pathlib import Path
from rollcall.demo.processes import Command, Processes
words, log = (sys.executable, "-c", {FAMILY!r}), Path(sys.argv[2])
if sys.argv[1] == "guarded":
    child = Processes(log).start(Command("family", words)).process
else:
    child = subprocess.Popen(words, stdout=(log / "family.log").open("w"), start_new_session=True)
while not (log / "family.log").read_text().endswith("\\n"):
    time.sleep(0.01)
print(child.pid, (log / "family.log").read_text().strip(), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(("how", "lives"), [("unguarded", True), ("guarded", False)])
def test_no_child_nor_its_own_outlives_a_parent_that_is_killed(
    tmp_path: Path, how: str, lives: bool
) -> None:
    words = [sys.executable, "-c", PARENT, how, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child, grandchild = map(int, parent.stdout.readline().split())
        parent.kill()
    try:
        if lives:
            time.sleep(LOOK_SECONDS)  # what a guard would need
            assert is_alive(child)
            assert is_alive(grandchild)
        else:
            wait_until_gone(child)
            wait_until_gone(grandchild)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)


def test_a_guard_that_comes_up_after_its_parent_is_gone_ends_what_it_was_told_of() -> None:
    nobody = "0"
    with subprocess.Popen([sys.executable, "-c", SLEEPER], start_new_session=True) as child:
        told = child.pid.to_bytes(guard.PID_BYTES, "little", signed=True)
        subprocess.run([sys.executable, guard.__file__, nobody], input=told, check=True)
    assert child.returncode == -signal.SIGKILL, "it slept to its end"


INTERRUPTED_START = """
import os, signal, subprocess, sys
from pathlib import Path
from rollcall.demo.processes import Command, Processes

class Interrupted(subprocess.Popen):
    def __init__(self, words, **options):
        super().__init__(words, **options)
        children.append(self)
        os.kill(os.getpid(), signal.SIGINT)

children, plain, subprocess.Popen = [], subprocess.Popen, Interrupted
words = (sys.executable, "-c", "import time; time.sleep(600)")
processes = Processes(Path(sys.argv[2]))
try:
    if sys.argv[1] == "held":
        processes.start(Command("child", words))
    else:
        child = subprocess.Popen(words)
        processes._running["child"] = child
except KeyboardInterrupt:
    print("known", [running.name for running in processes])
for child in children:
    child.kill()
"""


@pytest.mark.parametrize(("how", "found"), [("plain", "known []"), ("held", "known ['child']")])
def test_ctrl_c_in_the_midst_of_a_start_loses_no_child(
    tmp_path: Path, how: str, found: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_START, how, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == found, done.stderr
