"""`rollcall status` tells a worker where it stands, why, and what to do."""

import json

from rich.console import Console

from orchestrator.store.keys import run_prefix
from protocol.checks.withholding import WITHHELD
from protocol.messages import Event
from rollcall.cli.status import show_status
from rollcall.cli.times import moment
from rollcall.demo.events import Totals, count
from tests.orchestrator.test_dropping import drop
from tests.orchestrator.test_pausing import FOUND, alarmed, self_check
from tests.stage.auditor import Auditor
from tests.stage.evidence import measured
from tests.stage.place import Place


def status(auditor: Auditor, *, as_json: bool = False, width: int = 400) -> str:
    console = Console(width=width)
    with console.capture() as printed:
        worker = auditor.place.ground.address("alice")
        show_status(auditor.front.url, worker=worker, as_json=as_json, console=console)
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


def test_nothing_is_cut_at_eighty_columns(auditor: Auditor) -> None:
    place = auditor.place
    drop(place.party("alice"), 9)
    lines = status(auditor, width=80).splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "…" in line]
    shown = "".join("".join(lines).split())
    for whole in (place.spec.name, place.ground.address("v0"), place.ground.address("alice")):
        assert whole.replace(" ", "") in shown
    for stage in ("accepted", "in no final epoch", "in final epochs"):
        assert any(line.strip().startswith(stage) for line in lines)


def test_a_run_says_whether_it_lives(auditor: Auditor) -> None:
    place = auditor.place
    printed, run = " ".join(status(auditor).split()), place.services.runs[place.run_id]
    manifest = run.manifest
    assert manifest is not None
    assert f"policy 0, made {moment(manifest.manifest.created_at, 0)[:19]}" in printed
    assert f"permit until {moment(run.chain.permit_until, 0)[:19]}" in printed
    assert f"{run.chain.threshold} must agree, {len(run.voters)} have a vote" in printed


def test_an_exclusion_is_shown_with_its_reason(auditor: Auditor) -> None:
    place = auditor.place
    alice = place.party("alice")
    alice.leases()
    run = place.services.runs[place.run_id]
    place.call(
        place.services.store.queue.script, "withhold", run.run_id, alice.address, WITHHELD, 10, "{}"
    )
    printed = status(auditor)
    assert "excluded" in printed
    assert "finished good groups and dropped poor ones" in printed


def test_a_pause_is_shown_with_what_was_found_and_its_remedy(auditor: Auditor) -> None:
    place = auditor.place
    alarmed(place, "v0")
    printed = status(auditor)
    assert f"paused: {FOUND}" in printed
    assert "no leases until its machine passes a self-check" in printed
    [mine] = json.loads(status(auditor, as_json=True))["worker"]
    assert (mine["paused"], mine["is_excluded"]) == (FOUND, False)


def test_the_live_view_counts_a_pause_until_its_worker_resumes(auditor: Auditor) -> None:
    place, totals = auditor.place, Totals()
    alarmed(place, "v0")
    worker = place.ground.address("alice")
    for event in told(place):
        count(totals, event)
    assert totals.paused == {worker}
    assert "paused until its machine passes" in totals.last
    assert not self_check(place.party("alice"), measured(10, place.spec.thresholds))
    for event in told(place):
        count(totals, event)
    assert not totals.paused
    assert totals.last == f"{worker} passed its self-check"


def told(place: Place) -> list[Event]:
    """Return a run's events so far, oldest first."""
    stream = run_prefix(place.run_id) + "events"
    entries = place.call(place.services.store.queue.call, "XRANGE", stream, "-", "+")
    return [Event.from_json(fields[b"body"]) for _, fields in entries]
