"""A demo is given up once nothing happens in its market, and not because it takes long."""

import json
import time
from pathlib import Path

import pytest
from rich.console import Console

from protocol.user_error import UserError
from rollcall.cli.spec import RunPlan
from rollcall.demo import run
from rollcall.demo.events import Record
from rollcall.demo.market import Market
from rollcall.demo.processes import Processes
from rollcall.demo.run import Ports, StallWatch, places
from rollcall.demo.view import View


def test_a_market_that_stands_still_is_given_up_and_a_slow_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "STALL_SECONDS", 3.0)
    at = places(tmp_path, Ports(redis=1, chain=2, http=3))
    market = Market(tmp_path, at, RunPlan(), workers=(), steps=10)
    lines = market.data_dir(market.trainer) / "metrics.jsonl"
    lines.parent.mkdir()
    record = Record(market.url, 1, tmp_path / "events.jsonl")
    console = Console(file=(tmp_path / "view.txt").open("w"))
    with Processes(tmp_path / "logs") as processes, View(console, market, plain=True) as view:
        progress = StallWatch(market, processes, view, record)
        began = time.monotonic()
        for version in range(12):  # each well within the limit, all of them beyond it
            with lines.open("a") as file:
                file.write(json.dumps({"version": version}) + "\n")
            progress.look(may_end=(), waits_for="the trainer")
            time.sleep(0.1)
        assert time.monotonic() - began > run.STALL_SECONDS
        with pytest.raises(UserError, match="waiting for the trainer, and nothing has happened"):
            while True:
                progress.look(may_end=(), waits_for="the trainer")
