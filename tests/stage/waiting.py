"""Wait for states and not for seconds: machines differ by a factor of five.

A wait ends when the state is reached, or when what it waits for has died. The last resort is one and the
same for all: pytest's `timeout` in pyproject.toml, whose trace shows the wait.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rollcall.demo.guard import Guard


def wait_until(holds: Callable[[], bool], *, check: Callable[[], object] = lambda: None) -> None:
    """Return once it holds; `check` raises where it never will, as `Processes.check` does."""
    while not holds():
        check()
        time.sleep(0.05)


@contextmanager
def started(argv: list[str], **options: Any) -> "Iterator[subprocess.Popen[str]]":
    """Run a program for the length of a `with`: it ends with all that it started, also if pytest is killed."""
    guard = Guard()
    with subprocess.Popen(argv, text=True, start_new_session=True, **options) as process:
        guard.watch(process.pid)
        try:
            yield process
        finally:
            guard.close()


def require_alive(process: "subprocess.Popen[str]", log: Path | None = None) -> None:
    """Raise `AssertionError` with the end of its log where a program has ended."""
    said = log.read_text()[-3000:] if log is not None else ""
    assert process.poll() is None, f"{process.args!r} ended with {process.returncode}\n{said}"
