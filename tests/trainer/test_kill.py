"""A real process, killed with a real signal."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.trainer import work
from tests.trainer.desk import Desk, serving
from tests.trainer.test_loop import config, digests, lines

PROGRAM = """
import sys
from pathlib import Path
from trainer.main import main
from trainer.config import Config
main(Config.model_validate_json(Path(sys.argv[1]).read_text()), bytes.fromhex(sys.argv[2]))
"""
STEPS = 4


@contextmanager
def process(desk: Desk, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "config.json"
    settings.write_text(config(desk, folder, evaluate_every=0).model_dump_json())
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(settings), work.KEY.hex()],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def wait_for(desk: Desk, count: int) -> None:
    deadline = time.monotonic() + 90
    while len(desk.policies) < count and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(desk.policies) >= count


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    with serving(work.desk(STEPS)) as desk:
        with process(desk, tmp_path / "a") as child:
            assert child.wait(120) == 0
        expected = digests(desk)
    with serving(work.desk(STEPS)) as other:
        for published in (1, 3):
            with process(other, tmp_path / "b") as child:
                wait_for(other, published)
                child.send_signal(signal.SIGKILL)
        with process(other, tmp_path / "b") as child:
            assert child.wait(120) == 0
        assert digests(other) == expected
        assert other.acked == list(range(STEPS))
    assert lines(tmp_path / "b") == lines(tmp_path / "a")


@pytest.mark.slow
def test_a_terminated_process_ends_cleanly_while_it_waits(tmp_path: Path) -> None:
    with serving(work.desk(2)) as desk, process(desk, tmp_path) as child:
        wait_for(desk, 3)
        child.terminate()
        assert child.wait(30) == 0
        assert desk.acked == [0, 1]
