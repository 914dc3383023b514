"""The evaluator beside a real trainer: never waited for, noticed when dead, gone when alone."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import structlog

from client.trainer import open_trainer_routes
from tests.stage import work
from tests.stage.front import Answered, Asked, Fault, no_fault
from tests.stage.training import Opening, Training
from tests.trainer.test_evaluate import problems
from tests.trainer.test_kill import process
from tests.trainer.test_loop import config, live
from trainer.config import TrainerConfig
from trainer.evaluations import Evaluations
from trainer.loop import Trainer
from trainer.main import open_trainer

STEPS = 6


pytestmark = pytest.mark.usefixtures("deterministic")


def measuring(market: Training, folder: Path, **changes: object) -> TrainerConfig:
    return config(
        market, folder, steps=STEPS, evaluate_every=2, num_evaluation_problems=16, **changes
    )


def until(holds: Callable[[], bool]) -> None:
    """Wait for a state; the test's own limit ends a wait that is in vain."""
    while not holds():
        time.sleep(0.01)


def child_of(pid: int) -> psutil.Process:
    """Return a trainer's evaluator once it is there."""

    def found() -> list[psutil.Process]:
        children = psutil.Process(pid).children()
        return [child for child in children if "trainer.evaluator" in child.cmdline()]

    until(lambda: bool(found()))
    return found()[0]


def versions(evaluations: Evaluations) -> list[int]:
    return [finding["version"] for finding in evaluations.findings()]


def test_findings_are_those_of_the_published_weights(opening: Opening, tmp_path: Path) -> None:
    with opening(STEPS) as market:
        live(market, measuring(market, tmp_path))
    found = {line["version"]: line for line in Evaluations(tmp_path / "evaluations").findings()}
    assert {0, STEPS} <= found.keys() <= {0, 2, 4, STEPS}
    expected = problems(16, seed=0).evaluate(work.network())
    assert found[0]["accuracy"] == expected.accuracy
    assert found[0]["held_out_mean_tokens"] == expected.held_out_mean_tokens
    assert found[0]["num_held_out"] == 16


def test_weights_that_a_disk_damaged_are_named_and_end_no_evaluator(
    opening: Opening, tmp_path: Path
) -> None:
    folder = tmp_path / "evaluations"
    folder.mkdir()
    (folder / "00000000.measuring").write_bytes(b"half an anchor")
    with opening(STEPS) as market:
        live(market, measuring(market, tmp_path))
    assert versions(Evaluations(folder))[-1] == STEPS
    assert not list(folder.glob("*.measuring"))


def test_a_busy_evaluator_delays_neither_step_nor_publication(
    opening: Opening, tmp_path: Path
) -> None:
    """It is stopped from before the first batch until the last step is acknowledged."""
    with (
        opening(STEPS) as market,
        open_trainer_routes(market.url, market.run_id, work.KEY) as client,
        open_trainer(measuring(market, tmp_path), work.KEY, client, threading.Event()) as trainer,
    ):
        evaluations = Evaluations(tmp_path / "evaluations")
        market.fault = stopping_its_evaluator(trainer)
        training = threading.Thread(target=trainer.train)
        training.start()
        until(lambda: market.acked == list(range(STEPS)))
        assert len(market.policies) == STEPS + 1
        assert {2, 4}.isdisjoint(versions(evaluations))
        assert STEPS in evaluations.waiting()
        assert training.is_alive()
        os.kill(pid_of(trainer), signal.SIGCONT)
        training.join()
        assert versions(evaluations) == [0, STEPS]


def stopping_its_evaluator(trainer: Trainer) -> Fault:
    def fault(asked: Asked, answered: Answered | None) -> None:
        if asked.path.endswith("/batches") and not answered and trainer.progress.version == 0:
            os.kill(pid_of(trainer), signal.SIGSTOP)

    return fault


def pid_of(trainer: Trainer) -> int:
    assert trainer.evaluator is not None
    assert trainer.evaluator.process is not None
    return trainer.evaluator.process.pid


def test_a_killed_evaluator_is_said_and_replaced_and_training_goes_on(
    opening: Opening, tmp_path: Path
) -> None:
    killed: list[int] = []
    with (
        opening(STEPS) as market,
        open_trainer_routes(market.url, market.run_id, work.KEY) as client,
        open_trainer(measuring(market, tmp_path), work.KEY, client, threading.Event()) as trainer,
        structlog.testing.capture_logs() as log,
    ):

        def fault(asked: Asked, answered: Answered | None) -> None:
            if asked.path.endswith("/batches") and not answered and not killed:
                killed.append(pid_of(trainer))
                os.kill(killed[0], signal.SIGKILL)

        market.fault = fault
        trainer.train()
        assert market.acked == list(range(STEPS))
        assert pid_of(trainer) != killed[0]
    said = [line for line in log if "evaluator" in line["event"]]
    assert [line["code"] for line in said] == [-signal.SIGKILL]
    assert {0, STEPS} <= set(versions(Evaluations(tmp_path / "evaluations")))


def test_an_evaluator_that_dies_last_ends_nothing_and_the_next_life_measures(
    opening: Opening,
    tmp_path: Path,
) -> None:
    with opening(STEPS) as market:
        settings = measuring(market, tmp_path)
        with (
            open_trainer_routes(market.url, market.run_id, work.KEY) as client,
            open_trainer(settings, work.KEY, client, threading.Event()) as trainer,
        ):

            def fault(asked: Asked, answered: Answered | None) -> None:
                if asked.path.endswith(f"/batches/{STEPS - 1}/ack") and answered:
                    os.kill(pid_of(trainer), signal.SIGSTOP)

            market.fault = fault
            training = threading.Thread(target=trainer.train)
            training.start()
            until(lambda: len(market.acked) == STEPS)
            os.kill(pid_of(trainer), signal.SIGKILL)
            training.join()
        market.fault = no_fault
        live(market, settings)
        assert {0, STEPS} <= set(versions(Evaluations(tmp_path / "evaluations")))


def test_a_killed_trainer_leaves_no_evaluator_behind(opening: Opening, tmp_path: Path) -> None:
    with opening(1) as market, process(market, tmp_path, evaluate_every=2) as trainer:
        evaluator = child_of(trainer.pid)
        trainer.send_signal(signal.SIGKILL)
        trainer.wait()
        evaluator.wait()


def test_an_interrupted_trainer_ends_with_its_evaluator(opening: Opening, tmp_path: Path) -> None:
    """Ctrl-C reaches both: the trainer ends between steps, and its evaluator with it."""
    with opening(1) as market, process(market, tmp_path, evaluate_every=2) as trainer:
        evaluator = child_of(trainer.pid)
        until(lambda: any(a.path.endswith("/batches") for a in market.front.requests))
        evaluator.send_signal(signal.SIGINT)
        trainer.send_signal(signal.SIGINT)
        assert trainer.wait() == 0
        evaluator.wait()
