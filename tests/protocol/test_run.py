"""A run's terms hold together, or are refused in one line with the remedy."""

import json

import pytest

from protocol.errors import Malformed
from protocol.run import RunSpec
from tests.stage.bounds import thresholds
from tests.stage.terms import make_spec

SPEC = make_spec()


def refusal(**changes: object) -> str:
    """Return what is said to terms that travel with `changes`."""
    body = json.loads(SPEC.to_json()) | changes
    with pytest.raises(Malformed) as refused:
        RunSpec.from_json(json.dumps(body))
    message = refused.value.message
    assert "\n" not in message
    return message


def test_terms_read_back_as_the_same_in_both_forms() -> None:
    assert RunSpec.from_json(SPEC.to_json()) == SPEC
    assert RunSpec.from_canonical(SPEC.canonical()) == SPEC


def test_an_unknown_dtype_is_refused_with_those_there_are() -> None:
    assert "'float32', 'float16' or 'bfloat16'" in refusal(compute_dtype="float8")


def test_bounds_of_another_dtype_are_refused_with_what_to_run() -> None:
    """In bfloat16 int8 hides: its bounds would let it into a run that computes in float32."""
    message = refusal(compute_dtype="bfloat16")
    assert "measured in float32, not in bfloat16" in message
    assert "rollcall calibrate --model DIR --dtype bfloat16" in message


def test_bounds_of_another_model_are_refused_with_what_to_run() -> None:
    message = refusal(thresholds=json.loads(thresholds(bytes([7]) * 32).to_json()))
    assert f"on model 0x{'07' * 32}, not on 0x{SPEC.model_digest.hex()}" in message
    assert "rollcall calibrate --model DIR --dtype float32" in message


def test_bounds_by_engine_are_refused() -> None:
    assert "thresholds" in refusal(thresholds=[json.loads(SPEC.thresholds.to_json())])
