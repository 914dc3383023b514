"""Measure held-out accuracy beside training: a child process of low priority, on one thread.

Training never waits for it. It shares a folder with the trainer (`evaluations.py`). Its standard input
carries a byte for each piece of news, and ends however the trainer dies, so that no child is left behind.
If the child dies, the trainer says so and starts another when the next version is due.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

import structlog

from local.files import tell_damaged
from protocol.errors import Malformed
from protocol.policies.manifest import Weights
from protocol.policies.patch import from_anchor
from protocol.run import RunSpec
from protocol.user_error import UserError
from trainer.config import TrainerConfig
from trainer.evaluations import Evaluations

NICENESS = 10
"""A tenth of a core that training keeps busy (Linux weighs 110 against 1,024), all of an idle core."""


@dataclass(slots=True)
class Evaluator:
    """The trainer's handle on its child. Nothing here blocks."""

    config: TrainerConfig
    spec: RunSpec
    evaluations: Evaluations
    process: "subprocess.Popen[bytes] | None" = None
    num_told: int = 0

    def measure(self, version: int, weights: Weights) -> None:
        """Have a published version measured as soon as the child comes to it."""
        self.evaluations.put(version, weights)
        self.wake()

    def wake(self) -> None:
        """Start the child if there is work and none lives, or tell it of new work."""
        if self.process is not None and self.process.poll() is not None:
            structlog.get_logger().warning(
                "the evaluator ended and is started again", code=self.process.returncode
            )
            self._drop()
        if self.process is None and self.evaluations.unfinished():
            self._start()
        elif self.process is not None and self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError, BlockingIOError):
                os.write(self.process.stdin.fileno(), b"\n")

    def is_busy(self) -> bool:
        """Return whether something is unfinished that the living child will finish."""
        is_alive = self.process is not None and self.process.poll() is None
        return is_alive and bool(self.evaluations.unfinished())

    def news(self) -> list[dict[str, Any]]:
        """Return the findings since the last call."""
        findings = self.evaluations.findings()
        new, self.num_told = findings[self.num_told :], len(findings)
        return new

    def close(self) -> None:
        """End the child; the next one takes up what it has not finished."""
        if self.process is not None:
            self.process.kill()
            self._drop()

    def _start(self) -> None:
        settings = (self.config.model_dump_json(), self.spec.to_json().decode())
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trainer.evaluator", *settings],
            stdin=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdin is not None
        os.set_blocking(self.process.stdin.fileno(), False)

    def _drop(self) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.process = None


def evaluations_of(config: TrainerConfig) -> Evaluations:
    return Evaluations(config.work_dir / "evaluations")


def main(config: TrainerConfig, spec: RunSpec) -> None:
    """Measure the versions that wait, then each new one, until the trainer is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's to answer
    news = threading.Event()
    threading.Thread(target=_listen, args=(news,), daemon=True).start()
    os.nice(NICENESS)
    # Imports take seconds, in which the trainer may die: the thread above must start before them.
    from trainer.evaluate import held_out
    from trainer.model import load, open_model
    from trainer.opening import compute_alike

    compute_alike(1)
    model = open_model(config.model_dir, device=config.device, compute_dtype=spec.compute_dtype)
    problems = held_out(
        spec,
        config.model_dir / "tokenizer.json",
        num_problems=config.num_evaluation_problems,
        batch=config.evaluation_batch,
        seed=config.seed,
    )
    evaluations = evaluations_of(config)
    with evaluations.writing() as file:
        while True:
            news.clear()
            with evaluations.take() as taken:
                if taken is not None:
                    version, anchor = taken
                    started_at = time.monotonic()
                    try:
                        weights = from_anchor(anchor)
                    except Malformed as error:
                        waiting = evaluations.folder / f"{version:08d}"
                        tell_damaged(waiting, error, "this version is not measured")
                        continue
                    load(model, weights)
                    found = asdict(problems.evaluate(model))
                    seconds = time.monotonic() - started_at
                    evaluations.append(
                        file, {"version": version, **found, "evaluate_seconds": seconds}
                    )
            if taken is None:
                news.wait()


def _listen(news: threading.Event) -> None:
    """Pass the trainer's bytes on; end the process when they can no longer come."""
    while os.read(sys.stdin.fileno(), 4096):
        news.set()
    os._exit(0)


if __name__ == "__main__":
    try:
        main(TrainerConfig.model_validate_json(sys.argv[1]), RunSpec.from_json(sys.argv[2]))
    except UserError as error:
        sys.exit(f"the evaluator cannot measure: {error}")
