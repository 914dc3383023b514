"""Hold the committed bounds, and what is calibrated here, to fresh honest work and to rounded weights."""

from dataclasses import replace
from pathlib import Path

from protocol.checks.calibration import share_caught, thresholds_of
from protocol.constants import MICRO
from protocol.environments.arithmetic import Arithmetic
from protocol.policies.manifest import Weights, entries, policy_digest
from protocol.verdict import ReplayStats
from rollout_worker.engines.base import Engine
from rollout_worker.engines.causal import read_weights
from rollout_worker.engines.registry import open_engine
from rollout_worker.engines.rounded import RoundedEngine
from rollout_worker.replay.calibrate import (
    Workload,
    from_file,
    replay,
    sample,
    to_file,
    workload_of,
)
from rollout_worker.replay.measure import Replayer, ReplayModel
from tests.stage.bounds import COMMITTED

MODEL = Path(__file__).parents[2] / "models" / "start"


def workload(num_groups: int) -> Workload:
    return workload_of(MODEL, Arithmetic({}), num_groups=num_groups, group_size=8, max_tokens=64)


def measure(
    engine: Engine, model: Replayer, policy: Weights, work: Workload, *, salt: int = 0
) -> list[ReplayStats]:
    """Sample the workload and replay it."""
    return replay(model, policy, sample(engine, policy, work, salt=salt))


def test_calibrated_bounds_pass_fresh_honest_work_and_stop_rounded_weights() -> None:
    engine = open_engine("transformers", MODEL, max_model_len=128)
    model, policy = ReplayModel(MODEL), read_weights(MODEL / "model.safetensors")
    work = workload(128)
    int8, int4 = (
        measure(RoundedEngine(engine, bits=bits), model, policy, work, salt=99) for bits in (8, 4)
    )
    bounds = thresholds_of(
        [measure(engine, model, policy, work)],
        compute_dtype=COMMITTED.compute_dtype,
        model_digest=policy_digest(entries(policy)),
        varied=["transformers"],
        int8=[int8],
        false_rejects_per_million=100,
        false_alarms_per_million=10,
    )
    assert bounds.model_digest == COMMITTED.model_digest
    assert bounds.honest_match_millionths == MICRO
    assert bounds.int8_caught_millionths > 0.98 * MICRO
    assert share_caught(int4, bounds) == 1
    assert share_caught(measure(engine, model, policy, work, salt=99), bounds) == 0


def test_groups_that_were_sampled_elsewhere_are_replayed_as_if_they_were_here(
    tmp_path: Path,
) -> None:
    """One process samples and writes, another reads and replays: nothing is lost in between."""
    engine = open_engine("transformers", MODEL, max_model_len=128)
    model, policy = ReplayModel(MODEL), read_weights(MODEL / "model.safetensors")
    warm = replace(workload(20), temperature_millionths=900_000)
    groups, path = sample(engine, policy, warm, salt=7), tmp_path / "groups"
    to_file(groups, path)
    back = from_file(path, warm, salt=7)
    assert [lease for lease, _ in back] == [lease for lease, _ in groups]
    assert [list(rollouts) for _, rollouts in back] == [list(rollouts) for _, rollouts in groups]
    found = replay(model, policy, back)
    assert found == measure(engine, model, policy, warm, salt=7)
    assert all(stats.num_wrong == 0 for stats in found)
    other_seeds = replay(model, policy, from_file(path, warm, salt=8))
    assert sum(stats.num_wrong for stats in other_seeds) > 20


def test_the_committed_bounds_were_measured_on_many_honest_groups() -> None:
    assert COMMITTED.num_honest_groups >= 500
    assert COMMITTED.honest_match_millionths > 0.99999 * MICRO
    assert COMMITTED.int8_caught_millionths > 0.95 * MICRO
    assert COMMITTED.false_rejects_per_million_groups == 100
    assert COMMITTED.false_alarms_per_million_groups == 10
