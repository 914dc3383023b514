"""Submissions through one orchestrator, by one process and by several on one port, against a bare route served alike.

The bare route reads the same body and does one `XADD`. The orchestrator's checks the signature, admits, has the
rewards recomputed in its scoring child, stores the body and syncs the disk, signs the receipt and records the
group. Both get the same requests in turns, by waves, so that other loads on the machine meet both. The ratio of the
processor's time is the result: what one core takes in. That of the rates counts the sender and Redis too, which take
cores from as many processes as there are. What the orchestrator does by itself, whoever sends, is measured before
each wave and taken off. Memory is all processes', and must stay flat.

    python -m benchmarks.intake [--full] [--submissions N] [--processes N …]
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fastapi import FastAPI, Request, Response

from benchmarks.serving import Market, Served, bare_server, load, market, report_of
from orchestrator.config import Limits

NUM_SUBMISSIONS = 4_000
NUM_FULL = 50_000
WAVE = 500
REDIS = "BENCHMARK_REDIS_URL"
UNLIMITED = Limits(requests_per_second=1e6, request_burst=10**6)
"""One worker sends all, faster than any may."""
OUT = Path("build/bench/intake.json")


@dataclass(slots=True)
class Measured:
    """One server under load. Rates are per second of wall clock; CPU is that of all the server's processes."""

    submissions: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    idle: float = 0.0
    """Processor time that it takes in a second without any submission: looks at the chain, settlement."""
    rss_mib: list[int] = field(default_factory=list)

    def add(self, server: Served, requests: list[bytes]) -> None:
        before, began = server.cpu(), time.perf_counter()
        asyncio.run(load(server.port, requests))
        seconds = time.perf_counter() - began
        self.seconds += seconds
        self.cpu_seconds += server.cpu() - before - self.idle * seconds
        self.submissions += len(requests)
        self.rss_mib.append(server.memory() >> 20)

    @property
    def rate(self) -> float:
        return self.submissions / self.seconds

    @property
    def cpu_ms(self) -> float:
        return 1e3 * self.cpu_seconds / self.submissions


def bare_app() -> FastAPI:
    """Return the route that does nothing but keep what it got."""
    from redis.asyncio import Redis

    app = FastAPI()
    client = Redis.from_url(os.environ[REDIS])

    @app.post("/bare")
    async def keep(request: Request) -> Response:
        body = await request.body()
        await client.execute_command("XADD", "bare", "MAXLEN", "~", "1000", "*", "body", body)
        return Response(b"{}", media_type="application/json")

    return app


def bare_requests(requests: list[bytes]) -> list[bytes]:
    """Return the same bodies for the bare route."""
    return [b"POST /bare HTTP/1.1" + request[request.index(b"\r\n") :] for request in requests]


def run(opened: Market, processes: int, count: int) -> dict[str, Measured]:
    """Measure both sides in turns; the first wave warms each of them."""
    ours, bare = Measured(), Measured()
    app = "benchmarks.intake:bare_app"
    with (
        opened.serve(processes, UNLIMITED) as server,
        bare_server(app, processes, **{REDIS: opened.redis_url}) as other,
    ):
        for number in range(count // WAVE + 1):
            before, began = server.cpu(), time.perf_counter()
            requests = opened.submissions(WAVE)
            if number <= 1:  # the first wave is not counted
                ours, bare = Measured(), Measured()
            ours.idle = (server.cpu() - before) / (time.perf_counter() - began)
            ours.add(server, requests)
            bare.add(other, bare_requests(requests))
    return {"orchestrator": ours, "bare route": bare}


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--submissions", type=int, default=NUM_SUBMISSIONS)
    parser.add_argument("--full", action="store_true", help=f"{NUM_FULL} submissions")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    count = NUM_FULL if arguments.full else arguments.submissions
    found = {}
    with tempfile.TemporaryDirectory() as name, market(Path(name), ["alice"]) as opened:
        for processes in arguments.processes:
            found[processes] = run(opened, processes, count)
            told(processes, found[processes])
    one = next(iter(found.values()))["bare route"]
    for processes, sides in found.items():
        share = processes * one.cpu_ms / sides["orchestrator"].cpu_ms
        print(f"{processes} of ours on as many cores: {share:.2f} of one bare process; aim 0.40")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    measured = [
        asdict(one) | {"name": name} for both in found.values() for name, one in both.items()
    ]
    OUT.write_text(
        json.dumps(report_of(processes=arguments.processes, sides=measured), indent=1) + "\n"
    )


def told(processes: int, found: dict[str, Measured]) -> None:
    """Print what was found of so many processes."""
    bare = found["bare route"]
    for name, side in found.items():
        print(
            f"{processes} × {name:12} {side.rate:6.0f} /s   {side.cpu_ms:6.3f} ms CPU each   ratio "
            f"{side.rate / bare.rate:.2f}, of CPU {bare.cpu_ms / side.cpu_ms:.2f}   "
            f"{side.rss_mib[0]} → {side.rss_mib[-1]} MiB   idle {1e3 * side.idle:.0f} ms CPU a second"
        )
    load, cores = os.getloadavg()[0], os.cpu_count()
    print(f"{bare.submissions} submissions each, load {load:.0f} on {cores} cores", flush=True)


if __name__ == "__main__":
    main()
