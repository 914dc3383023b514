"""A process that has loaded every party's program, and runs a command line in a copy of itself: in milliseconds.

Each command has its own arguments, environment, folder, output and end, as one that a person starts. One that does
not end by itself is ended, and says so.
"""

import importlib
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from tests.stage.waiting import started

LOADED = (
    "rollcall.__main__",
    "devchain.__main__",
    "eth_account",
    "ledger.ledger",
    "orchestrator.main",
    "rollout_worker.main",
    "rollout_worker.verify.opening",
    "trainer.main",
    "rollcall.machine.checkup",
    "rollcall.machine.calibrate",
    "rollcall.machine.doctor",
    "rollcall.explain.explain",
    "rollcall.cli.launch_config",
    "rollcall.demo.run",
    "audit.run",
    "audit.watcher",
)
STILL_RUNS = -1
"""In place of the exit code of a command that went on, and was ended."""
MOST_SECONDS = 60
AT_A_TIME = 4
MOST_DESCRIPTORS = 256


@dataclass(frozen=True, slots=True)
class Typed:
    """What is typed: `python -m module words`. With `is_full` no file takes another byte, as on a full disk."""

    module: str
    words: tuple[str, ...]
    env: dict[str, str]
    folder: str
    is_full: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a command."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Warm:
    """The process, ready for commands.

    Example: warm.run([Typed("rollcall", ("stake",), {"ROLLCALL_RPC": "http://127.0.0.1:9"}, "/tmp")])
    """

    process: "subprocess.Popen[str]"

    def run(self, commands: Sequence[Typed]) -> list[Ended]:
        """Run each as a person would, a few at a time; return what became of them, in order."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([asdict(command) for command in commands]) + "\n")
        self.process.stdin.flush()
        return [Ended(**ended) for ended in json.loads(self.process.stdout.readline())]


@contextmanager
def warmed() -> Iterator[Warm]:
    """Load it for the length of a `with`."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with started([sys.executable, "-m", "tests.stage.warm"], **pipes) as process:
        yield Warm(process)


def _answer(typed: Typed) -> Ended:
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(typed, out_end, err_end)
    os.close(out_end)
    os.close(err_end)
    told, goes_on = _read(out, err)
    if goes_on:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Ended(STILL_RUNS if goes_on else code, told[out], told[err])


def _read(*ends: int) -> tuple[dict[int, str], bool]:
    """Return all that comes until both ends are closed, and whether that was waited for in vain."""
    told = dict.fromkeys(ends, b"")
    deadline = time.monotonic() + MOST_SECONDS
    with selectors.DefaultSelector() as selector:
        for end in ends:
            selector.register(end, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < deadline:
            for key, _ in selector.select(1.0):
                piece = os.read(key.fd, 1 << 16)
                told[key.fd] += piece
                if not piece:
                    selector.unregister(key.fd)
        ran_out = bool(selector.get_map())
    for end in ends:
        os.close(end)
    return {end: text.decode() for end, text in told.items()}, ran_out


def _become(typed: Typed, out: int, err: int) -> NoReturn:
    """Be the command from here on."""
    code: object = 1
    try:
        for end, number in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (err, 2)):
            os.dup2(end, number)
        os.closerange(3, MOST_DESCRIPTORS)  # other commands' pipes: they end when those do
        os.environ.clear()
        os.environ.update(typed.env)
        os.chdir(typed.folder)
        sys.argv = [typed.module, *typed.words]
        if typed.is_full:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        code = 0
        importlib.import_module(f"{typed.module}.__main__").main()
    except SystemExit as ended:
        code = ended.code
        if isinstance(code, str):
            sys.stderr.write(f"{code}\n")
    finally:
        if isinstance(error := sys.exception(), Exception):
            traceback.print_exception(error)
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


def main() -> None:
    """Answer one line of JSON, a list of commands, with another."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print while they load is no answer
    for name in LOADED:
        importlib.import_module(name)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for line in sys.stdin:
            ended = pool.map(_answer, [Typed(**typed) for typed in json.loads(line)])
            answers.write(json.dumps([asdict(one) for one in ended]) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
