"""Runs that cannot be served: none keeps another from being served, settled and slashed for."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator import leases
from orchestrator.jobs import Service
from orchestrator.store import keys
from protocol.canonical import content_digest
from protocol.messages import RunList, RunRegistration
from tests.stage.ground import Ground
from tests.stage.place import Place, open_market, opened
from tests.stage.terms import make_spec


def registered(place: Place, **changes: Any) -> int:
    """Register another run of the same operator; returns its id."""
    spec = make_spec(**changes)
    run_id = place.ground.create_run(spec, num_verifiers=1, threshold=1)
    place.wait(0)
    body = RunRegistration(run_id=run_id, spec=spec)
    assert place.request("POST", "/v1/runs", body.to_json()).status_code == 200
    return run_id


def served(place: Place) -> set[int]:
    return {info.run_id for info in RunList.from_json(place.get("/v1/runs").content).runs}


def test_a_run_whose_tokenizer_is_garbage_does_not_keep_a_restart_from_the_others(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    garbage = b'{"version": "1.0", "model": 7}'
    with opened(ground, redis_url, tmp_path) as place:
        bad = registered(place, tokenizer_digest=content_digest(garbage))
        place.upload(garbage)
        assert served(place) == {place.run_id, bad}
        restarted = open_market(ground, redis_url, tmp_path, {})

        async def recover() -> set[int]:
            await restarted.recover()
            await restarted.close()
            return set(restarted.runs)

        assert place.call(recover) == {place.run_id}


def test_a_run_whose_data_are_gone_does_not_keep_a_restart_from_the_others(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    from protocol.environments.registry import environment

    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "1+1?", "answer": "2\\n#### 2"}\n' * 20)
    config = {"path": str(rows)}
    with opened(ground, redis_url, tmp_path / "blobs") as place:
        bad = registered(
            place,
            environment="gsm8k",
            environment_config=config,
            environment_digest=environment("gsm8k", config).digest,
            num_tasks=20,
            held_out_start=20,
            num_held_out=0,
        )
        assert bad in served(place)
        rows.write_bytes(b"\xff\xfe not text")
        restarted = open_market(ground, redis_url, tmp_path / "blobs", {})

        async def recover() -> set[int]:
            await restarted.recover()
            await restarted.close()
            return set(restarted.runs)

        assert place.call(recover) == {place.run_id}


def test_a_strangers_run_is_refused_though_it_names_this_orchestrator(place: Place) -> None:
    """Its creator could upload blobs without end and choose which files are read."""
    spec = make_spec(name="strangers")
    ledger = place.ground.by("carol")
    from ledger.state import RunParams

    params = RunParams(
        token=place.ground.deployment.token,
        rate=spec.rate,
        min_stake=100,
        challenge_window=2,
        settle_window=60,
        resume_delay=2,
        threshold=1,
        spec_hash=spec.canonical_digest(),
        base_model=spec.model_digest,
        num_parameters=spec.num_parameters,
        verifiers=(place.ground.address("v0"),),
    )
    run_id = ledger.create_run(params, 0, "")
    place.wait(0)
    body = RunRegistration(run_id=run_id, spec=spec)
    response = place.request("POST", "/v1/runs", body.to_json())
    assert (response.status_code, response.json()["code"]) == (409, "refused")
    assert "addSigner" in response.json()["message"]
    assert run_id not in served(place)


def test_registering_again_and_again_builds_nothing(place: Place) -> None:
    run = place.services.runs[place.run_id]
    assert place.register().status_code == 200
    assert place.services.runs[place.run_id] is run


def test_background_jobs_outlive_a_queue_that_refuses(place: Place) -> None:
    """A full or read-only Redis answers with an error of its own, which is no lost connection."""
    services = place.services
    service = Service(services)

    def failures() -> float:
        found = services.metrics.registry.get_sample_value(
            "rollcall_background_failures_total", {"job": "recover"}
        )
        return found or 0.0

    async def break_and_mend() -> None:
        spec = await services.store.queue.call("HGET", keys.RUNS, place.run_id)
        await services.store.queue.call("DEL", keys.RUNS)
        await services.store.queue.call("SET", keys.RUNS, "not a hash")
        service.start()
        async with asyncio.timeout(20):
            while failures() < 4:
                await asyncio.sleep(0.05)
        await services.store.queue.call("DEL", keys.RUNS)
        await services.store.queue.call("HSET", keys.RUNS, place.run_id, spec)

    place.call(break_and_mend)

    async def all_alive() -> bool:
        await asyncio.sleep(0.1)
        alive = not any(task.done() for task in service._tasks)
        await service.close()
        return alive

    assert place.call(all_alive)
    assert service.failure is None


def test_a_job_whose_cancellation_was_lost_is_told_again(place: Place) -> None:
    """As one is in a library's `asyncio.wait_for`, once in some hundred closings."""
    service = Service(place.services)

    async def loses_one() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3_600)
        await asyncio.sleep(3_600)

    async def close() -> None:
        service._tasks = [asyncio.create_task(loses_one())]
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await service.close()

    place.call(close)


def test_a_script_that_cannot_be_sent_cancels_no_background_job(place: Place) -> None:
    """Scripts share round trips: what one breaks must reach the others as an error they expect."""
    services, run = place.services, place.services.runs[place.run_id]

    async def ask_beside_a_broken_one() -> list[object]:
        broken = services.store.queue.script("publish", run.run_id, object())  # type: ignore[arg-type]
        sound = leases.expire(services, run, latest=0)
        return list(await asyncio.gather(broken, sound, return_exceptions=True))

    for answer in place.call(ask_beside_a_broken_one):
        assert isinstance(answer, Exception), "and no CancelledError, which ends a task unseen"
