"""The demo's picture tells what became of everybody, and its files say the same."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from protocol.messages import Event
from protocol.policies.manifest import Blob, Manifest, PatchEntry
from rollcall.demo.claims import check_claims
from rollcall.demo.picture import interval, picture
from rollcall.demo.report import write_report
from rollcall.demo.results import ESCROW, Clock, Results
from tests.rollcall.test_claims import CHEAT, results
from tests.rollcall.test_claims import group as sold


def manifest(version: int) -> Manifest:
    blob, zero = Blob(digest=bytes(32), size=100), bytes(32)
    patches = (PatchEntry(base_version=version - 1, chunks=(blob,)),) if version else ()
    made = {"run_id": 1, "version": version, "policy_digest": zero, "tensors": ()}
    at = {"patches": patches, "anchor_version": 0, "created_at": 1}
    anchor = (Blob(digest=zero, size=400),)
    return Manifest.model_validate({**made, **at, "anchor": anchor})


def event(kind: str, at: float) -> Event:
    return Event(kind=kind, at=at, run_id=1, fields={"worker": CHEAT})


def market(**changes: Any) -> Results:
    steps = [
        {"version": 0, "at": 10.0, "accuracy": 0.52},
        {"version": 1, "at": 20.0, "reward": 0.6},
        {"version": 2, "at": 30.0, "accuracy": 0.91, "reward": 0.8},
    ]
    good = results(
        clock=Clock(0, 5, 30, 40),
        steps=steps,
        sold=[replace(group, received_at=12.0 + n) for n, group in enumerate(results().sold)],
        manifests=[manifest(version) for version in range(3)],
        events=[event("exclusion", 15.0), event("slashed", 25.0)],
    )
    return replace(good, **changes)


def words(found: Results) -> str:
    """Return all that is written on the picture of these results."""
    from matplotlib.text import Text

    figure = picture(found, check_claims(found))
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_the_picture_says_what_became_of_the_cheat_and_the_money() -> None:
    said = words(market())
    for part in (
        "Strangers handed in 3 groups, 100% of them replayed",
        "from 52.0% to 91.0% of 512 held-out problems",
        "worker-cheat: 1 groups of int4 weights, 0 trained on, paid 0",
        "✗ found by a replay, 10 s",
        "slashed 1 RTEST, 20 s",
        "accuracy 0.520 ± 0.043 → 0.910 ± 0.025",
        "asked for: 0.85",
        "a patch: 25% of it",
        "✓ in = paid + left",
        "10 of 10 claims hold",
    ):
        assert part in said, part


def test_what_does_not_hold_is_crossed() -> None:
    said = words(market(accuracy={0: 0.52, 2: 0.7}, left=ESCROW))
    assert "8 of 10 claims hold" in said
    assert "✗ in is not paid + left" in said


def test_a_market_that_sold_nothing_is_drawn_too() -> None:
    assert "0 of them replayed" not in words(market(sold=[sold()], events=[], steps=[]))
    assert "no group" in words(market(sold=[], events=[], steps=[]))


def test_an_interval_is_as_wide_as_its_sample_is_small() -> None:
    assert round(interval(0.5, 512), 4) == 0.0433
    assert interval(0.5, 2048) == interval(0.5, 512) / 2


def test_the_summary_is_what_the_report_begins_with(tmp_path: Path) -> None:
    found = market()
    write_report(tmp_path, found, check_claims(found), Console(file=(tmp_path / "said").open("w")))
    summary = json.loads((tmp_path / "summary.json").read_text())
    report = json.loads((tmp_path / "report.json").read_text())
    assert {key: report.pop(key) for key in summary} == summary
    assert set(report) == {"steps", "policies", "groups"}
    assert summary["money"] == {
        "escrowed": ESCROW,
        "paid": 1000,
        "left": ESCROW - 1000,
        "slashed": 10**18,
    }
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
