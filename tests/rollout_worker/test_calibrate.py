"""Hold the committed bounds, and what is calibrated here, to fresh honest work and to four bits."""

from pathlib import Path

from protocol.calibration import thresholds_of
from protocol.constants import MICRO
from protocol.environments.arithmetic import Arithmetic
from protocol.policy import entries, policy_digest
from protocol.verdict import Thresholds
from rollout_worker.calibrate import (
    caught,
    measure,
    workload_of,
    write,
)
from rollout_worker.engines.causal import read_weights
from rollout_worker.engines.registry import open_engine
from rollout_worker.engines.rounded import RoundedEngine
from rollout_worker.replay import ReplayModel
from tests.bounds import COMMITTED, thresholds

MODEL = Path(__file__).parents[2] / "models" / "start"


def test_bounds_are_written_as_one_object_in_place_of_the_old_ones(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    for margin in (1, 2):
        write(thresholds(margin=margin), path)
        assert Thresholds.from_json(path.read_bytes()) == thresholds(margin=margin)


def test_calibrated_bounds_pass_fresh_honest_work_and_stop_int4() -> None:
    engine = open_engine("transformers", MODEL, max_model_len=128)
    model, policy = ReplayModel(MODEL), read_weights(MODEL / "model.safetensors")
    workload = workload_of(MODEL, Arithmetic({}), num_groups=128, group_size=8, max_tokens=64)
    honest = measure(engine, model, policy, workload)
    bounds = thresholds_of(
        [honest],
        compute_dtype=COMMITTED.compute_dtype,
        model_digest=policy_digest(entries(policy)),
        false_rejects_per_million=100,
        false_alarms_per_million=10,
    )
    assert bounds.model_digest == COMMITTED.model_digest
    assert caught(measure(engine, model, policy, workload, salt=99), bounds) == 0
    cheat = RoundedEngine(engine, bits=4)
    assert caught(measure(cheat, model, policy, workload, salt=99), bounds) == 1


def test_the_committed_bounds_were_measured_on_many_honest_groups() -> None:
    assert COMMITTED.num_honest_groups >= 1_000
    assert COMMITTED.honest_match_millionths > 0.999 * MICRO
    assert COMMITTED.false_rejects_per_million_groups == 100
    assert COMMITTED.false_alarms_per_million_groups == 10
