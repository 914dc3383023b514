"""A trainer that is killed anywhere goes on with the numbers it would have had."""

import json
import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from client.trainer import open_trainer_routes
from protocol.canonical import content_digest
from protocol.errors import Malformed
from protocol.messages import Batch, BatchGroup
from protocol.rollout import Rollout
from tests.stage import work
from tests.stage.front import Answered, Asked, Fault, blob_path, refusal
from tests.stage.terms import MODEL
from tests.stage.training import Opening, Training, training
from trainer.config import TrainerConfig
from trainer.loop import Stopped, WrongRun
from trainer.main import open_trainer
from trainer.publish import Diverged, Plan, Publisher

STEPS = 4


pytestmark = pytest.mark.usefixtures("deterministic")


def config(market: Training, folder: Path, **changes: Any) -> TrainerConfig:
    values = {
        "orchestrator": market.url,
        "run_id": market.run_id,
        "model_dir": MODEL,
        "work_dir": folder,
        "steps": STEPS,
        "evaluate_every": 0,
        "microbatch_tokens": 256,
        "anchor_every": 3,
        "tensorboard": False,
    }
    return TrainerConfig.model_validate(values | changes)


def live(market: Training, settings: TrainerConfig, stop: threading.Event | None = None) -> None:
    """One life of a trainer's process."""
    stop = stop or threading.Event()
    with (
        open_trainer_routes(market.url, market.run_id, work.KEY) as client,
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
def straight(
    redis_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Training, Path]]:
    """The run and folder of a trainer that nothing happened to."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("straight")
    with training(redis_server + "?db=2", folder / "blobs", STEPS) as market:
        live(market, config(market, folder))
        yield market, folder


def digests(market: Training) -> list[bytes]:
    return [signed.manifest.policy_digest for signed in market.policies]


def test_every_version_is_published_once_and_reached_by_every_way(
    straight: tuple[Training, Path],
) -> None:
    market, folder = straight
    assert market.acked == list(range(STEPS))
    assert len(set(digests(market))) == STEPS + 1
    assert digests(market)[0] == market.place.spec.model_digest
    for version in range(STEPS + 1):
        market.weights(version)
    bases = [[p.base_version for p in s.manifest.patches] for s in market.policies]
    assert bases == [[], [0], [1, 0], [2, 1], [3, 2, 0]]
    found = lines(folder)
    assert [line["version"] for line in found] == list(range(STEPS + 1))
    assert all(0 < line["patch_bytes"] < line["anchor_bytes"] for line in found[1:])
    # Sampled by version 0, so the first step is on policy.
    assert found[1]["ratio_mean"] == pytest.approx(1.0, abs=1e-5)
    assert found[4]["staleness"] == {"3": 4}


def at(method: str, ending: str, *, answered: bool, time: int = 1) -> Callable[[], Fault]:
    """A kill at the `time`-th such request: before it is seen, or after it is done."""

    def arm() -> Fault:
        count = 0

        def strike(asked: Asked, found: Answered | None) -> Answered | None:
            nonlocal count
            if (asked.method, found is not None) != (method, answered):
                return None
            count += asked.path.endswith(ending)
            is_now = asked.path.endswith(ending) and count == time
            return refusal(Malformed("struck down")) if is_now else None

        return strike

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
    arm: Callable[[], Fault], straight: tuple[Training, Path], opening: Opening, tmp_path: Path
) -> None:
    with opening(STEPS) as market:
        market.fault = arm()
        with pytest.raises(Malformed, match="struck down"):
            live(market, config(market, tmp_path))
        live(market, config(market, tmp_path))
        assert digests(market) == digests(straight[0])
        assert market.acked == list(range(STEPS))
        assert market.weights(STEPS) == straight[0].weights(STEPS)
    assert lines(tmp_path) == lines(straight[1])


def test_microbatches_do_not_change_the_step_beyond_rounding(
    opening: Opening, tmp_path: Path
) -> None:
    with opening(1) as market:
        settings = {"steps": 1}
        live(market, config(market, tmp_path / "small", microbatch_tokens=64, **settings))
    with opening(1) as other:
        live(other, config(other, tmp_path / "large", microbatch_tokens=10_000, **settings))
    small, large = lines(tmp_path / "small")[1], lines(tmp_path / "large")[1]
    assert small["loss"] == pytest.approx(large["loss"], abs=1e-6)
    assert small["gradient_norm"] == pytest.approx(large["gradient_norm"], rel=1e-4)
    assert small["forwarded_tokens"] > large["forwarded_tokens"]


def test_an_orchestrator_that_restarts_is_waited_out(opening: Opening, tmp_path: Path) -> None:
    troubles = iter(["lost session", "busy", "page", "lost session"])

    with opening(1) as market:

        def fault(asked: Asked, answered: Answered | None) -> Answered | None:
            if answered or asked.method == "GET" or asked.path == "/v1/session":
                return None
            match next(troubles, None):
                case "lost session":
                    market.lose_sessions()
                case "busy":
                    return Answered(503, headers={"Retry-After": "0.05"})
                case "page":
                    return Answered(502, b"<html>bad gateway</html>")
            return None

        market.fault = fault
        live(market, config(market, tmp_path, steps=1))
        assert market.acked == [0]
        signed_in = [asked for asked in market.front.requests if asked.path == "/v1/session"]
        assert len(signed_in) >= 2


def test_a_waiting_trainer_stops_when_asked(opening: Opening, tmp_path: Path) -> None:
    stop = threading.Event()
    with opening(1) as market:
        threading.Timer(1.0, stop.set).start()
        with pytest.raises(Stopped):
            live(market, config(market, tmp_path, steps=2), stop)
        assert market.acked == [0]


def test_a_trainer_that_computes_other_weights_than_it_published_says_so(
    opening: Opening, tmp_path: Path
) -> None:
    with opening(1) as market:
        live(market, config(market, tmp_path / "a", steps=1))
        with pytest.raises(Diverged, match="version 1 is published with other weights"):
            live(
                market,
                config(market, tmp_path / "b", steps=1, learning_rate=1e-3),
            )
        assert len(market.policies) == 2


def test_a_trainer_whose_newest_checkpoint_is_damaged_makes_the_same_versions_again(
    opening: Opening, tmp_path: Path
) -> None:
    with opening(3) as market:
        live(market, config(market, tmp_path, steps=2))
        before = digests(market)
        newest = tmp_path / "checkpoints" / "version-00000002" / "masters.safetensors"
        newest.write_bytes(newest.read_bytes()[:1_000])
        live(market, config(market, tmp_path, steps=3))
        assert digests(market)[:3] == before
        assert len(digests(market)) == 4
        assert market.acked == [0, 1, 2]
    assert [line["version"] for line in lines(tmp_path)] == [0, 1, 2, 3]


@pytest.mark.parametrize("loss", ["grpo", "dapo", "dr_grpo"])
def test_one_absurd_claim_leaves_its_sequence_out_and_ends_no_run(
    opening: Opening, tmp_path: Path, loss: str
) -> None:
    """T3: finite, so admitted; a step's batch never changes, so a NaN of it would end every life."""
    told = iter((True,))

    def absurd(rollout: Rollout, _reward: int) -> Rollout:
        claims = rollout.worker_logprobs().copy()
        if next(told, False):
            claims[0] = -100.0
        return Rollout.of(rollout.token_ids(), claims)

    with opening(1, telling=absurd) as market:
        live(market, config(market, tmp_path, steps=1, behaviour="worker", loss=loss))
        assert len(market.policies) == 2
    line = lines(tmp_path)[1]
    assert line["sequences_left_out"] == {"absurd_ratio": 1}
    assert math.isfinite(line["gradient_norm"])
    assert line["gradient_norm"] > 0


def offering_twice(market: Training) -> Fault:
    """Before step 1 asks for its batch, give it the groups of step 0."""

    def fault(asked: Asked, answered: Answered | None) -> None:
        if asked.path.endswith("/batches") and not answered and market.acked == [0]:
            market.offer_again(1, groups_of=0)

    return fault


def test_a_batch_offered_twice_is_not_trained_on_twice(opening: Opening, tmp_path: Path) -> None:
    with opening(2) as market:
        market.fault = offering_twice(market)
        live(market, config(market, tmp_path, steps=2))
        assert digests(market)[2] == digests(market)[1]
    assert lines(tmp_path)[2]["dropped"] == {"already_trained": 4}


@pytest.mark.parametrize(
    "other",
    [
        {"trainer": work.WORKER},
        {"model_digest": content_digest(b"another model")},
        {"tokenizer_digest": content_digest(b"another tokenizer")},
    ],
)
def test_a_run_that_is_not_this_trainers_is_refused(
    other: dict[str, object], opening: Opening, tmp_path: Path
) -> None:
    with opening(1, **other) as market:
        with pytest.raises(WrongRun):
            live(market, config(market, tmp_path))
        assert not market.policies


def test_other_bytes_for_a_blob_are_not_taken(opening: Opening, tmp_path: Path) -> None:
    """They are no body of that name, and cost their group as a lost one does."""
    with opening(1) as market:
        swapped: list[BatchGroup] = []

        def swap(asked: Asked, answered: Answered | None) -> None:
            if asked.path.endswith("/batches") and answered and answered.content and not swapped:
                swapped.extend(Batch.from_json(answered.content).groups[:2])
                lie = Answered(200, market.blob(swapped[1].body))
                market.front.lies[blob_path(swapped[0].body)] = lie

        market.fault = swap
        live(market, config(market, tmp_path, steps=1))
        tokens = {group.work_digest: sum(group.tokens) for group in market.record(1).groups}
        assert tokens.pop(swapped[0].work_digest) == 0
        assert any(tokens.values())


def test_bodies_that_a_batch_names_for_one_another_are_left_out(
    opening: Opening, tmp_path: Path
) -> None:
    with opening(1) as market:

        def crossed(asked: Asked, answered: Answered | None) -> Answered | None:
            if not (asked.path.endswith("/batches") and answered and answered.content):
                return None
            batch = Batch.from_json(answered.content)
            first, second, *rest = batch.groups
            groups = (
                first.model_copy(update={"body": second.body}),
                second.model_copy(update={"body": first.body}),
                *rest,
            )
            return Answered(200, batch.model_copy(update={"groups": groups}).to_json())

        market.fault = crossed
        live(market, config(market, tmp_path, steps=1))
        tokens = [sum(group.tokens) for group in market.record(1).groups]
        assert tokens[:2] == [0, 0] and all(tokens[2:])


OTHER = bytes([1] * 32)
TOO_MANY: dict[str, Callable[[BatchGroup], BatchGroup]] = {
    "names a group twice": lambda group: group,
    "were asked for": lambda group: group.model_copy(update={"work_digest": OTHER}),
}


@pytest.mark.parametrize(("why", "more"), TOO_MANY.items(), ids=TOO_MANY)
def test_a_batch_with_more_groups_than_a_step_has_is_not_taken(
    why: str, more: Callable[[BatchGroup], BatchGroup], opening: Opening, tmp_path: Path
) -> None:
    """The record of the step would count a group's tokens for each time that the group is named."""
    with opening(1) as market:

        def longer(asked: Asked, answered: Answered | None) -> Answered | None:
            if not (asked.path.endswith("/batches") and answered and answered.content):
                return None
            batch = Batch.from_json(answered.content)
            groups = (*batch.groups, more(batch.groups[0]))
            return Answered(200, batch.model_copy(update={"groups": groups}).to_json())

        market.fault = longer
        with pytest.raises(Malformed, match=why):
            live(market, config(market, tmp_path, steps=1))


def test_the_trainer_signs_what_it_trained_on(straight: tuple[Training, Path]) -> None:
    market, folder = straight
    trained = [line["trained_tokens"] for line in lines(folder)[1:]]
    records = [market.record(version) for version in range(1, STEPS + 1)]
    assert [sum(sum(group.tokens) for group in record.groups) for record in records] == trained
    assert all(
        record.previous == market.policies[record.version - 1].manifest.lineage
        for record in records
    )


def test_a_batch_offered_twice_leaves_no_trace_in_the_second_record(
    opening: Opening, tmp_path: Path
) -> None:
    with opening(2) as market:
        market.fault = offering_twice(market)
        live(market, config(market, tmp_path, steps=2))
        assert any(sum(group.tokens) for group in market.record(1).groups)
        assert not any(sum(group.tokens) for group in market.record(2).groups)


def test_a_resumed_trainer_finds_every_version_it_may_need(straight: tuple[Training, Path]) -> None:
    """Stale groups are recomputed under their own versions, which a new process does not hold."""
    market = straight[0]
    with open_trainer_routes(market.url, market.run_id, work.KEY) as client:
        for version in range(STEPS + 1):
            publisher = Publisher(
                client=client,
                domain=market.place.services.chain.domain,
                run_id=market.run_id,
                spec=market.place.spec,
                key=work.KEY,
                plan=Plan(3, (2,)),
            )
            found = publisher.weights(version)
            assert {n: t.bits.tobytes() for n, t in found.items()} == market.weights(version)


def test_a_group_whose_body_is_lost_is_left_out_and_the_record_says_so(
    opening: Opening, tmp_path: Path
) -> None:
    with opening(1) as market:
        lost: list[BatchGroup] = []

        def lose(asked: Asked, answered: Answered | None) -> None:
            if asked.path.endswith("/batches") and answered and answered.content and not lost:
                lost.append(Batch.from_json(answered.content).groups[0])
                digest = lost[0].body
                market.place.call(market.place.services.blobs.remove, digest)

        market.fault = lose
        live(market, config(market, tmp_path, steps=1))
        tokens = {group.work_digest: sum(group.tokens) for group in market.record(1).groups}
        assert tokens.pop(lost[0].work_digest) == 0
        assert any(tokens.values())
        assert market.acked == [0]
