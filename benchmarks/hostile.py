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
from dataclasses import asdict, dataclass
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
OUT = Path("build/bench/hostile.json")
ELEMENTS = b"\x81\xa8rollouts\xdc\xea\x60" + bytes(60_000)
"""Sixty thousand rollouts that are none, in 32 bytes under zstd."""


@dataclass(frozen=True, slots=True)
class Phase:
    """Honest submissions over one stretch; what it added is beside what each of them adds by itself."""

    submissions: int
    seconds: float
    percentile_ms: float
    rss_mib: float
    redis_bytes: int
    disk_bytes: int

    @property
    def rate(self) -> float:
        return self.submissions / self.seconds


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


def used(folder: Path, redis_url: str) -> tuple[int, int]:
    """Return the bytes that Redis holds, and those of blobs on disk."""
    import redis

    with redis.Redis.from_url(redis_url) as client:
        held = int(client.info("memory")["used_memory"])
    return held, sum(
        path.stat().st_size for path in (folder / "blobs").rglob("*") if path.is_file()
    )


def measure(
    port: int,
    process: psutil.Process,
    requests: Sequence[bytes],
    *,
    folder: Path,
    redis_url: str,
    attacker: subprocess.Popen[bytes] | None = None,
) -> Phase:
    """Send submissions and look at what they and the attacker leave behind."""
    rss, (held, disk) = process.memory_info().rss, used(folder, redis_url)
    began = time.perf_counter()
    took = sorted(asyncio.run(honest(port, requests, attacker)))
    seconds = time.perf_counter() - began
    now_held, now_disk = used(folder, redis_url)
    return Phase(
        submissions=len(took),
        seconds=seconds,
        percentile_ms=1e3 * took[len(took) * 99 // 100],
        rss_mib=(process.memory_info().rss - rss) / 2**20,
        redis_bytes=now_held - held,
        disk_bytes=now_disk - disk,
    )


def run(num_requests: int, num_submissions: int) -> tuple[Phase, Phase, dict[str, dict[str, int]]]:
    """Measure honest work alone, then under attack; return how each kind was answered too."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        total = 2 * num_submissions + WAVE
        with (
            redis_process(folder) as redis_url,
            server("market", redis_url, folder, total, "benchmarks.hostile") as (port, pid),
        ):
            requests, process = read_requests(folder / "requests"), psutil.Process(pid)
            asyncio.run(load(port, requests[:WAVE]))
            first, second = (
                requests[WAVE : WAVE + num_submissions],
                requests[WAVE + num_submissions :],
            )
            place = {"folder": folder, "redis_url": redis_url}
            alone = measure(port, process, first, **place)  # type: ignore[arg-type]
            words = ["--attack", str(port), str(folder), str(num_requests)]
            attacker = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.hostile", *words], stdout=subprocess.PIPE
            )
            beside = measure(port, process, second, attacker=attacker, **place)  # type: ignore[arg-type]
            answered, _ = attacker.communicate()
            return alone, beside, json.loads(answered)


def report(alone: Phase, beside: Phase, answered: dict[str, dict[str, int]]) -> dict[str, float]:
    """Print the table; return the ratios."""
    for name, phase in (("alone", alone), ("beside", beside)):
        each = phase.submissions
        print(
            f"{name:7} {each:6} submissions  {phase.rate:6.0f} /s   99 % within {phase.percentile_ms:7.1f} ms   "
            f"{phase.rss_mib:+.1f} MiB   each {phase.redis_bytes / each:.0f} B of Redis, "
            f"{phase.disk_bytes / each:.0f} B of blobs"
        )
    ratios = {
        "rate": beside.rate / alone.rate,
        "percentile": beside.percentile_ms / alone.percentile_ms,
        "redis": beside.redis_bytes / beside.submissions * alone.submissions / alone.redis_bytes,
        "disk": beside.disk_bytes / beside.submissions * alone.submissions / alone.disk_bytes,
    }
    print("   ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))
    for kind, codes in answered.items():
        print(f"{kind:24} " + ", ".join(f"{code} {count}" for code, count in codes.items()))
    return ratios


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=NUM_REQUESTS)
    parser.add_argument("--submissions", type=int, help="in each half; a fifth of the requests")
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
    found = {"ratios": ratios, "alone": asdict(alone), "beside": asdict(beside), "codes": answered}
    OUT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
