"""A market in which everything goes wrong at random, under hostile traffic, and whose books are right at the end.

Parts are killed, stopped for a while, cut off, and Redis is set back by seconds, one after the other for
`ROLLCALL_CHAOS_MINUTES` (15). The seed is printed; `ROLLCALL_CHAOS_SEED` repeats its choices.
"""

import os
import random
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import httpx
import pytest
import zstandard
from eth_account import Account
from pydantic import BaseModel
from rich.console import Console

from ledger.ledger import Ledger
from rollcall.cli.launch import Launched
from rollcall.cli.spec import RunPlan
from rollcall.demo.claims import check_claims
from rollcall.demo.events import Record
from rollcall.demo.market import CHEAT_BITS, Market, Party, WorkerParty
from rollcall.demo.processes import Processes
from rollcall.demo.results import Clock, Results, gather
from rollcall.demo.run import Ports, is_settled, open_market, places, start_parties
from rollcall.demo.services import free_port, wait_for_redis
from rollcall.demo.view import View
from rollcall.frame.keys import new_key
from tests.market.test_crashes import wait_until_answers
from tests.stage.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]

HONEST = ("worker-one", "worker-two")
PARTS = (*HONEST, "verifier", "trainer", "orchestrator", "redis", "chain")
MOST_SECONDS_APART = 6.0
"""Between two acts; what is killed stays down for up to as long."""
MOST_STOPPED_SECONDS = 12.0
ENDLESS = 1_000_000
EXPECTED_CODES = {200, 204, 400, 401, 403, 404, 405, 409, 413, 416, 422, 429, 431, 503}


class Defenceless(Market):
    """A market whose cheat does not appeal: what it cannot look at within seconds it would, and be acquitted
    by an arbiter that nobody is."""

    def worker_config(self, worker: WorkerParty) -> BaseModel:
        config = super().worker_config(worker)
        return config.model_copy(update={"appeals": not worker.is_cheat})


@dataclass
class Chaos:
    """What is done to a market, and what came of it."""

    market: Market
    ports: Ports
    processes: Processes
    choose: random.Random
    done: Counter[str] = field(default_factory=Counter)

    def act(self) -> None:
        """Do one thing to one part, and return once it is back."""
        kind = self.choose.choice(("kill", "kill", "stop", "set back"))
        part = "redis" if kind == "set back" else self.choose.choice(PARTS)
        self.restart_ended()
        {"kill": self.kill, "stop": self.stop, "set back": self.set_back}[kind](part)
        self.done[f"{kind} {part}"] += 1
        time.sleep(self.choose.uniform(0, MOST_SECONDS_APART))

    def restart_ended(self) -> None:
        """Start again who ended because nobody answered at its start, as a process manager would."""
        for part in PARTS:
            running = self.processes[part]
            if running.process.poll() is not None:
                [*_, last] = running.log.read_text().splitlines()
                assert last.startswith("✗ no "), f"{part} has ended: {last}"
                self.processes.start(running.command)
                self.done[f"start {part} again"] += 1

    def kill(self, part: str) -> None:
        command = self.processes[part].command
        self.processes.kill(part)
        time.sleep(self.choose.uniform(0, MOST_SECONDS_APART))
        self.processes.start(command)
        wait_until_answers(self.market, self.processes, part)
        if part == "redis":
            wait_for_redis(self.processes, self.ports.redis, self.market.redis_password)

    def stop(self, part: str) -> None:
        """Stop a part with all its children, as a network that is gone or a laptop that sleeps would."""
        group = self.processes[part].process.pid
        os.killpg(group, signal.SIGSTOP)
        try:
            time.sleep(self.choose.uniform(1, MOST_STOPPED_SECONDS))
        finally:
            os.killpg(group, signal.SIGCONT)

    def set_back(self, part: str) -> None:
        """Kill Redis, and start it on its log as it was some seconds before."""
        log = self.market.folder / "redis" / "appendonly.aof"
        mark = log.stat().st_size
        time.sleep(self.choose.uniform(0.5, 3))
        command = self.processes[part].command
        self.processes.kill(part)
        with log.open("r+b") as file:
            file.truncate(min(mark, log.stat().st_size))
        self.processes.start(command)
        wait_for_redis(self.processes, self.ports.redis, self.market.redis_password)


@contextmanager
def hostile_traffic(url: str, run_id: int) -> Iterator[Counter[int]]:
    """Send nonsense from a thread until the block ends; yields what was answered, by status."""
    codes: Counter[int] = Counter()
    over = threading.Event()
    run, zero = f"/v1/runs/{run_id}", "0x" + "00" * 32
    requests = (
        ("POST", f"{run}/submissions", zstandard.compress(b"\x91" * 50_000)),
        ("POST", f"{run}/leases", b'{"count": 4096}'),
        ("POST", f"{run}/audits/{zero}/verdict", b"{" * 10_000),
        ("POST", "/v1/session", b'{"message": "' + b"x" * 4096 + b'", "signature": "0x"}'),
        ("POST", "/v1/runs", b'{"run_id": 1, "spec": {}}'),
        ("PUT", f"/v1/blobs/{zero}", bytes(1 << 16)),
        ("GET", f"{run}/lineage?first=1&last=4000000000", b""),
        ("GET", f"{run}/submissions/{zero}", b""),
        ("GET", f"/v1/blobs/{zero}", b""),
        ("DELETE", f"{run}/epochs/0", b""),
    )

    def send() -> None:
        with httpx.Client(base_url=url, timeout=5, trust_env=False) as client:
            while not over.is_set():
                for method, path, body in requests:
                    headers = {"authorization": f"Bearer {secrets.token_hex(16)}"}
                    with suppress(httpx.HTTPError):
                        found = client.request(method, path, content=body, headers=headers)
                        codes[found.status_code] += 1
                    over.wait(0.05)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield codes
    finally:
        over.set()
        thread.join()


@dataclass(frozen=True, slots=True)
class Ended:
    results: Results
    done: Counter[str]
    codes: Counter[int]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    seconds = 60 * float(os.environ.get("ROLLCALL_CHAOS_MINUTES", "15"))
    seed = int(os.environ.get("ROLLCALL_CHAOS_SEED", secrets.randbits(32)))
    print(f"ROLLCALL_CHAOS_SEED={seed}")
    folder = tmp_path_factory.mktemp("chaos")
    ports = Ports(redis=free_port(), chain=free_port(), http=free_port())
    workers = tuple(
        WorkerParty(Party(name, new_key()), "transformers", groups_per_call=8) for name in HONEST
    )
    cheat = WorkerParty(
        Party("worker-cheat", new_key()),
        "transformers",
        groups_per_call=8,
        quantise_bits=CHEAT_BITS,
    )
    plan = RunPlan(num_held_out=64, lease_seconds=30, groups_per_batch=12, epoch_seconds=10)
    market = Defenceless(
        folder, places(folder, ports), plan, workers=(*workers, cheat), steps=ENDLESS
    )
    console = Console(file=(folder / "view.txt").open("w"))
    with Processes(folder / "logs") as processes, View(console, market, plain=True) as view:
        launched = open_market(market, ports, processes, view)
        with Record(market.url, launched.run_id, folder / "events.jsonl") as record:
            start_parties(market, processes, launched.run_id)
            wait_until(
                lambda: len(market.trainer_metrics()) > 1,
                check=lambda: processes.check(may_end=("worker-cheat",)),
            )
            chaos = Chaos(market, ports, processes, random.Random(seed))
            with hostile_traffic(market.url, launched.run_id) as codes:
                until = time.monotonic() + seconds
                while time.monotonic() < until:
                    chaos.act()
            chaos.restart_ended()
            come_to_rest(market, processes, record, launched)
            results = gather(market, launched, record.events(), Clock(0, 0, 0, 0), console)
    return Ended(results, chaos.done, codes)


def come_to_rest(market: Market, processes: Processes, record: Record, launched: Launched) -> None:
    """Stop the trainer, the workers and the run, and wait until all that was earned is final."""
    processes.stop(["trainer", *HONEST, "worker-cheat"])
    market.steps = int(market.trainer_metrics()[-1]["version"])
    operator = Account.from_key(market.operator.key)
    ledger = Ledger.connect(market.rpc_url, launched.deployment, operator)
    ledger.stop_run(launched.run_id)
    wait_until(lambda: is_settled(market, ledger, launched.run_id, record), check=processes.check)


BY_EVENTS = ("accuracy", "every trained group")
"""Claims about all steps: a Redis that is set back forgets events, by which the demo knows its groups."""


def test_the_books_are_right_after_it(ended: Ended) -> None:
    print(dict(ended.done), dict(ended.codes))
    results, claims = ended.results, check_claims(ended.results)
    broken = [c for c in claims if not c.holds and not c.name.startswith(BY_EVENTS)]
    assert not broken, broken
    trained = [group for group in results.sold if group.trained_in >= 0]
    ages = {group.trained_in - group.policy_version for group in trained}
    assert {group.state for group in trained} == {"accepted"}
    assert ages <= set(range(results.spec.max_staleness + 1))
    assert results.num_steps > 1


def test_every_kind_of_fault_happened_and_strangers_were_refused_by_code(ended: Ended) -> None:
    assert {kind.partition(" ")[0] for kind in ended.done} >= {"kill", "stop", "set"}
    assert sum(ended.codes.values()) > 100
    assert set(ended.codes) <= EXPECTED_CODES, ended.codes
