"""`rollcall status` tells a worker where it stands, why, and what to do."""

import json

from rich.console import Console

from protocol.withholding import WITHHELD
from rollcall.status import show
from tests.orchestrator.test_dropping import drop
from tests.rollcall.auditor import Auditor


def status(auditor: Auditor, *, as_json: bool = False) -> str:
    console = Console(width=400)
    with console.capture() as printed:
        worker = auditor.place.ground.address("alice")
        show(auditor.front.url, worker=worker, as_json=as_json, console=console)
    return printed.get()


def test_a_lowered_standing_is_shown_with_its_remedy(auditor: Auditor) -> None:
    place = auditor.place
    alice = place.party("alice")
    drop(alice, 8)
    assert "good" in status(auditor), "two crashes with four leases each"
    drop(alice, 1)
    printed = status(auditor)
    assert "lowered" in printed
    assert "at most 3 of 4 leases may be held; finish 4 groups" in printed
    [mine] = json.loads(status(auditor, as_json=True))["worker"]
    assert (mine["dropped_leases"], mine["most_leases"]) == (9, 3)


def test_an_exclusion_is_shown_with_its_reason(auditor: Auditor) -> None:
    place = auditor.place
    alice = place.party("alice")
    alice.leases()
    run = place.market.runs[place.run_id]
    place.call(place.market.queue.script, "withhold", run.run_id, alice.address, WITHHELD, 10, "{}")
    printed = status(auditor)
    assert "excluded" in printed
    assert "finished good groups and dropped poor ones" in printed
