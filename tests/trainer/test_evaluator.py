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
from starlette.responses import Response

from client.trainer import open_trainer_routes
from tests.stage import work
from tests.stage.desk import Desk, serving
from tests.trainer.test_evaluate import problems
from tests.trainer.test_kill import process
from tests.trainer.test_loop import config, live
from trainer.config import TrainerConfig
from trainer.evaluations import Evaluations
from trainer.loop import Trainer
from trainer.main import open_trainer

STEPS = 6


pytestmark = pytest.mark.usefixtures("deterministic")


def measuring(desk: Desk, folder: Path, **changes: object) -> TrainerConfig:
    return config(
        desk, folder, steps=STEPS, evaluate_every=2, num_evaluation_problems=16, **changes
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


def test_findings_are_those_of_the_published_weights(tmp_path: Path) -> None:
    with serving(work.desk(STEPS)) as desk:
        live(desk, measuring(desk, tmp_path))
    found = {line["version"]: line for line in Evaluations(tmp_path / "evaluations").findings()}
    assert {0, STEPS} <= found.keys() <= {0, 2, 4, STEPS}
    expected = problems(16, seed=0).evaluate(work.network())
    assert found[0]["accuracy"] == expected.accuracy
    assert found[0]["held_out_mean_tokens"] == expected.held_out_mean_tokens
    assert found[0]["num_held_out"] == 16


def test_a_busy_evaluator_delays_neither_step_nor_publication(tmp_path: Path) -> None:
    """It is stopped from before the first batch until the last step is acknowledged."""
    with (
        serving(work.desk(STEPS)) as desk,
        open_trainer_routes(desk.url, work.RUN, work.KEY) as client,
        open_trainer(measuring(desk, tmp_path), work.KEY, client, threading.Event()) as trainer,
    ):
        evaluations = Evaluations(tmp_path / "evaluations")
        desk.fault = stopping_its_evaluator(trainer)
        training = threading.Thread(target=trainer.train)
        training.start()
        until(lambda: desk.acked == list(range(STEPS)))
        assert len(desk.policies) == STEPS + 1
        assert {2, 4}.isdisjoint(versions(evaluations))
        assert STEPS in evaluations.waiting()
        assert training.is_alive()
        os.kill(pid_of(trainer), signal.SIGCONT)
        training.join()
        assert versions(evaluations) == [0, STEPS]


def stopping_its_evaluator(trainer: Trainer) -> Callable[[str, str, bool], Response | None]:
    def fault(method: str, path: str, done: bool) -> None:
        if path.endswith("/batches") and not done and desk_is_at_first(trainer):
            os.kill(pid_of(trainer), signal.SIGSTOP)
        del method

    return fault


def desk_is_at_first(trainer: Trainer) -> bool:
    return trainer.progress.version == 0


def pid_of(trainer: Trainer) -> int:
    assert trainer.evaluator is not None
    assert trainer.evaluator.process is not None
    return trainer.evaluator.process.pid


def test_a_killed_evaluator_is_said_and_replaced_and_training_goes_on(tmp_path: Path) -> None:
    killed: list[int] = []
    with (
        serving(work.desk(STEPS)) as desk,
        open_trainer_routes(desk.url, work.RUN, work.KEY) as client,
        open_trainer(measuring(desk, tmp_path), work.KEY, client, threading.Event()) as trainer,
        structlog.testing.capture_logs() as log,
    ):

        def fault(method: str, path: str, done: bool) -> None:
            del method
            if path.endswith("/batches") and not done and not killed:
                killed.append(pid_of(trainer))
                os.kill(killed[0], signal.SIGKILL)

        desk.fault = fault
        trainer.train()
        assert desk.acked == list(range(STEPS))
        assert pid_of(trainer) != killed[0]
    said = [line for line in log if "evaluator" in line["event"]]
    assert [line["code"] for line in said] == [-signal.SIGKILL]
    assert {0, STEPS} <= set(versions(Evaluations(tmp_path / "evaluations")))


def test_an_evaluator_that_dies_last_ends_nothing_and_the_next_life_measures(
    tmp_path: Path,
) -> None:
    with serving(work.desk(STEPS)) as desk:
        settings = measuring(desk, tmp_path)
        with (
            open_trainer_routes(desk.url, work.RUN, work.KEY) as client,
            open_trainer(settings, work.KEY, client, threading.Event()) as trainer,
        ):

            def fault(method: str, path: str, done: bool) -> None:
                del method
                if path.endswith(f"/batches/{STEPS - 1}/ack") and done:
                    os.kill(pid_of(trainer), signal.SIGSTOP)

            desk.fault = fault
            training = threading.Thread(target=trainer.train)
            training.start()
            until(lambda: len(desk.acked) == STEPS)
            os.kill(pid_of(trainer), signal.SIGKILL)
            training.join()
        live(desk, settings)
        assert {0, STEPS} <= set(versions(Evaluations(tmp_path / "evaluations")))


def test_a_killed_trainer_leaves_no_evaluator_behind(tmp_path: Path) -> None:
    with serving(work.desk(1)) as desk, process(desk, tmp_path, evaluate_every=2) as trainer:
        evaluator = child_of(trainer.pid)
        trainer.send_signal(signal.SIGKILL)
        trainer.wait()
        evaluator.wait()


def test_an_interrupted_trainer_ends_with_its_evaluator(tmp_path: Path) -> None:
    """Ctrl-C reaches both: the trainer ends between steps, and its evaluator with it."""
    with serving(work.desk(1)) as desk, process(desk, tmp_path, evaluate_every=2) as trainer:
        evaluator = child_of(trainer.pid)
        until(lambda: len(desk.asked) > 0)
        evaluator.send_signal(signal.SIGINT)
        trainer.send_signal(signal.SIGINT)
        assert trainer.wait() == 0
        evaluator.wait()
