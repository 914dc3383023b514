"""A run that asks for activation commitments: its plan, its limits, and the workers it turns away."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from protocol.activation_policy import ActivationPolicy
from protocol.constants import MAX_SUBMISSION_BYTES
from protocol.messages import RunInfo, RunStatus
from protocol.run import RunSpec
from rollcall.spec import RunPlan, spec_of
from rollcall.user_error import UserError
from rollout_worker.choice import Ability, obstacle

MODEL = Path(__file__).parents[2] / "models" / "start"
WHO = "0x" + "11" * 20


def spec(model: Path = MODEL, bounds: object = (12, 5.0, 3.5)) -> RunSpec:
    plan = RunPlan.model_validate({"model": model, "activation_bounds": bounds})
    return spec_of(plan, orchestrator=WHO, trainer=WHO)


def test_a_plans_bounds_are_the_runs() -> None:
    assert spec(bounds=None).activations is None
    assert spec(bounds=(38, 10, 8)).activations == ActivationPolicy()
    asked = spec().activations
    assert asked is not None
    assert asked.max_exponent_mismatches == 12
    assert asked.max_mantissa_error_median_millionths == 3_500_000
    assert RunSpec.from_canonical(spec().canonical()) == spec()


def test_a_model_too_narrow_to_commit_is_refused_at_launch(tmp_path: Path) -> None:
    for file in MODEL.iterdir():
        (tmp_path / file.name).symlink_to(file)
    config = json.loads((MODEL / "config.json").read_text())
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps({**config, "hidden_size": 64}))
    with pytest.raises(UserError, match="has 64 activations per token, a commitment needs 128"):
        spec(tmp_path)
    assert spec(tmp_path, bounds=None).activations is None


def test_a_group_whose_commitments_fit_no_submission_is_refused_at_launch() -> None:
    asked, silent = spec().model_dump(), spec(bounds=None).model_dump()
    fits = {"group_size": 8, "max_tokens": 64_000}
    assert RunSpec.model_validate({**silent, **fits}).most_group_bytes < MAX_SUBMISSION_BYTES
    assert RunSpec.model_validate({**asked, "max_tokens": 65_000}).activations
    with pytest.raises(ValidationError, match="ask for fewer or shorter rollouts"):
        RunSpec.model_validate({**asked, "group_size": 16, "max_tokens": 64_000})


def test_a_worker_whose_engine_captures_nothing_is_told_which_do() -> None:
    info = RunInfo(
        run_id=1,
        spec=spec(),
        chain_id=1,
        ledger=WHO,
        token=WHO,
        status=RunStatus.OPEN,
        newest_version=0,
        epoch=0,
        budget_left_units=1,
        min_stake="0",
    )
    able = Ability("vllm-cpu", min_rate=0, wanted="any")
    unable = replace(able, captures_activations=False)
    assert obstacle(info, able) is None
    why = obstacle(info, unable)
    assert why is not None
    assert "cannot capture: set engine.name to one of vllm, transformers" in why
    silent = info.model_copy(update={"spec": spec(bounds=None)})
    assert obstacle(silent, unable) is None
