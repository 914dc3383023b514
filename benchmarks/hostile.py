"""Honest submissions beside hostile requests of ten kinds, against the same without them.

One orchestrator process; a process of its own sends the hostile requests over as many connections as the
honest ones have, as fast as they are answered. What honest work keeps is a ratio within one call of this
program: its rate, its 99th percentile, and what a submission adds to memory, Redis and disk. Every hostile
request must be refused, by the code that the table shows.

    python -m benchmarks.hostile [--requests N] [--submissions N]
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import uvicorn
import zstandard

from benchmarks.intake import (
    NUM_CONNECTIONS,
    WAVE,
    load,
    orchestrator_app,
    read_requests,
    redis_process,
    request_bytes,
    server,
)

if TYPE_CHECKING:
    from tests.stage.place import Place

NUM_REQUESTS = 100_000
ROUNDS = 4
"""Stretches of honest work alone and under attack, in turns: another load on the machine meets both."""
OUT = Path("build/bench/hostile.json")
ELEMENTS = b"\x81\xa8rollouts\xdc\xea\x60" + bytes(60_000)
"""Sixty thousand rollouts that are none, in 32 bytes under zstd."""


@dataclass(slots=True)
class Phase:
    """Honest submissions over some stretches; what those added is beside what each of them adds by itself."""

    took: list[float] = field(default_factory=list)
    seconds: float = 0.0
    rss_bytes: int = 0
    redis_bytes: int = 0
    disk_bytes: int = 0

    @property
    def rate(self) -> float:
        return len(self.took) / self.seconds

    @property
    def percentile_ms(self) -> float:
        return 1e3 * sorted(self.took)[len(self.took) * 99 // 100]


def hostile_requests(place: "Place") -> dict[str, bytes]:
    """Return a whole HTTP request of each kind, by strangers without a stake but for one staked worker."""
    from protocol.messages import LeaseRequest, RunRegistration, SessionRequest

    stranger, bob = place.party("stranger"), place.party("bob")
    bob.leases()
    zero, path, bomb = "0x" + "00" * 32, place.path, zstandard.compress(ELEMENTS)
    false = RunRegistration(run_id=place.run_id, spec=place.spec.model_copy(update={"name": "no"}))
    unsigned = SessionRequest(message="sign me in", signature=bytes(65))
    stats = b'{"policy_version":0,"stats":[' + b"{}," * 30_000 + b"{}]}"
    posts = {
        "elements, no stake": (path("submissions"), stranger.token, bomb),
        "elements, staked": (path("submissions"), bob.token, bomb),
        "a forged token": (path("submissions"), "forged", bomb),
        "an unsigned sign-in": ("/v1/session", "", unsigned.to_json()),
        "a false run": ("/v1/runs", "", false.to_json()),
        "leases, not joined": (path("leases"), stranger.token, LeaseRequest(count=9).to_json()),
        "JSON of 90 kB": (path("leases/return"), stranger.token, stats),
        "another's audits": (path("audits"), stranger.token, b'{"count":256}'),
    }
    found = {
        kind: request_bytes(where, token, body)[4:] for kind, (where, token, body) in posts.items()
    }
    found["a blob of no digest"] = get(f"/v1/blobs/{zero}")
    found["records of no version"] = get(path("lineage?first=4000000&last=4001000"))
    return found


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: market.test\r\n\r\n".encode()


def serve(port: int, redis_url: str, folder: Path, count: int) -> None:
    """Serve until killed, with every kind of hostile request written beside the honest ones."""

    def also(place: "Place") -> None:
        kinds = {kind: request.hex() for kind, request in hostile_requests(place).items()}
        (folder / "hostile").write_text(json.dumps(kinds))

    app = orchestrator_app(redis_url, folder, count, also)
    uvicorn.run(app, port=port, log_level="error", access_log=False)


def attack(port: int, folder: Path, count: int) -> None:
    """Send `count` hostile requests and print how often each kind was answered what."""
    kinds = {k: bytes.fromhex(v) for k, v in json.loads((folder / "hostile").read_text()).items()}
    pending = iter([kind for kind, _ in zip(cycle(kinds), range(count), strict=False)])
    found = {kind: Counter[str]() for kind in kinds}

    async def send_some() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for kind in pending:
            writer.write(kinds[kind])
            head, body = await answer(reader)
            code = head.split(b" ", 2)[1].decode()
            with suppress(ValueError):
                code = json.loads(body).get("code", code)
            found[kind][code] += 1
            if b"connection: close" in head.lower():
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()

    async def send() -> None:
        await asyncio.gather(*(send_some() for _ in range(NUM_CONNECTIONS)))

    asyncio.run(send())
    print(json.dumps(found))


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read one answer whose length is stated."""
    head = await reader.readuntil(b"\r\n\r\n")
    at = head.lower().find(b"content-length:")
    size = int(head[at + 15 : head.index(b"\r\n", at)]) if at >= 0 else 0
    return head, await reader.readexactly(size)


async def honest(
    port: int, requests: Iterable[bytes], attacker: subprocess.Popen[bytes] | None
) -> list[float]:
    """Send submissions, as long as the attacker does, and return how long each took."""
    pending, took = iter(requests), list[float]()

    async def send_some() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in pending:
            if attacker is not None and attacker.poll() is not None:
                break
            began = time.perf_counter()
            writer.write(request)
            head, body = await answer(reader)
            if b" 200 " not in head[:16]:
                raise RuntimeError((head + body).decode())
            took.append(time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*(send_some() for _ in range(NUM_CONNECTIONS)))
    return took


@dataclass(frozen=True, slots=True)
class Server:
    """The orchestrator under load, and where it keeps what it keeps."""

    port: int
    process: psutil.Process
    folder: Path
    redis_url: str

    def used(self) -> tuple[int, int, int]:
        """Return the bytes that the process and Redis hold, and those of blobs on disk."""
        import redis

        with redis.Redis.from_url(self.redis_url) as client:
            held = int(client.info("memory")["used_memory"])
        files = (path for path in (self.folder / "blobs").rglob("*") if path.is_file())
        return self.process.memory_info().rss, held, sum(path.stat().st_size for path in files)


def add_stretch(
    phase: Phase,
    server: Server,
    requests: Sequence[bytes],
    attacker: subprocess.Popen[bytes] | None = None,
) -> None:
    """Send submissions and note what they and the attacker leave behind."""
    before, began = server.used(), time.perf_counter()
    phase.took += asyncio.run(honest(server.port, requests, attacker))
    phase.seconds += time.perf_counter() - began
    rss, held, disk = (now - then for now, then in zip(server.used(), before, strict=True))
    phase.rss_bytes += rss
    phase.redis_bytes += held
    phase.disk_bytes += disk


def run(num_requests: int, num_submissions: int) -> tuple[Phase, Phase, dict[str, Counter[str]]]:
    """Measure honest work alone and under attack, in turns; return how each kind was answered too."""
    alone, beside, answered = Phase(), Phase(), dict[str, Counter[str]]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        total = 2 * num_submissions + WAVE
        with (
            redis_process(folder) as redis_url,
            server("market", redis_url, folder, total, "benchmarks.hostile") as (port, pid),
        ):
            found = Server(port, psutil.Process(pid), folder, redis_url)
            requests = read_requests(folder / "requests")
            asyncio.run(load(port, requests[:WAVE]))
            size = num_submissions // ROUNDS
            for start in range(WAVE, WAVE + 2 * size * ROUNDS, 2 * size):
                add_stretch(alone, found, requests[start : start + size])
                words = ["--attack", str(port), str(folder), str(num_requests // ROUNDS)]
                attacker = subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.hostile", *words], stdout=subprocess.PIPE
                )
                add_stretch(beside, found, requests[start + size : start + 2 * size], attacker)
                for kind, codes in json.loads(attacker.communicate()[0]).items():
                    answered.setdefault(kind, Counter()).update(codes)
    return alone, beside, answered


def report(alone: Phase, beside: Phase, answered: dict[str, Counter[str]]) -> dict[str, float]:
    """Print the table; return the ratios."""
    for name, phase in (("alone", alone), ("beside", beside)):
        each = len(phase.took)
        print(
            f"{name:7} {each:6} submissions  {phase.rate:6.0f} /s   99 % within {phase.percentile_ms:7.1f} ms   "
            f"{phase.rss_bytes / 2**20:+.1f} MiB   each {phase.redis_bytes / each:.0f} B of Redis, "
            f"{phase.disk_bytes / each:.0f} B of blobs"
        )
    share = len(beside.took) / len(alone.took)
    ratios = {
        "rate": beside.rate / alone.rate,
        "percentile": beside.percentile_ms / alone.percentile_ms,
        "redis": beside.redis_bytes / alone.redis_bytes / share,
        "disk": beside.disk_bytes / alone.disk_bytes / share,
    }
    print("   ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))
    for kind, codes in answered.items():
        print(f"{kind:24} " + ", ".join(f"{code} {count}" for code, count in codes.items()))
    return ratios


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=NUM_REQUESTS)
    parser.add_argument(
        "--submissions", type=int, help="alone, and as many beside; a fifth of the requests"
    )
    parser.add_argument("--serve", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--attack", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        _, port, redis_url, folder, count = arguments.serve
        serve(int(port), redis_url, Path(folder), int(count))
        return
    if arguments.attack:
        port, folder, count = arguments.attack
        attack(int(port), Path(folder), int(count))
        return
    alone, beside, answered = run(
        arguments.requests, arguments.submissions or arguments.requests // 5
    )
    ratios = report(alone, beside, answered)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    sides = {name: asdict(phase) for name, phase in (("alone", alone), ("beside", beside))}
    OUT.write_text(json.dumps({"ratios": ratios, **sides, "codes": answered}, indent=1) + "\n")


if __name__ == "__main__":
    main()
