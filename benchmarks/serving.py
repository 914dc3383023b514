"""A market under load, for `intake.py` and `hostile.py`: `rollcall serve` as an operator starts it, beside a bare server.

The chain is this process's, over HTTP, and so are the workers: they take leases and sign, and send what is signed to the
servers, each in processes of its own. Redis appends every write to its file.
"""

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import psutil

from devchain.server import DevChainServer
from orchestrator.config import Limits, OrchestratorConfig
from protocol.rollout import Lease, Rollout
from protocol.run import AuditPolicy
from rollcall.demo.processes import Command, Processes
from rollcall.demo.services import free_port, wait_for_http
from rollcall.frame.settings import to_toml
from tests.conftest import redis_binary
from tests.stage.ground import Ground
from tests.stage.place import Party, Place, opened, pack
from tests.stage.world import Running

NUM_CONNECTIONS = 32
REJECTION = re.compile(rb'"rejection":"[^"]')
LEASED = 50
"""Leases that each worker takes at a time."""


@dataclass(frozen=True, slots=True)
class Served:
    """A server under load."""

    port: int
    process: psutil.Process

    def cpu(self) -> float:
        return cpu_of(self.process)

    def memory(self) -> int:
        """Return the bytes that it and all that it started hold."""
        return sum(one.memory_info().rss for one in family(self.process))


def family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def cpu_of(process: psutil.Process) -> float:
    """Return the seconds of processor time that a process has taken, with all that it started."""
    return sum(sum(one.cpu_times()[:2]) for one in family(process))


@dataclass(frozen=True, slots=True)
class Market:
    """A run, who works for it, and where it keeps what it keeps."""

    place: Place
    workers: tuple[Party, ...]
    redis_url: str
    folder: Path

    def submissions(self, count: int) -> list[bytes]:
        """Return so many signed groups as whole HTTP requests, the workers' in turns; they keep for two minutes."""
        path, found = self.place.path("submissions"), list[bytes]()
        while len(found) < count:
            each = min(LEASED, -(-(count - len(found)) // len(self.workers)))
            leases = [worker.leases(each) for worker in self.workers]
            for turn in zip(*leases, strict=True):
                found += [
                    request_bytes(path, worker.token, body_of(worker, signed.lease))
                    for worker, signed in zip(self.workers, turn, strict=True)
                ]
        return found

    @contextmanager
    def serve(self, processes: int, limits: Limits) -> Iterator[Served]:
        """Serve the run by `rollcall serve`."""
        chain = DevChainServer(self.place.ground.w3.provider.rpc, 0)
        Thread(target=chain.serve_forever, args=(0.05,), daemon=True).start()
        self.place.ground.deployment.save(self.folder / "deployment.json")
        config = OrchestratorConfig(
            port=free_port(),
            processes=processes,
            redis_url=self.redis_url,
            blob_url=f"file://{self.folder / 'blobs'}",
            rpc_url=chain.url,
            deployment=str(self.folder / "deployment.json"),
            limits=limits,
        )
        (self.folder / "orchestrator.toml").write_text(to_toml(config))
        words = ("-m", "rollcall", "serve", "--config", str(self.folder / "orchestrator.toml"))
        key = "0x" + bytes(self.place.ground.people["orchestrator"].key).hex()
        command = Command("serve", (sys.executable, *words), {"ROLLCALL_KEY": key})
        with Processes(self.folder / "logs") as running:
            pid = running.start(command).process.pid
            wait_for_http(running, "serve", f"http://127.0.0.1:{config.port}/readyz")
            yield Served(config.port, psutil.Process(pid))
        chain.shutdown()
        chain.server_close()


@contextmanager
def market(folder: Path, workers: Sequence[str]) -> Iterator[Market]:
    """Open a run for load: leases without end, which last as long as the load does."""
    more = tuple(name for name in workers if name not in ("alice", "bob"))
    ground = Ground.build(Running(), more=more)
    with (
        redis_process(folder) as redis_url,
        opened(
            *(ground, redis_url, folder / "blobs"),
            group_size=8,
            num_tasks=1 << 40,
            held_out_start=1 << 41,
            groups_per_batch=1 << 16,
            max_worker_leases=1 << 16,
            lease_seconds=86_400,
            audit=AuditPolicy(num_probation_groups=64),
        ) as place,
    ):
        for name in more:
            ground.by(name).join_run(place.run_id)
        yield Market(place, tuple(map(place.party, workers)), redis_url, folder)


def body_of(worker: Party, lease: Lease) -> bytes:
    """Return a signed group as a worker sends it: worked solutions, some wrong, one so that no two groups are alike."""
    spec, rng = worker.place.spec, np.random.default_rng(lease.seeds[0])
    rollouts = []
    for number, rollout in enumerate(worker.place.rollouts(lease, right=(True, False, True))):
        ids = rollout.token_ids().copy()
        if number == 0:
            ids[:-1] = rng.integers(spec.eos_token_ids[0] + 1, spec.vocabulary_size, len(ids) - 1)
        rollouts.append(Rollout.of(ids, -rng.exponential(1.0, len(ids))))
    return pack(worker.submission(lease, rollouts))


def request_bytes(path: str, token: str, body: bytes) -> bytes:
    """Return a whole HTTP request."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: market.test\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/octet-stream\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read one answer whose length is stated."""
    head = await reader.readuntil(b"\r\n\r\n")
    at = head.lower().find(b"content-length:")
    size = int(head[at + 15 : head.index(b"\r\n", at)]) if at >= 0 else 0
    return head, await reader.readexactly(size)


async def load(port: int, requests: Sequence[bytes]) -> list[float]:
    """Send requests over a few connections, each waiting for its answer; return how long each took."""
    pending, took = iter(requests), list[float]()

    async def send_some() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in pending:
            began = time.perf_counter()
            writer.write(request)
            head, body = await answer(reader)
            if b" 200 " not in head[:16] or REJECTION.search(body):
                raise RuntimeError((head + body).decode())
            took.append(time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*(send_some() for _ in range(NUM_CONNECTIONS)))
    return took


@contextmanager
def redis_process(folder: Path) -> Iterator[str]:
    """Run a Redis that appends every write to its file, as the market's does."""
    address = folder / "redis.sock"
    process = subprocess.Popen(
        [
            *(redis_binary(), "--port", "0", "--unixsocket", str(address), "--save", ""),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--dir", str(folder)),
        ],
        stdout=subprocess.DEVNULL,
    )
    while not address.exists():
        time.sleep(0.05)
    try:
        yield f"unix://{address}"
    finally:
        process.terminate()
        process.wait()


@contextmanager
def bare_server(app: str, processes: int = 1, **environment: str) -> Iterator[Served]:
    """Serve what a function of this package makes, by uvicorn."""
    port = free_port()
    words = ("--workers", str(processes), "--no-access-log", "--log-level", "error")
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "--factory", app, "--port", str(port), *words],
        env=os.environ | environment,
    )
    try:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None:
                raise RuntimeError(f"{app} ended: see above")
            time.sleep(0.1)
        yield Served(port, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait()


def report_of(**fields: Any) -> dict[str, Any]:
    """Return what a report says beside its figures."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    machine = {"processor": names[0] if names else "", "cores": os.cpu_count()}
    return {"command": " ".join(sys.argv), **machine, "load": os.getloadavg()[0], **fields}
