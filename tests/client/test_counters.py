"""Totals on disk: whole, also where several threads write them at once."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from client.counters import Counters


def test_threads_that_write_at_once_leave_whole_totals(tmp_path: Path) -> None:
    """A worker's two threads do, at every lease: one that lost the race ended the worker."""
    counters = Counters(tmp_path, "worker")

    def write(_: int) -> None:
        counters.add("groups")
        counters.write(now=True)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(200)))
    assert json.loads((tmp_path / "worker.json").read_text())["groups"] == 200
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["groups"] for line in lines] == sorted(
        json.loads(line)["groups"] for line in lines
    )


def test_totals_are_told_as_a_person_reads_them(tmp_path: Path) -> None:
    counters = Counters(tmp_path, "worker")
    counters.add("tokens", 5)
    counters.add_to("rejected", "bad_length", 2)
    counters.state("waits_for", "")
    assert counters.brief("groups", "tokens", "rejected", "waits_for") == {
        "groups": 0,
        "tokens": 5,
        "rejected": "2 bad_length",
    }
