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

from tests.stage import work
from tests.stage.training import Opening, Training
from tests.stage.waiting import require_alive, started
from tests.trainer.test_loop import config, digests, lines

PROGRAM = """
import sys
from pathlib import Path
from trainer.main import main
from trainer.config import TrainerConfig
main(TrainerConfig.model_validate_json(Path(sys.argv[1]).read_text()), bytes.fromhex(sys.argv[2]))
"""
STEPS = 4


@contextmanager
def process(market: Training, folder: Path, **changes: object) -> Iterator["subprocess.Popen[str]"]:
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "config.json"
    settings.write_text(config(market, folder, **changes).model_dump_json())
    words = [sys.executable, "-c", PROGRAM, str(settings), work.KEY.hex()]
    with started(words, env={**os.environ, "OMP_NUM_THREADS": "1"}) as child:
        yield child


def wait_for(market: Training, count: int, child: "subprocess.Popen[str]") -> None:
    while len(market.policies) < count:
        require_alive(child)
        time.sleep(0.001)


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_weights(opening: Opening, tmp_path: Path) -> None:
    with opening(STEPS) as market:
        with process(market, tmp_path / "a") as child:
            assert child.wait() == 0
        expected = digests(market)
    with opening(STEPS) as other:
        for published in (1, 3):
            with process(other, tmp_path / "b") as child:
                wait_for(other, published, child)
                child.send_signal(signal.SIGKILL)
        with process(other, tmp_path / "b") as child:
            assert child.wait() == 0
        assert digests(other) == expected
        assert other.acked == list(range(STEPS))
    assert lines(tmp_path / "b") == lines(tmp_path / "a")


@pytest.mark.slow
def test_a_terminated_process_ends_cleanly_while_it_waits(opening: Opening, tmp_path: Path) -> None:
    with opening(2) as market, process(market, tmp_path) as child:
        wait_for(market, 3, child)
        child.terminate()
        assert child.wait() == 0
        assert market.acked == [0, 1]
