"""Honest submissions beside hostile requests of ten kinds, against the same without them.

One orchestrator process with the limits that it has by default, and honest workers that stay within theirs.
A process of its own sends the hostile requests over many connections, as fast as they are answered. In turns
honest work is measured alone, beside the attack, and beside the same attack at another port, where a bare
server refuses everything: what that leaves is what the attack costs by being on the same machine, and the
rate beside the attack is given against both. `cpu` is the part of the orchestrator's processor time that honest
work keeps, whatever else the machine does. Every hostile request must be refused, by the code that the
table shows; memory, Redis and disk grow by honest work alone.

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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import psutil
import redis
import zstandard

from benchmarks.serving import (
    Market,
    Served,
    answer,
    bare_server,
    cpu_of,
    load,
    market,
    report_of,
    request_bytes,
)
from orchestrator.budgets import HELD_SECONDS, MOST_HELD_SECONDS, PACE_SECONDS
from orchestrator.config import Limits
from protocol.messages import LeaseRequest, RunRegistration, SessionRequest
from tests.stage.place import Place

NUM_REQUESTS = 100_000
ROUNDS = 4
"""Stretches of honest work of each kind, in turns: another load on the machine meets all."""
WORKERS = tuple(f"w{n}" for n in range(16))
"""So that none needs more than the requests that one may make."""
WARM = 500
"""Honest submissions before anything is measured."""
NUM_HOSTILE = 256
"""Connections of the attack; honest work has an eighth of them."""
OUT = Path("build/bench/hostile.json")
MODULE: Final = "benchmarks.hostile"
ELEMENTS = b"\x81\xa8rollouts\xdc\xea\x60" + bytes(60_000)
"""Sixty thousand rollouts that are none, in 32 bytes under zstd."""


@dataclass(slots=True)
class Phase:
    """Honest submissions over some stretches; what those added is beside what each of them adds by itself."""

    took: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """What the orchestrator's processes took of the processor, for honest and hostile requests."""
    attack_cpu_seconds: float = 0.0
    """What sending the hostile requests took meanwhile, of the same machine."""
    rss_bytes: int = 0
    redis_bytes: int = 0
    disk_bytes: int = 0

    @property
    def rate(self) -> float:
        return len(self.took) / self.seconds

    @property
    def cpu_each(self) -> float:
        return self.cpu_seconds / len(self.took)

    @property
    def percentile_ms(self) -> float:
        return 1e3 * sorted(self.took)[len(self.took) * 99 // 100]


def hostile_requests(place: Place) -> dict[str, bytes]:
    """Return a whole HTTP request of each kind, by strangers without a stake but for one staked worker."""
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
        kind: request_bytes(where, token, body) for kind, (where, token, body) in posts.items()
    }
    found["a blob of no digest"] = get(f"/v1/blobs/{zero}")
    found["records of no version"] = get(path("lineage?first=4000000&last=4001000"))
    return found


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: market.test\r\n\r\n".encode()


def refuser() -> Any:
    """Return a server that refuses as late as the orchestrator does whoever owes, and does nothing else."""
    turn = 0.0

    async def refuse(_scope: Any, _receive: Any, send: Any) -> None:
        nonlocal turn
        now = asyncio.get_running_loop().time()
        turn = min(max(now + HELD_SECONDS, turn + PACE_SECONDS), now + MOST_HELD_SECONDS)
        await asyncio.sleep(turn - now)
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 429, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})

    return refuse


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
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()

    async def send() -> None:
        print("attacking", flush=True)
        await asyncio.gather(*(send_some() for _ in range(NUM_HOSTILE)))

    asyncio.run(send())
    print(json.dumps(found))


def used(opened: Market, server: Served) -> tuple[int, int, int]:
    """Return the bytes that the server and Redis hold, and those of blobs on disk."""
    with redis.Redis.from_url(opened.redis_url) as client:
        held = int(client.info("memory")["used_memory"])
    blobs = (path for path in (opened.folder / "blobs").glob("[!l]*/**/*") if path.is_file())
    return server.memory(), held, sum(path.stat().st_size for path in blobs)


def add_stretch(
    phase: Phase,
    opened: Market,
    server: Served,
    requests: Sequence[bytes],
    attacker: "subprocess.Popen[bytes] | None" = None,
) -> None:
    """Send submissions and note what they and the attacker leave behind."""
    sender = psutil.Process(attacker.pid) if attacker else None
    before, began = used(opened, server), time.perf_counter()
    spent, sent = server.cpu(), cpu_of(sender) if sender else 0.0
    phase.took += asyncio.run(load(server.port, requests))
    phase.seconds += time.perf_counter() - began
    phase.cpu_seconds += server.cpu() - spent
    phase.attack_cpu_seconds += cpu_of(sender) - sent if sender else 0.0
    after = used(opened, server)
    rss, held, disk = (now - then for now, then in zip(after, before, strict=True))
    phase.rss_bytes += rss
    phase.redis_bytes += held
    phase.disk_bytes += disk


@dataclass(slots=True)
class Found:
    """Honest work alone, beside the attack, and beside the same at another server."""

    alone: Phase = field(default_factory=Phase)
    elsewhere: Phase = field(default_factory=Phase)
    beside: Phase = field(default_factory=Phase)
    answered: dict[str, Counter[str]] = field(default_factory=dict)
    """By kind of hostile request, how often each code came."""
    attack_seconds: float = 0.0
    ratios: dict[str, float] = field(default_factory=dict)


def run(num_requests: int, num_submissions: int) -> Found:
    """Measure honest work of each kind in turns, and tell after each round what is known."""
    found, size = Found(), num_submissions // ROUNDS
    with (
        tempfile.TemporaryDirectory() as name,
        market(Path(name), WORKERS) as opened,
        opened.serve(1, Limits()) as server,
        bare_server("benchmarks.hostile:refuser") as bare,
    ):
        folder = opened.folder
        kinds = {kind: request.hex() for kind, request in hostile_requests(opened.place).items()}
        (folder / "hostile").write_text(json.dumps(kinds))
        asyncio.run(load(server.port, opened.submissions(WARM)))
        for _ in range(ROUNDS):
            add_stretch(found.alone, opened, server, opened.submissions(size))
            requests = opened.submissions(size)
            with attacking(bare.port, folder, num_requests) as attacker:
                add_stretch(found.elsewhere, opened, server, requests, attacker)
            requests, began = opened.submissions(size), time.perf_counter()
            with attacking(server.port, folder, num_requests // ROUNDS) as attacker:
                add_stretch(found.beside, opened, server, requests, attacker)
                answered = json.loads(attacker.communicate()[0])
            found.attack_seconds += time.perf_counter() - began
            for kind, codes in answered.items():
                found.answered.setdefault(kind, Counter()).update(codes)
            report(found)
    return found


@contextmanager
def attacking(port: int, folder: Path, count: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Have an attacker at work, which has begun."""
    words = ["--attack", str(port), str(folder), str(count)]
    command = [sys.executable, "-m", MODULE, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as attacker:
        assert attacker.stdout is not None
        attacker.stdout.readline()
        yield attacker
        attacker.kill()


def report(found: Found) -> None:
    """Work out the ratios, and print the table."""
    alone, elsewhere, beside = found.alone, found.elsewhere, found.beside
    for name, phase in (("alone", alone), ("elsewhere", elsewhere), ("beside", beside)):
        each = len(phase.took)
        print(
            f"{name:10} {each:6} submissions  {phase.rate:6.0f} /s, {1e3 * phase.cpu_each:.2f} ms CPU each   99 % within {phase.percentile_ms:7.1f} ms   "
            f"{phase.rss_bytes / 2**20:+.1f} MiB   each {phase.redis_bytes / each:.0f} B of Redis, "
            f"{phase.disk_bytes / each:.0f} B of blobs   attacker {phase.attack_cpu_seconds / phase.seconds:.2f} CPU"
        )
    found.ratios = {
        "rate": beside.rate / alone.rate,
        "rate_elsewhere": beside.rate / elsewhere.rate,
        "cpu": alone.cpu_each / beside.cpu_each,
        "percentile": beside.percentile_ms / alone.percentile_ms,
        "redis": beside.redis_bytes / alone.redis_bytes,
        "disk": beside.disk_bytes / alone.disk_bytes,
    }
    print("   ".join(f"{name} {ratio:.2f}" for name, ratio in found.ratios.items()))
    for kind, codes in found.answered.items():
        print(f"{kind:24} " + ", ".join(f"{code} {count}" for code, count in codes.items()))
    count = sum(codes.total() for codes in found.answered.values())
    print(f"{count} hostile requests, {count / found.attack_seconds:.0f} /s", flush=True)


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=NUM_REQUESTS)
    parser.add_argument("--submissions", type=int, help="of each kind; default: one a request")
    parser.add_argument("--attack", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.attack:
        port, folder, count = arguments.attack
        attack(int(port), Path(folder), int(count))
        return
    found = run(arguments.requests, arguments.submissions or arguments.requests)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    sides = {name: asdict(getattr(found, name)) for name in ("alone", "elsewhere", "beside")}
    OUT.write_text(json.dumps(report_of(ratios=found.ratios, **sides, codes=found.answered)) + "\n")


if __name__ == "__main__":
    main()
