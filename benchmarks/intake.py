"""Submissions per second through one orchestrator process, against a bare route.

The bare route reads the same body and does one `XADD`. The orchestrator's checks the signature,
admits, has the rewards recomputed in its scoring child, stores the body, signs the receipt and
records the group. Both run under the same server with the same client, in the same call of this
program; the ratio of their rates is the result, and beside it that of the processor's time, which
other loads on the machine change less. Memory is the server's resident set over the
submissions, which must stay flat.

    python -m benchmarks.intake [--full] [--submissions N]
"""

import argparse
import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import uvicorn
from fastapi import FastAPI, Request, Response

from rollcall.demo.services import free_port

if TYPE_CHECKING:
    from protocol.rollout import Lease
    from tests.stage.place import Party, Place

NUM_SUBMISSIONS = 4_000
NUM_FULL = 50_000
NUM_CONNECTIONS = 32
WAVE = 1_000
LEASED = 50
"""Leases that each worker takes at a time."""
UNLIMITED = {"limits": {"requests_per_second": 1e6, "request_burst": 10**6}}
"""One worker sends all, faster than any may."""
OUT = Path("build/bench/intake.json")


@dataclass(frozen=True, slots=True)
class Measured:
    """One server under load. Rates are per second of wall clock; CPU is that of all the server's processes."""

    name: str
    submissions: int
    seconds: float
    cpu_seconds: float
    rss_mib: tuple[float, ...]

    @property
    def rate(self) -> float:
        return self.submissions / self.seconds


def bare_app(redis_url: str) -> FastAPI:
    """Return the route that does nothing but keep what it got."""
    from redis.asyncio import Redis

    app = FastAPI()
    client = Redis.from_url(redis_url)

    @app.post("/bare")
    async def keep(request: Request) -> Response:
        body = await request.body()
        await client.execute_command("XADD", "bare", "MAXLEN", "~", "1000", "*", "body", body)
        return Response(b"{}", media_type="application/json")

    return app


def serve(what: str, port: int, redis_url: str, folder: Path, count: int) -> None:
    """Serve one side until killed."""
    open_app: Callable[[], FastAPI] = partial(bare_app, redis_url)
    if what == "market":
        open_app = prepared(redis_url, folder, count, UNLIMITED)
    uvicorn.run(open_app(), port=port, log_level="error", access_log=False)


def prepared(
    redis_url: str,
    folder: Path,
    count: int,
    config: dict[str, Any],
    *,
    workers: tuple[str, ...] = ("alice",),
    also: "Callable[[Place], None]" = lambda _: None,
) -> Callable[[], FastAPI]:
    """Open a run, write `count` signed submissions as HTTP requests, the workers' in turns; return what makes an app.

    `also` is called with the place before that.
    """
    from orchestrator import intake
    from orchestrator.app import create_app
    from protocol.run import AuditPolicy
    from tests.stage.ground import Ground
    from tests.stage.place import open_market, opened
    from tests.stage.world import Running

    more = tuple(name for name in workers if name not in ("alice", "bob"))
    ground = Ground.build(Running(), more=more)
    intake.MAX_CLOCK_SKEW_SECONDS = 86_400  # type: ignore[attr-defined] # signed long before they are sent
    with opened(
        *(ground, redis_url, folder / "blobs"),
        config=config,
        group_size=8,
        num_tasks=1 << 40,
        held_out_start=1 << 41,
        groups_per_batch=1 << 16,
        max_worker_leases=1 << 16,
        lease_seconds=86_400,
        audit=AuditPolicy(num_probation_groups=64),
    ) as place:
        for name in more:
            ground.by(name).join_run(place.run_id)
        path, parties = place.path("submissions"), [place.party(name) for name in workers]
        with (folder / "requests").open("wb") as out:
            while count > 0:
                leases = [party.leases(min(LEASED, count)) for party in parties]
                for turn in zip(*leases, strict=True):
                    for party, signed in zip(parties, turn, strict=True):
                        count -= 1
                        out.write(request_bytes(path, party.token, body_of(party, signed.lease)))
        also(place)
    return lambda: create_app(open_market(ground, redis_url, folder / "blobs", config))


def body_of(alice: "Party", lease: "Lease") -> bytes:
    """Return a signed group of worked solutions, some of them wrong, as a worker sends it."""
    from protocol.rollout import Rollout
    from tests.stage.place import pack

    rng = np.random.default_rng(lease.nonce)
    rollouts = []
    for rollout in alice.place.rollouts(lease, right=(True, False, True)):
        ids = rollout.token_ids()
        rollouts.append(Rollout.of(ids, -rng.exponential(0.3, len(ids))))
    return pack(alice.submission(lease, rollouts))


def request_bytes(path: str, token: str, body: bytes) -> bytes:
    """Return a whole HTTP request with its length before it."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: market.test\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/octet-stream\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode()
    return struct.pack("<I", len(head) + len(body)) + head + body


def read_requests(path: Path) -> list[bytes]:
    """Read what `request_bytes` wrote."""
    data, found, at = path.read_bytes(), [], 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        found.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return found


async def load(port: int, requests: Sequence[bytes]) -> None:
    """Send prepared requests over a few connections, each waiting for its answer."""
    pending = iter(requests)

    async def send_some() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in pending:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head[:16]:
                raise RuntimeError((head + await reader.read(500)).decode())
            at = head.lower().index(b"content-length:") + 15
            await reader.readexactly(int(head[at : head.index(b"\r\n", at)]))
        writer.close()

    await asyncio.gather(*(send_some() for _ in range(NUM_CONNECTIONS)))


@contextmanager
def redis_process(folder: Path) -> Iterator[str]:
    """Run a Redis that appends every write to its file, as the market's does."""
    from tests.conftest import redis_binary

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
def server(
    what: str,
    redis_url: str,
    folder: Path,
    count: int,
    *,
    module: str = "benchmarks.intake",
) -> Iterator[tuple[int, int]]:
    """Run one side; yields its port and process id once it listens."""
    port = free_port()
    arguments = ["--serve", what, str(port), redis_url, str(folder), str(count)]
    process = subprocess.Popen([sys.executable, "-m", module, *arguments])
    try:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None:
                raise RuntimeError(f"the {what} server ended: see above")
            time.sleep(0.1)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def cpu_of(process: psutil.Process) -> float:
    """Return the seconds of processor time that a process has taken, with those that it started."""
    family = [process, *process.children(recursive=True)]
    return sum(sum(one.cpu_times()[:2]) for one in family)


def measure(name: str, port: int, pid: int, requests: list[bytes]) -> Measured:
    """Load a server in waves, looking at its memory between them."""
    process = psutil.Process(pid)
    before, began = cpu_of(process), time.perf_counter()
    memory = []
    for start in range(0, len(requests), WAVE):
        asyncio.run(load(port, requests[start : start + WAVE]))
        memory.append(process.memory_info().rss / 2**20)
    seconds = time.perf_counter() - began
    cpu = cpu_of(process) - before
    return Measured(name, len(requests), seconds, cpu, tuple(round(m, 1) for m in memory))


def bare_requests(requests: list[bytes]) -> list[bytes]:
    """Return the same bodies for the bare route."""
    return [b"POST /bare HTTP/1.1" + request[request.index(b"\r\n") :] for request in requests]


def run(count: int) -> list[Measured]:
    """Measure both sides; the first thousand submissions warm each of them."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with redis_process(folder) as redis_url:
            with server("market", redis_url, folder, count + WAVE) as (port, pid):
                requests = read_requests(folder / "requests")
                asyncio.run(load(port, requests[:WAVE]))
                found.append(measure("orchestrator", port, pid, requests[WAVE:]))
            bare = bare_requests(requests)
            with server("bare", redis_url, folder, 0) as (port, pid):
                asyncio.run(load(port, bare[:WAVE]))
                found.append(measure("bare route", port, pid, bare[WAVE:]))
    return found


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--submissions", type=int, default=NUM_SUBMISSIONS)
    parser.add_argument("--full", action="store_true", help=f"{NUM_FULL} submissions")
    parser.add_argument("--serve", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        what, port, redis_url, folder, count = arguments.serve
        serve(what, int(port), redis_url, Path(folder), int(count))
        return
    found = run(NUM_FULL if arguments.full else arguments.submissions)
    bare = found[-1]
    for side in found:
        print(
            f"{side.name:12} {side.rate:6.0f} /s   {1e3 * side.cpu_seconds / side.submissions:6.3f} ms CPU each   "
            f"ratio {side.rate / bare.rate:.2f}, of CPU {bare.cpu_seconds / side.cpu_seconds:.2f}   "
            f"{side.rss_mib[0]:.0f} → {side.rss_mib[-1]:.0f} MiB"
        )
    print(f"aim 0.40, over {bare.submissions} submissions each, on {os.cpu_count()} cores")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    report = {side.name: asdict(side) | {"ratio": side.rate / bare.rate} for side in found}
    OUT.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
