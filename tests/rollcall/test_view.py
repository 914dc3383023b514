"""The demo's live view shows what is bought and owed, what a worker waits for, and how long it will take."""

import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from client.counters import Counters
from protocol.messages import Event
from rollcall.cli.spec import RunPlan
from rollcall.demo.events import Totals, count
from rollcall.demo.market import Market, demo_workers
from rollcall.demo.run import Ports, places
from rollcall.demo.view import View


@pytest.fixture
def market(tmp_path: Path) -> Market:
    at = places(tmp_path, Ports(redis=1, chain=2, http=3))
    found = Market(tmp_path, at, RunPlan(), workers=demo_workers(), steps=10)
    found.data_dir(found.trainer).mkdir(parents=True)
    return found


def trained(market: Market, *times: float) -> None:
    """Let the trainer have published a version at each time."""
    lines = [json.dumps({"version": n, "at": at, "reward": 0.5}) for n, at in enumerate(times)]
    (market.data_dir(market.trainer) / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def told(*happened: tuple[str, str, dict[str, int | str]]) -> Totals:
    totals = Totals()
    for kind, worker, fields in happened:
        count(totals, Event(kind=kind, at=0.0, run_id=1, fields={"worker": worker, **fields}))
    return totals


def shown(market: Market, totals: Totals, *, plain: bool = False) -> str:
    """Return what the view shows of some totals, on a terminal or as lines."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(file=nowhere, width=120, force_terminal=not plain, record=True)
        view = View(console, market, plain=plain)
        view.show(totals)
        if not plain:
            console.print(view._live.renderable)
        return " ".join(console.export_text().split())


Fields = dict[str, int | str]
LEASED: Fields = {"count": 2}
SOLD: Fields = {"tokens": 1_500_000, "state": "accepted"}


def test_a_cheats_groups_do_not_look_as_if_they_were_bought(market: Market) -> None:
    honest, _, cheat = (worker.party.address for worker in market.workers)
    happened = [("lease", who, LEASED) for who in (honest, cheat)]
    happened += [("submission", who, SOLD) for who in (honest, cheat)]
    before = shown(market, told(*happened))
    assert before.count("1 groups 1 1.5000 sampling") == 2
    after = shown(market, told(*happened, ("exclusion", cheat, {})))
    assert "worker-vllm vllm 1 groups 1 1.5000 sampling" in after
    assert "worker-cheat transformers, int4 1 groups 0 0.0000 excluded" in after
    line = shown(market, told(*happened, ("exclusion", cheat, {})), plain=True)
    assert "worker-vllm 1 of 1" in line
    assert "worker-cheat 0 of 1" in line


def test_what_admission_rejects_earns_nothing(market: Market) -> None:
    honest = market.workers[0].party.address
    poor: Fields = {"tokens": 9, "state": "rejected"}
    found = shown(market, told(("lease", honest, {"count": 1}), ("submission", honest, poor)))
    assert "worker-vllm vllm 1 groups 0 0.0000 waits for work" in found
    assert "worker-transformers transformers 0 groups 0 0.0000 starting" in found


def test_a_worker_that_stands_still_says_why(market: Market) -> None:
    worker = market.workers[0].party
    counters = Counters(market.data_dir(worker), "worker")
    counters.state("waits_for", "the trainer: enough groups are out")
    counters.write(now=True)
    one: Fields = {"count": 1}
    leased = ("lease", worker.address, one)
    assert "1.5000 waits for the trainer" in shown(
        market, told(leased, ("submission", worker.address, SOLD))
    )
    assert "0.0000 sampling" in shown(market, told(leased)), "one ahead is waited for meanwhile"


@pytest.mark.parametrize("plain", [True, False])
def test_the_missing_steps_are_told_in_seconds(market: Market, plain: bool) -> None:
    trained(market, 0.0, 40.0)
    assert " left" not in shown(market, Totals(), plain=plain), "one step is no pace"
    trained(market, 0.0, 40.0, 42.0, 44.0)
    assert "about 14 s left" in shown(market, Totals(), plain=plain)
    trained(market, 0.0, *(40.0 + n for n in range(10)))
    assert " left" not in shown(market, Totals(), plain=plain), "nothing is missing"


def test_a_stop_is_told_before_it_is_waited_for(market: Market) -> None:
    with Path(os.devnull).open("w") as nowhere:
        console = Console(file=nowhere, record=True)
        with pytest.raises(KeyboardInterrupt), View(console, market, plain=True):
            raise KeyboardInterrupt
        assert console.export_text().startswith("stopping: every process")
