"""kill -9 of every part of a running market, each once: nothing is lost, trained on or paid twice.

One market of real processes (transformers workers, so that restarts take seconds) is started for the
module; each part is killed while groups are being sampled, replayed and trained on, and started again
with the same command.
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from protocol.messages import Event
from rollcall.cli.spec import RunPlan
from rollcall.demo.claims import check_claims
from rollcall.demo.events import Record
from rollcall.demo.market import CHEAT_BITS, Market, Party, WorkerParty
from rollcall.demo.processes import Processes
from rollcall.demo.results import Clock, Results, gather
from rollcall.demo.run import Ports, open_market, places, settle, start_parties
from rollcall.demo.services import free_port, wait_for_chain, wait_for_http
from rollcall.demo.view import View
from rollcall.frame.keys import new_key
from rollout_worker.pay.receipts import ReceiptBook

STEPS = 12
KILLED_AT = {
    "worker-honest": 2,
    "verifier": 3,
    "trainer": 5,
    "orchestrator": 7,
    "redis": 8,
    "chain": 10,
}
"""The policy version at which each part is killed."""


@dataclass(frozen=True, slots=True)
class Survived:
    results: Results
    events: list[Event]
    kills: list[str]
    metrics: list[int]
    folder: Path


@pytest.fixture(scope="module")
def survived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Survived]:
    folder = tmp_path_factory.mktemp("market")
    ports = Ports(redis=free_port(), chain=free_port(), http=free_port())
    workers = (
        WorkerParty(Party("worker-honest", new_key()), "transformers", groups_per_call=8),
        WorkerParty(
            Party("worker-cheat", new_key()),
            "transformers",
            groups_per_call=8,
            quantise_bits=CHEAT_BITS,
        ),
    )
    plan = RunPlan(num_held_out=64, lease_seconds=30, groups_per_batch=12, epoch_seconds=10)
    market = Market(folder, places(folder, ports), plan, workers=workers, steps=STEPS)
    console = Console(file=(folder / "view.txt").open("w"))
    with Processes(folder / "logs") as processes, View(console, market, plain=True) as view:
        launched = open_market(market, ports, processes, view)
        with Record(market.url, launched.run_id, folder / "events.jsonl") as record:
            start_parties(market, processes, launched.run_id)
            kills = kill_each_once(market, processes)
            settle(market, processes, view, record, launched)
            results = gather(market, launched, record.events(), Clock(0, 0, 0, 0), console)
            events = record.events()
    yield Survived(results, events, kills, [int(s["version"]) for s in results.steps], folder)


def kill_each_once(market: Market, processes: Processes) -> list[str]:
    """Kill each part when its version is reached, start it again, until the trainer is done."""
    pending, kills = dict(KILLED_AT), []
    while processes["trainer"].process.poll() is None:
        processes.check(may_end=("trainer", "worker-cheat"))
        lines = market.trainer_metrics()
        version = int(lines[-1]["version"]) if lines else -1
        due = [name for name, at in pending.items() if version >= at]
        for name in due[:1]:
            del pending[name]
            command = processes[name].command
            processes.kill(name)
            kills.append(name)
            processes.start(command)
            wait_until_answers(market, processes, name)
        time.sleep(0.05)
    return kills


def wait_until_answers(market: Market, processes: Processes, name: str) -> None:
    """Return once a part that others call is there again; the others call out and are not waited for."""
    port = market.places.port
    if name == "orchestrator":
        wait_for_http(processes, name, f"http://127.0.0.1:{port}/healthz")
    elif name == "chain":
        wait_for_chain(processes, market.rpc_url)


def test_every_part_was_killed_once(survived: Survived) -> None:
    assert sorted(survived.kills) == sorted(KILLED_AT)


def test_the_market_still_keeps_its_promises(survived: Survived) -> None:
    broken = [c for c in check_claims(survived.results) if not c.holds and "accuracy" not in c.name]
    assert not broken, broken


def test_every_receipt_for_accepted_work_is_still_honoured(survived: Survived) -> None:
    """What workers were promised, by their own record, is what the ledger paid."""
    accepted = sum(w.standing.accepted_tokens for w in survived.results.workers)
    assert accepted > 0
    assert accepted == sum(w.earned_units for w in survived.results.workers)
    promised = ReceiptBook(survived.folder / "worker-honest" / "receipts").promises(1)
    known = {event.fields["digest"] for event in survived.events if event.kind == "submission"}
    assert promised
    assert {"0x" + kept.receipt.work_digest.hex() for kept in promised} <= known


def test_each_version_was_trained_and_published_once(survived: Survived) -> None:
    assert survived.metrics == list(range(STEPS + 1))
    published = Counter(e.fields["version"] for e in survived.events if e.kind == "policy")
    assert set(published) == set(range(STEPS + 1))


def test_no_group_is_in_two_batches(survived: Survived) -> None:
    per_step = Counter(g.trained_in for g in survived.results.sold if g.trained_in >= 0)
    assert set(per_step) == set(range(STEPS))
    assert set(per_step.values()) == {12}
