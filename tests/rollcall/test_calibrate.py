"""`rollcall calibrate` from end to end, on the smallest workload: what it writes, and what it refuses."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from protocol.checks.calibration import MIN_GROUPS
from protocol.precision import ComputeDtype
from protocol.user_error import UserError
from rollcall.__main__ import app
from rollcall.cli.spec import read_thresholds
from rollcall.machine.calibrate import older_instructions
from tests.stage.bounds import COMMITTED

SMALL = ("--engine", "transformers", "--groups", str(MIN_GROUPS), "--max-tokens", "32")


def refusal(*words: str, out: Path) -> str:
    """Return the one line that a calibration ends with; nothing is written."""
    result = CliRunner().invoke(app, ["calibrate", *words, "--out", str(out)])
    assert result.exit_code == 1
    assert isinstance(result.exception, UserError)
    assert not out.exists()
    message = str(result.exception)
    assert "\n" not in message
    return message


@pytest.mark.slow
def test_it_writes_bounds_that_a_launch_accepts_and_says_what_was_varied(tmp_path: Path) -> None:
    out = tmp_path / "thresholds.json"
    result = CliRunner().invoke(app, ["calibrate", *SMALL, "--out", str(out)])
    assert result.exit_code == 0, result.output
    found = read_thresholds(out, model_digest=COMMITTED.model_digest)
    assert (found.compute_dtype, found.model_digest) == (
        ComputeDtype.FLOAT32,
        COMMITTED.model_digest,
    )
    settings = ["native 1 threads", "native 2 threads", "8 sequences"]
    for setting in (*settings, *(f"transformers {older}" for older in older_instructions())):
        assert any(setting in line for line in found.varied), (setting, found.varied)
    assert found.int8_caught_millionths > 900_000
    assert "cheat:  int8 weights policy 0" in result.output
    assert "half of the groups of the faintest cheat" in result.output
    assert json.loads(out.read_text())["num_honest_groups"] >= MIN_GROUPS * len(found.varied)


@pytest.mark.slow
def test_bounds_that_int8_passes_are_refused_unless_somebody_says_so(tmp_path: Path) -> None:
    out = tmp_path / "thresholds.json"
    said = refusal(*SMALL, "--dtype", "bfloat16", out=out)
    assert "of int8 groups pass: calibrate in float32" in said
    assert "--blind" in said
    words = ["calibrate", *SMALL, "--dtype", "bfloat16", "--blind", "--out", str(out)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "note: bfloat16 rounds to 1 in 256" in result.output
    assert (
        read_thresholds(out, model_digest=COMMITTED.model_digest).compute_dtype
        is ComputeDtype.BFLOAT16
    )


def test_an_unknown_dtype_or_engine_is_refused_with_those_there_are(tmp_path: Path) -> None:
    out = tmp_path / "thresholds.json"
    assert "'int8' is unknown; choose one of float32" in refusal("--dtype", "int8", out=out)
    assert "'tpu' is unknown; choose from" in refusal("--engine", "tpu", out=out)
