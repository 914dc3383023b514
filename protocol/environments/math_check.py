"""Ask math-verify whether an expression equals a number, in a child process that can be killed.

A stranger's expression may take sympy any time and memory, so the child has a limit on its
memory, its answers a deadline, and what breaks either is `Undecidable`: never wrong, never a
crash of the caller. Run as a program this file is the child. Left out: plain numbers; `answers`
compares those without any of this.
"""

import json
import os
import resource
import selectors
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from protocol.environments.base import Undecidable

DEADLINE_SECONDS = 3.0
"""Honest answers take 0.001 to 0.2 s on one core; ten times that is spare for a loaded machine."""

START_SECONDS = 60.0
"""Importing sympy takes about 0.5 s on an idle machine."""

MAX_MEMORY_BYTES = 2 << 30
_READY = b"ready\n"


class MathCheck:
    """One child, started when first needed and again after it was killed. Safe between threads."""

    def __init__(self, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        self._deadline_seconds = deadline_seconds
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def equal(self, gold: str, answer: str) -> bool | Undecidable:
        """Say whether `answer`, a LaTeX or plain expression, equals the number `gold`."""
        question = json.dumps([gold, answer]).encode() + b"\n"
        with self._lock:
            try:
                child = self._running_child()
                if child is None:
                    return Undecidable("the checker did not start")
                reply = _ask(child, question, self._deadline_seconds)
            except OSError as error:
                self._kill()
                return Undecidable(f"the checker went away: {error}")
            if reply not in (b"true\n", b"false\n"):
                self._kill()
                return Undecidable("the checker ran out of time or memory")
            return reply == b"true\n"

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._kill()

    def __del__(self) -> None:
        self._kill()

    def _running_child(self) -> subprocess.Popen[bytes] | None:
        """Return this process's child; a fork's copy of its parent's pipes is not used."""
        if self._owner != os.getpid():
            self._child, self._owner = None, os.getpid()
        if self._child is None or self._child.poll() is not None:
            self._kill()
            self._child = _start()
            if _ask(self._child, b"", START_SECONDS) != _READY:
                self._kill()
        return self._child

    def _kill(self) -> None:
        if self._child is not None and self._owner == os.getpid():
            self._child.kill()
            self._child.wait()
            for pipe in (self._child.stdin, self._child.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
        self._child = None


def _start() -> subprocess.Popen[bytes]:
    """Start a child without our environment: it needs no key, and its hash seed is fixed."""
    return subprocess.Popen(
        [sys.executable, "-m", "protocol.environments.math_check"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        cwd=Path(__file__).parents[2],
        env={"PYTHONHASHSEED": "0"},
    )


def _ask(child: subprocess.Popen[bytes], question: bytes, deadline_seconds: float) -> bytes:
    """Write one line and return the child's next line, or nothing at the deadline or its end."""
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(question)
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        return child.stdout.readline() if selector.select(deadline_seconds) else b""


def _equal(gold: str, answer: str) -> bool:
    """Compare as LaTeX only: math-verify's other grammar evaluates Python expressions."""
    from math_verify import LatexExtractionConfig, parse, verify

    values = [
        parse(
            f"${text}$",
            extraction_config=(LatexExtractionConfig(),),
            extraction_mode="first_match",
            fallback_mode="no_fallback",
            parsing_timeout=None,
        )
        for text in (gold, answer)
    ]
    return bool(verify(*values, float_rounding=12, strict=True, timeout_seconds=None))


def serve() -> None:
    """Answer one question per line until the parent closes the pipe."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _equal("1", "1")
    sys.stdout.buffer.write(_READY)
    sys.stdout.buffer.flush()
    for line in sys.stdin.buffer:
        gold, answer = json.loads(line)
        verdict = _equal(gold, answer)
        sys.stdout.buffer.write(b"true\n" if verdict else b"false\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve()
