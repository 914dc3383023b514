"""Hold the committed bounds, and what is calibrated here, to fresh honest work and to four bits."""

import json
from pathlib import Path

from protocol.calibration import thresholds_of
from protocol.constants import MICRO
from protocol.environments.arithmetic import Arithmetic
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
from tests.bounds import thresholds

MODEL = Path(__file__).parents[2] / "models" / "start"


def test_a_class_is_written_in_place_of_its_old_bounds(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    for engine_class, margin in (("b", 1), ("a", 2), ("b", 3)):
        write(
            thresholds(engine_class, margin=margin),
            path,
        )
    found = [Thresholds.from_json(json.dumps(entry)) for entry in json.loads(path.read_text())]
    assert [(t.engine_class, t.margin.reference) for t in found] == [("a", 2), ("b", 3)]


def test_calibrated_bounds_pass_fresh_honest_work_and_stop_int4() -> None:
    engine = open_engine("transformers", MODEL, max_model_len=128)
    model, policy = ReplayModel(MODEL), read_weights(MODEL / "model.safetensors")
    workload = workload_of(MODEL, Arithmetic({}), num_groups=128, group_size=8, max_tokens=64)
    honest = measure(engine, model, policy, workload)
    bounds = thresholds_of(
        [honest],
        engine_class=engine.engine_class,
        false_rejects_per_million=100,
        false_alarms_per_million=10,
    )
    assert bounds.engine_class == "transformers-cpu-bfloat16"
    assert caught(measure(engine, model, policy, workload, salt=99), bounds) == 0
    cheat = RoundedEngine(engine, bits=4)
    assert caught(measure(cheat, model, policy, workload, salt=99), bounds) == 1


def test_the_committed_bounds_were_measured_for_both_engines() -> None:
    found = [
        Thresholds.from_json(json.dumps(entry))
        for entry in json.loads((MODEL / "thresholds.json").read_text())
    ]
    assert {t.engine_class for t in found} == {"vllm-cpu-bfloat16", "transformers-cpu-bfloat16"}
    for bounds in found:
        assert bounds.num_honest_groups >= 1_000
        assert bounds.honest_match_millionths > 0.999 * MICRO
        assert bounds.false_rejects_per_million_groups == 100
        assert bounds.false_alarms_per_million_groups == 10
