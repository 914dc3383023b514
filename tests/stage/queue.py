"""A Redis of a test's own: one that a crash sets back to an earlier moment or empties, and one of any settings."""

import signal
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from rollcall.demo.services import free_port
from tests.conftest import listens, redis_binary
from tests.stage.waiting import require_alive, started, wait_until


class CrashingRedis:
    """One server with an append-only log; each `start` goes on from what the log then holds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._address = folder / "redis.sock"
        self._running: Any = None
        folder.mkdir()

    @property
    def url(self) -> str:
        return f"unix://{self._address}"

    @property
    def _log(self) -> Path:
        return self._folder / "appendonly.aof"

    def start(self) -> None:
        words = [redis_binary(), "--port", "0", "--unixsocket", str(self._address), "--save", ""]
        words += ["--appendonly", "yes", "--appendfsync", "everysec", "--dir", str(self._folder)]
        self._running = started(words, cwd=self._folder, stdout=subprocess.DEVNULL)
        self._process = self._running.__enter__()
        wait_until(self._answers, check=lambda: require_alive(self._process))

    def crash(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._running.__exit__(None, None, None)
        self._address.unlink(missing_ok=True)

    def mark(self) -> int:
        """Return this moment's place in the log."""
        return self._log.stat().st_size

    def lose(self, mark: int) -> None:
        """Crash, and go on from the log as it was at a mark; 0 for an empty one."""
        self.crash()
        with self._log.open("r+b") as file:
            file.truncate(mark)
        self.start()

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.exceptions.ConnectionError:
            return False


@contextmanager
def crashing_redis(folder: Path) -> Iterator[CrashingRedis]:
    server = CrashingRedis(folder)
    server.start()
    try:
        yield server
    finally:
        server.crash()


@dataclass
class AnyRedis:
    """A server of somebody's settings, reached by its socket and by a port of this machine."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"unix://{self.folder / 'redis.sock'}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def owner(self, password: str | None = None) -> redis.Redis:
        """Return a connection of who may do everything to it."""
        return redis.Redis.from_url(self.url, password=password)


@contextmanager
def redis_with(folder: Path, *lines: str) -> Iterator[AnyRedis]:
    """Run a Redis with these lines in its redis.conf."""
    folder.mkdir()
    while (port := free_port()) > 55_000:
        continue  # in cluster mode it also listens on the port 10,000 above
    server = AnyRedis(folder, port)
    config = folder / "redis.conf"
    settings = (f"port {port}", f"unixsocket {folder / 'redis.sock'}", f"dir {folder}", 'save ""')
    config.write_text("\n".join((*settings, *lines)) + "\n")
    with started([redis_binary(), str(config)], cwd=folder, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: listens(folder / "redis.sock"), check=lambda: require_alive(process))
        yield server


@contextmanager
def tls_in_front(server: AnyRedis, folder: Path) -> Iterator[tuple[int, Path]]:
    """Let a port of this machine speak TLS for a Redis; yields it and the authority that signed for it."""
    key, certificate = folder / "tls.key", folder / "tls.pem"
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=redis"
    names = [
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    ]
    subprocess.run([*words.split(), *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Passing(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with (
                suppress(OSError),
                context.wrap_socket(self.request, server_side=True) as outer,
                socket.socket(socket.AF_UNIX) as inner,
            ):
                inner.connect(str(server.folder / "redis.sock"))
                back = threading.Thread(target=_copy, args=(inner, outer), daemon=True)
                back.start()
                _copy(outer, inner)
                inner.shutdown(socket.SHUT_RDWR)
                back.join()

    class Front(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Front(("127.0.0.1", 0), Passing) as front:
        thread = threading.Thread(target=front.serve_forever)
        thread.start()
        try:
            yield front.server_address[1], certificate
        finally:
            front.shutdown()
            thread.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
