"""End process groups when the process that started them is gone, even by `kill -9`.

A child that is told of its parent's death cannot be made to tell its own children, and a group outlives
its leader. So the parent names the groups to a small program in a session of its own, which waits for the
end of its input. It runs as a file, without this package, so that it starts in a few milliseconds.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys

PID_BYTES = 8
LOOK_SECONDS = 1.0
"""How often to look for the parent itself: a fork of it may hold the other end of the input."""


class Guard:
    """The program, from its parent's side. The groups still watched at `close` are ended too."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )

    def watch(self, group: int) -> None:
        """End this process group with the parent."""
        self._tell(group)

    def release(self, group: int) -> None:
        """Stop watching this process group: it has ended, and its number may become another's."""
        self._tell(-group)

    def close(self) -> None:
        """Signal every group still watched to end, then return."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _tell(self, number: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(number.to_bytes(PID_BYTES, "little", signed=True))


def main(parent: int) -> None:
    """Read the groups to watch until the input or the parent ends; then kill them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    while True:
        is_orphan = os.getppid() != parent
        if not select.select([0], [], [], 0 if is_orphan else LOOK_SECONDS)[0]:
            if is_orphan:
                break
            continue
        told = os.read(0, PID_BYTES)  # also of a parent that was gone before this program looked
        if not told:
            break
        group = int.from_bytes(told, "little", signed=True)
        (groups.add if group > 0 else groups.discard)(abs(group))
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]))
