"""A worker looks whether its group was drawn for a replay, before the secret is out that drew it.

Who knows which of its groups are replayed knows which cheats went unseen, and when to be gone. Nothing
public tells: no status, counter, event or metric.
"""

import json
from functools import partial
from pathlib import Path

import pytest

from orchestrator import gauges, views
from orchestrator.checks.canaries import Face
from orchestrator.metrics import WATCHED
from orchestrator.run import Run
from orchestrator.services import Services
from orchestrator.store.keys import run_prefix
from orchestrator.store.records import GroupRecord
from orchestrator.store.workers import WorkerStore
from protocol.messages import GroupState, WorkerInfo, WorkerInfos
from protocol.run import AuditPolicy
from tests.stage.ground import Ground
from tests.stage.place import Party, Place, opened

NUM_GROUPS = 24
HALF = AuditPolicy(num_probation_groups=0, rate_millionths=500_000)
Look = tuple[object, ...]


def standing(place: Place, worker: str) -> WorkerInfo:
    [found] = WorkerInfos.from_json(place.get(f"/v1/workers/{worker}").content).runs
    return found


def offer(place: Place) -> list[object]:
    """Return what the run says of itself, beside its terms."""
    body = place.get(place.path("")[:-1]).json()
    return [value for name, value in sorted(body.items()) if name != "spec"]


def gauges_of(place: Place) -> list[str]:
    """Return the run's gauges; blocks are made anyhow."""
    place.call(gauges.observe, place.services, place.services.runs[place.run_id])
    lines = place.get("/metrics").text.splitlines()
    names = tuple(f"rollcall_{name}{{" for name in WATCHED if name != "chain_time_seconds")
    found = [line for line in lines if line.startswith(names)]
    assert len(found) == len(names)
    return found


def event_of(place: Place, digest: bytes) -> dict[str, int | str]:
    after = partial(place.services.store.events.after, most=999, wait_milliseconds=1)
    events = place.call(after, place.run_id, "0-0")
    bodies = [json.loads(fields[b"body"])["fields"] for _, fields in events]
    [found] = [fields for fields in bodies if fields.get("digest") == "0x" + digest.hex()]
    return dict(found)


def look_at(place: Place, alice: Party) -> tuple[Look, bool]:
    """Sell a group; return all that could tell its draw, and the truth."""
    before, left, gauged = standing(place, alice.address), offer(place), gauges_of(place)
    digest = alice.deliver(alice.leases()[0].lease).work_digest
    after, status, event = (
        standing(place, alice.address),
        place.status(digest),
        event_of(place, digest),
    )
    look = (
        *(status.state, status.rejection, status.detail, status.verdicts, event["state"]),
        *(status.draw_epoch, status.draw_rate_millionths),
        after.accepted_groups - before.accepted_groups,
        after.accepted_tokens - before.accepted_tokens - int(event["tokens"]),
        *(old == new for old, new in zip(left, offer(place), strict=True)),
        *(old == new for old, new in zip(gauged, gauges_of(place), strict=True)),
    )
    return look, place.state(digest) is GroupState.REPLAY


def looks(ground: Ground, redis_url: str, folder: Path) -> tuple[list[Look], list[bool], list[str]]:
    """Return what was seen of each group, whether it was drawn, and the counters of submissions."""
    most = NUM_GROUPS + 1
    with opened(
        ground, redis_url, folder, audit=HALF, groups_per_batch=most, max_worker_leases=most
    ) as place:
        alice = place.party("alice")
        alice.deliver(alice.leases()[0].lease)
        found = [look_at(place, alice) for _ in range(NUM_GROUPS)]
        lines = place.get("/metrics").text.splitlines()
        counters = [line for line in lines if line.startswith("rollcall_submissions_total{")]
        return [look for look, _ in found], [drawn for _, drawn in found], counters


def test_nothing_public_tells_a_draw_before_its_secret_is_out(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    seen, drawn, counters = looks(ground, redis_url, tmp_path)
    assert 0 < sum(drawn) < NUM_GROUPS
    assert len(set(seen)) == 1
    assert {line.partition("run=")[0] for line in counters} == {
        'rollcall_submissions_total{result="taken",'
    }


def test_told_at_once_a_worker_knows_every_draw(
    ground: Ground, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bare(group: GroupRecord, *_arguments: object, **_options: object) -> Face:
        return Face(group.state, "", "", ())

    async def none(*_arguments: object) -> tuple[int, int]:
        return 0, 0

    monkeypatch.setattr(views, "face_of", bare)
    monkeypatch.setattr(WorkerStore, "waiting", none)
    seen, drawn, _ = looks(ground, redis_url, tmp_path)
    told = dict(zip(seen, drawn, strict=True))
    assert [told[look] for look in seen] == drawn
    assert len(told) > 1


def test_a_run_that_counts_accepted_work_at_once_tells_every_draw(
    ground: Ground, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted_alone = Services.budget_left_units

    async def beyond_accepted(services: Services, run: Run) -> int:
        state = run_prefix(run.run_id) + "state"
        accepted = await services.store.queue.call("HGET", state, "unsettled")
        return await posted_alone(services, run) - int(accepted or 0)

    monkeypatch.setattr(Services, "budget_left_units", beyond_accepted)
    seen, drawn, _ = looks(ground, redis_url, tmp_path)
    told = dict(zip(seen, drawn, strict=True))
    assert [told[look] for look in seen] == drawn
    assert len(told) == 2
