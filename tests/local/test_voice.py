"""A failure is said at once, then rarely, and once that it is over."""

import signal
import subprocess
import sys

import pytest
from structlog.testing import capture_logs

from local.voice import Voice, telling
from tests.stage.waiting import started, wait_until


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_failure_is_said_at_once_then_rarely_and_once_that_it_is_over() -> None:
    clock = Clock()
    voice = Voice("orchestrator", again=60.0, clock=clock, at="http://market:8100")
    with capture_logs() as said:
        voice.well()
        for clock.now in (0.0, 1.0, 59.0, 60.0, 61.0):
            voice.failed(OSError("connection refused"))
        clock.now = 70.0
        voice.well()
        voice.well()
    assert [line["event"] for line in said] == [
        *["orchestrator does not answer: trying again"] * 2,
        "orchestrator answers again",
    ]
    with capture_logs() as again:
        voice.failed(OSError("connection refused"))
        voice.well()
    assert again == [], "one that comes and goes is told as rarely as one that lasts"
    assert {line["at"] for line in said} == {"http://market:8100"}
    assert (said[0]["reason"], said[-1]["after"]) == ("connection refused", "70 s")


def test_what_is_over_within_its_patience_is_never_said() -> None:
    clock = Clock()
    voice = Voice("orchestrator", clock=clock)
    with capture_logs() as said:
        for clock.now in (0.0, 9.9):
            voice.failed(OSError("busy"), patience=10.0)
        voice.well()
        clock.now = 20.0
        voice.failed(OSError("busy"), patience=10.0)
        assert said == []
        clock.now = 30.0
        voice.failed(OSError("busy"), patience=10.0)
    assert len(said) == 1


def test_work_is_told_every_so_often_and_once_at_its_end() -> None:
    told: list[int] = []

    def facts() -> dict[str, object]:
        told.append(len(told))
        return {"groups": len(told)}

    with capture_logs() as said, telling("run 1", facts, seconds=0.01):
        wait_until(lambda: len(told) >= 3)
    assert [line["event"] for line in said[:3]] == ["run 1"] * 3
    assert said[-1]["event"] == "run 1, in all"
    assert said[-1]["groups"] == len(told)


WAITS = """
import threading
import time
from local.voice import stop_on_signals
stop_on_signals(threading.Event(), "finishing the groups in hand")
print("ready", flush=True)
while True:
    time.sleep(0.1)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_answered_at_once_and_a_second_one_ends(number: signal.Signals) -> None:
    words = [sys.executable, "-c", WAITS]
    with started(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        said = process.stdout.readline()
        assert "stopping: finishing the groups in hand; again to stop at once" in said
        process.send_signal(number)
        assert process.wait() == 128 + number
