"""Honest workers on machines that differ, under one law: none of their groups is rejected.

Each is a program of its own on a market of its own processes: on another instruction set, on two threads,
and on the other engine. A verifier replays every rollout of every group on this machine as it is, held to
the bounds that ship with the starting model.
"""

import json
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from client.connection import Later
from client.public import Reader
from protocol.messages import WorkerInfo
from protocol.policies.lineage import TrainedGroup
from protocol.signing import address_of
from protocol.verdict import Outcome
from rollcall.demo.processes import Command
from rollcall.frame.settings import to_toml
from rollcall.machine.variation import INSTRUCTION_SETS
from rollout_worker.verify.main import serve
from rollout_worker.verify.opening import open_verifier
from rollout_worker.verify.verdicts import VerdictBook
from tests.stage.bounds import COMMITTED
from tests.stage.live import MODEL, LiveMarket, key_of, live_market, nudged
from tests.stage.waiting import wait_until

MACHINES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "older": ("transformers", INSTRUCTION_SETS["default"]),
    "two-threads": ("transformers", {"OMP_NUM_THREADS": "2"}),
    "vllm": ("vllm", {}),
}
"""Engine and environment of each worker's process."""
GROUPS = 16
"""Of each worker and policy."""


@contextmanager
def verifying(live: LiveMarket) -> Iterator[None]:
    """Replay all there is."""
    stop = threading.Event()
    with open_verifier(live.verifier("verifier"), key_of("verifier"), stop) as verifier:
        thread = threading.Thread(target=serve, args=(verifier,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def start(live: LiveMarket, name: str) -> None:
    engine, variables = MACHINES[name]
    config = live.worker(name, engine={"name": engine})
    path = live.folder / f"{name}.toml"
    path.write_text(to_toml(config))
    argv = (sys.executable, "-m", "rollcall", "join", "--config", str(path))
    key = {"ROLLCALL_KEY": "0x" + key_of(name).hex()}
    live.processes.start(Command(name, argv, {**variables, **key}))


@pytest.mark.slow
def test_machines_that_differ_lose_no_group_and_no_standing(tmp_path: Path) -> None:
    plan = {
        "thresholds": MODEL / "thresholds.json",
        "audit_rate": 1.0,
        "groups_per_batch": GROUPS * len(MACHINES),
        "max_worker_share": 1 / len(MACHINES) + 0.01,
    }
    with live_market(tmp_path, workers=tuple(MACHINES), verifier="verifier", plan=plan) as live:
        assert live.spec.thresholds == COMMITTED
        with verifying(live):
            for name in MACHINES:
                start(live, name)
            wait_until(lambda: sold(live, 0) >= GROUPS, check=lambda: require_good(live))
            train(live)
            wait_until(lambda: sold(live, 1) >= GROUPS, check=lambda: require_good(live))
            live.processes.stop(tuple(MACHINES))
            wait_until(lambda: len(book(live).digests()) >= num_taken(live))
        require_good(live)
    verdicts = [v for digest in book(live).digests() if (v := book(live).get(digest)) is not None]
    assert len(verdicts) >= 2 * GROUPS * len(MACHINES)
    assert {(v.outcome, v.drifts) for v in verdicts} == {(Outcome.ACCEPTED, False)}
    assert all(len(v.rollouts) == live.spec.group_size for v in verdicts)


def train(live: LiveMarket) -> None:
    """Take the first batch, to which every worker gave its share, and publish what an optimizer might make."""
    batch = live.publisher.client.batch(live.run_id, 0)
    assert not isinstance(batch, Later)
    assert len({entry.worker for entry in batch.groups}) == len(MACHINES)
    groups = [TrainedGroup.of(entry, [1] * len(entry.rewards)) for entry in batch.groups]
    live.publisher.publish(1, nudged(live.publisher.kept[0]), groups)


def sold(live: LiveMarket, version: int) -> int:
    """Return how many groups of a policy version the worker with the fewest has sold."""
    return min(
        sold_by(live.folder / name / "worker.json", f"{live.run_id}/{version}") for name in MACHINES
    )


def sold_by(totals: Path, policy: str) -> int:
    found = json.loads(totals.read_text()) if totals.exists() else {}
    return int(found.get("versions", {}).get(policy, {}).get("groups", 0))


def book(live: LiveMarket) -> VerdictBook:
    return VerdictBook(live.folder / "verifier" / f"verdicts-{live.run_id}.jsonl")


def num_taken(live: LiveMarket) -> int:
    return sum(info.accepted_groups for info in standings(live))


def standings(live: LiveMarket) -> list[WorkerInfo]:
    reader = Reader(live.url)
    return [info for name in MACHINES for info in reader.worker(address_of(key_of(name))).runs]


def require_good(live: LiveMarket) -> None:
    """Raise where a group of anybody's was rejected, or a program has ended."""
    live.processes.check()
    for info in standings(live):
        assert (info.rejected_by_reason, info.is_excluded, info.paused) == ({}, False, "")
