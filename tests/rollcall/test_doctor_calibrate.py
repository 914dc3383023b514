"""`rollcall doctor --calibrate` on a real engine: honest work earns, rounded weights do not."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from rollcall.__main__ import app
from rollcall.machine.checkup import Machine, check_up
from rollout_worker.engines.base import Engine
from rollout_worker.engines.registry import open_engine
from tests.stage.bounds import thresholds
from tests.stage.live import MODEL

MACHINE = Machine(
    engine="transformers",
    device="cpu",
    num_groups=16,
    orchestrator=None,
    run_id=None,
    model=MODEL,
    thresholds=None,
    environment="arithmetic",
    max_tokens=64,
)


@pytest.fixture
def four_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's engine rounds its weights, as a machine with a quantised install would."""

    def quantising(name: str, model: Path, **how: Any) -> Engine:
        return open_engine(name, model, quantise_bits=4, **how)

    monkeypatch.setattr("rollcall.machine.checkup.open_engine", quantising)


def test_an_honest_machine_would_earn_and_says_so_to_programs() -> None:
    result = CliRunner().invoke(
        app, ["doctor", "--calibrate", "--engine", "transformers", "--groups", "16", "--json"]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["verdict"], found["num_rejected"]) == ("earns", 0)
    assert found["match"] > 0.99
    assert all(reading["worst_use"] <= 1 for reading in found["readings"])


@pytest.mark.usefixtures("four_bits")
def test_a_machine_that_rounds_its_weights_is_told_so() -> None:
    console = Console(record=True, width=140)
    assert not check_up(MACHINE, as_json=False, console=console)
    shown = console.export_text()
    assert "would be rejected" in shown
    assert "float32" in shown


def test_bounds_of_another_model_are_named_before_anything_is_sampled(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    path.write_bytes(thresholds(bytes(32)).to_json())
    arguments = ["doctor", "--calibrate", "--engine", "transformers", "--thresholds", str(path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "measured on model 0x0000" in str(result.exception)


def test_ctrl_c_ends_it_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rollcall.machine.checkup.sampled", interrupted)
    result = CliRunner().invoke(app, ["doctor", "--calibrate", "--engine", "transformers"])
    assert result.exit_code == 130
    assert "nothing was sent" in result.output + result.stderr
