"""The folder between trainer and evaluator: what waits, what is left out, what a death leaves."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from protocol.policies.manifest import Weights
from protocol.policies.patch import anchor_bytes, from_anchor
from tests.stage.terms import MODEL
from trainer.evaluations import Evaluations, superseded


@pytest.fixture(scope="module")
def weights() -> Weights:
    return from_anchor((MODEL / "model.safetensors").read_bytes())


def measure(evaluations: Evaluations) -> int | None:
    with evaluations.writing() as file, evaluations.take() as taken:
        if taken is None:
            return None
        evaluations.append(file, {"version": taken[0]})
        return taken[0]


def test_only_the_start_and_the_newest_wait() -> None:
    assert superseded([]) == []
    assert superseded([0, 5]) == []
    assert superseded([0, 5, 10, 60]) == [5, 10]


def test_the_start_comes_first_and_then_the_newest(tmp_path: Path, weights: Weights) -> None:
    evaluations = Evaluations(tmp_path)
    for version in (0, 5, 10):
        evaluations.put(version, weights)
    assert evaluations.unfinished() == [0, 10]
    assert [measure(evaluations) for _ in range(3)] == [0, 10, None]
    assert [line["version"] for line in evaluations.findings()] == [0, 10]


def test_a_version_under_way_is_not_superseded(tmp_path: Path, weights: Weights) -> None:
    evaluations = Evaluations(tmp_path)
    evaluations.put(5, weights)
    with evaluations.take() as taken:
        assert taken == (5, anchor_bytes(weights))
        evaluations.put(10, weights)
        assert (evaluations.measuring(), evaluations.waiting()) == ([5], [10])
    assert evaluations.unfinished() == [10]


def test_what_a_killed_evaluator_was_at_is_taken_up(tmp_path: Path, weights: Weights) -> None:
    evaluations = Evaluations(tmp_path)
    evaluations.put(5, weights)
    with pytest.raises(KeyboardInterrupt), evaluations.take():
        raise KeyboardInterrupt
    assert evaluations.measuring() == [5]
    with evaluations.writing() as file:
        file.write(b'{"version": 5, "accu')
    assert evaluations.findings() == []
    assert measure(evaluations) == 5
    assert evaluations.findings() == [{"version": 5}]


@pytest.mark.parametrize("odd", [b"", b"{", b"[]", b'{"accuracy": 1}', b"\xff"])
def test_findings_that_cannot_be_read_are_passed_over_and_named_once(
    tmp_path: Path, odd: bytes
) -> None:
    evaluations = Evaluations(tmp_path)
    path = tmp_path / "held_out.jsonl"
    path.write_bytes(b'{"version": 0}\n' + odd + b'\n{"version": 5}\n{"ver')
    assert [finding["version"] for finding in evaluations.findings()] == [0, 5]
    with capture_logs() as said, evaluations.writing() as file:
        evaluations.append(file, {"version": 6})
    assert [entry["file"] for entry in said] == [str(path)]
    assert [finding["version"] for finding in evaluations.findings()] == [0, 5, 6]


def test_names_that_are_no_version_wait_for_nothing(tmp_path: Path, weights: Weights) -> None:
    evaluations = Evaluations(tmp_path)
    evaluations.put(0, weights)
    (tmp_path / "00000000 (copy).waiting").write_bytes(b"")
    (tmp_path / ".waiting").write_bytes(b"")
    assert evaluations.waiting() == [0]


def test_no_version_is_measured_twice(tmp_path: Path, weights: Weights) -> None:
    evaluations = Evaluations(tmp_path)
    evaluations.put(5, weights)
    with pytest.raises(KeyboardInterrupt), evaluations.take(), evaluations.writing() as file:
        evaluations.append(file, {"version": 5})
        raise KeyboardInterrupt  # between the finding and the end of its turn
    assert measure(evaluations) is None
    evaluations.put(5, weights)
    assert evaluations.unfinished() == []
