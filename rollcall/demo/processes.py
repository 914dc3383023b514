"""Start, watch and end the processes of a one-machine market.

Owns child processes only. Each gets its own log file and process group, dies with this process and
takes its own children along (`guard.py`: even `kill -9` of the parent leaves nothing behind). SIGTERM
ends it, or SIGKILL after a while.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from protocol.user_error import UserError
from rollcall.demo.guard import Guard

LOG_TAIL_LINES = 25
FINISH_SECONDS = 600.0
"""Longest wait for children that were asked to end and must finish work; a slow machine needs long."""
ABANDON_SECONDS = 8.0
"""The same for children whose work no longer matters."""


@dataclass(frozen=True, slots=True)
class Command:
    """One role as a process: its command, and its environment beside the parent's."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Running:
    command: Command
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def name(self) -> str:
        return self.command.name


class Processes:
    """The children of one market. Use as a context manager: leaving it ends every one of them."""

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._running: dict[str, Running] = {}
        self._guard: Guard | None = None
        log_dir.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_all()

    def start(self, command: Command) -> Running:
        """Start a child with its output appended to `<log_dir>/<name>.log`."""
        log = self._log_dir / f"{command.name}.log"
        with _interrupts_held(), log.open("ab") as output:
            self._guard = self._guard or Guard()
            process = subprocess.Popen(
                command.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **command.environment},
                start_new_session=True,
            )
            self._guard.watch(process.pid)
            before = self._running.get(command.name)
            if before is not None and before.process.poll() is not None:
                self._guard.release(before.process.pid)
            running = Running(command, process, log)
            self._running[command.name] = running
        return running

    def __getitem__(self, name: str) -> Running:
        return self._running[name]

    def __iter__(self) -> Iterator[Running]:
        return iter(list(self._running.values()))

    def check(self, *, may_end: Sequence[str] = ()) -> None:
        """If a child has ended that should not have, raise `UserError` with the end of its log."""
        for running in self._running.values():
            code = running.process.poll()
            if code is not None and not (code == 0 and running.name in may_end):
                raise UserError(failure(running, code))

    def kill(self, name: str) -> None:
        """End one child at once, as a crash would, with all it started."""
        self._end(self._running[name])

    def stop(self, names: Sequence[str], *, seconds: float = FINISH_SECONDS) -> None:
        """Ask children to end, wait for them, and kill those that do not end within `seconds`."""
        children = [self._running.pop(name) for name in names if name in self._running]
        for child in children:
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + seconds
        for child in children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(timeout=max(0.1, deadline - time.monotonic()))
            self._end(child)  # and what it may have left behind

    def stop_all(self) -> None:
        """End all children, the newest first, so that none loses a service that it needs."""
        self.stop(list(reversed(self._running)), seconds=ABANDON_SECONDS)
        if self._guard is not None:
            self._guard.close()
            self._guard = None

    def _end(self, child: Running) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()
        if self._guard is not None:
            self._guard.release(child.process.pid)


def failure(running: Running, code: int) -> str:
    """Return which part failed, how, and the end of its log."""
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    return f"{running.name} {how}; the end of {running.log}:\n{tail(running.log)}"


def tail(log: Path, lines: int = LOG_TAIL_LINES) -> str:
    """Return the last lines of a log, indented."""
    text = log.read_text(errors="replace").splitlines()[-lines:] if log.exists() else []
    return "\n".join(f"  {line}" for line in text) or "  (nothing was logged)"


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Deliver Ctrl-C and SIGTERM only after the block: nobody would end a child not yet entered."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {n: signal.signal(n, lambda number, _frame: held.append(number)) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for caught in held[:1]:
        signal.raise_signal(caught)
