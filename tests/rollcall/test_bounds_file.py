"""The bounds that a plan names: one object of this model in this dtype, or one line with what to run."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from protocol.precision import ComputeDtype
from protocol.user_error import UserError
from rollcall.cli.spec import RunPlan, spec_of
from tests.stage.bounds import COMMITTED, thresholds

MODEL = Path("models/start")
WHO = "0x" + "11" * 20
OTHER_DTYPE = next(dtype for dtype in ComputeDtype if dtype is not COMMITTED.compute_dtype)


def refusal(path: Path, data: bytes, **plan: object) -> str:
    path.write_bytes(data)
    asked = RunPlan.model_validate({"model": MODEL, "thresholds": path, **plan})
    with pytest.raises(UserError) as refused:
        spec_of(asked, orchestrator=WHO, trainer=WHO)
    message = str(refused.value)
    assert "\n" not in message
    assert str(path) in message
    assert "rollcall calibrate --model DIR" in message
    return message


def test_the_committed_bounds_are_the_starting_models() -> None:
    plan = RunPlan(model=MODEL, compute_dtype=COMMITTED.compute_dtype)
    assert spec_of(plan, orchestrator=WHO, trainer=WHO).thresholds == COMMITTED


def test_a_file_that_is_not_one_set_of_bounds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    for data in (b"[" + COMMITTED.to_json() + b"]", b"[]", b"{}", b"", b"no bounds"):
        assert "is not one set of bounds" in refusal(path, data)


def test_bounds_of_another_model_or_dtype_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    found = refusal(path, COMMITTED.to_json(), compute_dtype=OTHER_DTYPE)
    assert f"measured in {COMMITTED.compute_dtype}, not in {OTHER_DTYPE}" in found
    assert f"--dtype {OTHER_DTYPE}" in found
    other = thresholds(bytes(32), compute_dtype=COMMITTED.compute_dtype)
    found = refusal(path, other.to_json(), compute_dtype=COMMITTED.compute_dtype)
    assert f"not on 0x{COMMITTED.model_digest.hex()}" in found


def test_an_unknown_dtype_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValidationError, match="'float32', 'float16' or 'bfloat16'"):
        RunPlan.model_validate({"compute_dtype": "int8"})
