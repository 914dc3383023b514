"""A trainer that is killed anywhere goes on with the numbers it would have had."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.responses import Response

from client.trainer import open_trainer_routes
from protocol.errors import Malformed, MarketError
from protocol.messages import Batch
from protocol.signing import Domain
from tests.stage import work
from tests.stage.bounds import thresholds
from tests.stage.desk import Desk, refusal, serving
from trainer.config import TrainerConfig
from trainer.loop import Stopped, WrongRun
from trainer.main import open_trainer
from trainer.publish import Diverged, Plan, Publisher

STEPS = 4


pytestmark = pytest.mark.usefixtures("deterministic")


def config(desk: Desk, folder: Path, **changes: Any) -> TrainerConfig:
    values = {
        "orchestrator": desk.url,
        "run_id": work.RUN,
        "model_dir": work.MODEL,
        "work_dir": folder,
        "steps": STEPS,
        "evaluate_every": 0,
        "microbatch_tokens": 256,
        "anchor_every": 3,
        "tensorboard": False,
    }
    return TrainerConfig.model_validate(values | changes)


def live(desk: Desk, settings: TrainerConfig, stop: threading.Event | None = None) -> None:
    """One life of a trainer's process."""
    stop = stop or threading.Event()
    with (
        open_trainer_routes(desk.url, work.RUN, work.KEY) as client,
        open_trainer(settings, work.KEY, client, stop) as trainer,
    ):
        trainer.train()


def lines(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what depends on the machine's speed."""
    timed = ("_seconds", "_per_second", "at")
    return [
        {k: v for k, v in json.loads(line).items() if not k.endswith(timed[:2]) and k != timed[2]}
        for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Desk, Path]:
    """The desk and folder of a trainer that nothing happened to."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("straight")
    with serving(work.desk(STEPS)) as desk:
        live(desk, config(desk, folder))
    return desk, folder


def digests(desk: Desk) -> list[bytes]:
    return [signed.manifest.policy_digest for signed in desk.policies]


def test_every_version_is_published_once_and_reached_by_every_way(
    straight: tuple[Desk, Path],
) -> None:
    desk, folder = straight
    assert desk.acked == list(range(STEPS))
    assert len(set(digests(desk))) == STEPS + 1
    assert digests(desk)[0] == desk.info.spec.model_digest
    for version in range(STEPS + 1):
        desk.weights(version)
    bases = [[p.base_version for p in s.manifest.patches] for s in desk.policies]
    assert bases == [[], [0], [1, 0], [2, 1], [3, 2, 0]]
    found = lines(folder)
    assert [line["version"] for line in found] == list(range(STEPS + 1))
    assert all(0 < line["patch_bytes"] < line["anchor_bytes"] for line in found[1:])
    # Sampled by version 0, so the first step is on policy.
    assert found[1]["ratio_mean"] == pytest.approx(1.0, abs=1e-5)
    assert found[4]["staleness"] == {"3": 4}


Point = Callable[[str, str, bool], bool]


def at(method: str, ending: str, *, answered: bool, time: int = 1) -> Callable[[], Point]:
    """A kill at the `time`-th such request: before it is seen, or after it is done."""

    def arm() -> Point:
        count = 0

        def strikes(found_method: str, path: str, done: bool) -> bool:
            nonlocal count
            if (found_method, done) != (method, answered) or not path.endswith(ending):
                return False
            count += 1
            return count == time

        return strikes

    return arm


@pytest.mark.parametrize(
    "arm",
    [
        at("POST", "/policies", answered=True, time=1),
        at("POST", "/batches", answered=True, time=3),
        at("POST", "/policies", answered=False, time=3),
        at("POST", "/policies", answered=True, time=3),
        at("POST", "/batches/1/ack", answered=False),
        at("POST", "/batches/1/ack", answered=True),
        at("POST", "/batches/0/ack", answered=True),
    ],
)
def test_a_trainer_that_dies_at_any_point_goes_on_as_if_it_had_not(
    arm: Callable[[], Point], straight: tuple[Desk, Path], tmp_path: Path
) -> None:
    strikes = arm()

    def fault(method: str, path: str, done: bool) -> Response | None:
        return refusal(Malformed("struck down")) if strikes(method, path, done) else None

    with serving(work.desk(STEPS)) as desk:
        desk.fault = fault
        with pytest.raises(Malformed, match="struck down"):
            live(desk, config(desk, tmp_path))
        live(desk, config(desk, tmp_path))
        assert digests(desk) == digests(straight[0])
        assert desk.acked == list(range(STEPS))
        assert desk.weights(STEPS) == straight[0].weights(STEPS)
    assert lines(tmp_path) == lines(straight[1])


def test_microbatches_do_not_change_the_step_beyond_rounding(tmp_path: Path) -> None:
    with serving(work.desk(1)) as desk:
        settings = {"steps": 1}
        live(desk, config(desk, tmp_path / "small", microbatch_tokens=64, **settings))
    with serving(work.desk(1)) as other:
        live(other, config(other, tmp_path / "large", microbatch_tokens=10_000, **settings))
    small, large = lines(tmp_path / "small")[1], lines(tmp_path / "large")[1]
    assert small["loss"] == pytest.approx(large["loss"], abs=1e-6)
    assert small["gradient_norm"] == pytest.approx(large["gradient_norm"], rel=1e-4)
    assert small["forwarded_tokens"] > large["forwarded_tokens"]


def test_an_orchestrator_that_restarts_is_waited_out(tmp_path: Path) -> None:
    troubles = iter(["lost session", "busy", "page", "lost session"])

    with serving(work.desk(1)) as desk:

        def fault(method: str, path: str, done: bool) -> Response | None:
            if done or method == "GET" or path == "/session":
                return None
            match next(troubles, None):
                case "lost session":
                    desk.tokens.clear()
                case "busy":
                    return Response(status_code=503, headers={"Retry-After": "0.05"})
                case "page":
                    return Response("<html>bad gateway</html>", status_code=502)
            return None

        desk.fault = fault
        live(desk, config(desk, tmp_path, steps=1))
        assert desk.acked == [0]
        assert len(desk.nonces) >= 2


def test_a_waiting_trainer_stops_when_asked(tmp_path: Path) -> None:
    stop = threading.Event()
    with serving(work.desk(1)) as desk:
        threading.Timer(1.0, stop.set).start()
        with pytest.raises(Stopped):
            live(desk, config(desk, tmp_path, steps=2), stop)
        assert desk.acked == [0]


def test_a_trainer_that_computes_other_weights_than_it_published_says_so(tmp_path: Path) -> None:
    with serving(work.desk(1)) as desk:
        live(desk, config(desk, tmp_path / "a", steps=1))
        desk.acked.clear()
        with pytest.raises(Diverged, match="version 1 is published with other weights"):
            live(
                desk,
                config(desk, tmp_path / "b", steps=1, learning_rate=1e-3),
            )
        assert len(desk.policies) == 2


def test_a_batch_offered_twice_is_not_trained_on_twice(tmp_path: Path) -> None:
    with serving(work.desk(2)) as desk:
        first = desk.batches[0]
        desk.batches[1] = Batch(run_id=work.RUN, step=1, groups=first.groups)
        live(desk, config(desk, tmp_path, steps=2))
        assert digests(desk)[2] == digests(desk)[1]
    assert lines(tmp_path)[2]["dropped"] == {"already_trained": 4}


@pytest.mark.parametrize("other", ["trainer", "model_digest", "tokenizer_digest"])
def test_a_run_that_is_not_this_trainers_is_refused(other: str, tmp_path: Path) -> None:
    with serving(work.desk(1)) as desk:
        value = work.WORKER if other == "trainer" else bytes(32)
        changes: dict[str, object] = {other: value}
        if other == "model_digest":
            changes["thresholds"] = thresholds(bytes(32))
        desk.info = work.info(work.spec(**changes))
        with pytest.raises(WrongRun):
            live(desk, config(desk, tmp_path))
        assert not desk.policies


def test_other_bytes_for_a_blob_are_not_taken(tmp_path: Path) -> None:
    with serving(work.desk(1)) as desk:
        first, second = (group.body for group in desk.batches[0].groups[:2])
        desk.blobs[first] = desk.blobs[second]
        with pytest.raises(MarketError, match="whose digest is"):
            live(desk, config(desk, tmp_path))


def test_the_trainer_signs_what_it_trained_on(straight: tuple[Desk, Path]) -> None:
    desk, folder = straight
    trained = [line["trained_tokens"] for line in lines(folder)[1:]]
    records = [desk.record(version) for version in range(1, STEPS + 1)]
    assert [sum(sum(group.tokens) for group in record.groups) for record in records] == trained
    assert all(
        record.previous == desk.policies[record.version - 1].manifest.lineage for record in records
    )


def test_a_batch_offered_twice_leaves_no_trace_in_the_second_record(tmp_path: Path) -> None:
    with serving(work.desk(2)) as desk:
        first = desk.batches[0]
        desk.batches[1] = Batch(run_id=work.RUN, step=1, groups=first.groups)
        live(desk, config(desk, tmp_path, steps=2))
        assert any(sum(group.tokens) for group in desk.record(1).groups)
        assert not any(sum(group.tokens) for group in desk.record(2).groups)


def test_a_resumed_trainer_finds_every_version_it_may_need(straight: tuple[Desk, Path]) -> None:
    """Stale groups are recomputed under their own versions, which a new process does not hold."""
    with (
        serving(straight[0]) as desk,
        open_trainer_routes(desk.url, work.RUN, work.KEY) as client,
    ):
        for version in range(STEPS + 1):
            publisher = Publisher(
                client=client,
                domain=Domain(desk.info.chain_id, desk.info.ledger),
                run_id=work.RUN,
                spec=desk.info.spec,
                key=work.KEY,
                plan=Plan(3, (2,)),
            )
            found = publisher.weights(version)
            assert {n: t.bits.tobytes() for n, t in found.items()} == desk.weights(version)
