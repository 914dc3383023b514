"""Hold calibration to distributions whose tails are known, and its results to fresh honest work."""

import json
from pathlib import Path

import numpy as np
import pytest

from protocol.constants import MICRO
from protocol.environments.arithmetic import Arithmetic
from protocol.verdict import ReplayStats, Thresholds, judge
from rollout_worker.calibrate import (
    caught,
    measure,
    tail_bound,
    thresholds_of,
    workload_of,
    write,
)
from rollout_worker.engines.causal import read_weights
from rollout_worker.engines.registry import open_engine
from rollout_worker.engines.rounded import RoundedEngine
from rollout_worker.replay import ReplayModel

MODEL = Path(__file__).parents[2] / "models" / "start"


def stats(*, matched: int = 1000, margin: int = 0, gap: int = 0) -> ReplayStats:
    return ReplayStats(
        num_tokens=1000,
        num_matched=matched,
        mean_margin_micronats=margin,
        max_margin_micronats=margin,
        mean_logprob_gap_micronats=gap,
        p99_logprob_gap_micronats=gap,
    )


def test_the_tail_bound_finds_the_quantile_of_an_exponential() -> None:
    draws = np.random.default_rng(0).exponential(2.0, size=4_000)
    assert tail_bound(draws, 1e-4) == pytest.approx(2.0 * np.log(1e4), rel=0.15)


def test_the_tail_bound_lies_above_the_quantile_of_a_mean() -> None:
    means = np.random.default_rng(0).exponential(1.0, size=(4_000, 100)).mean(axis=1)
    true_quantile = 1.4  # of Gamma(100, 1/100) at 1 − 1e-4
    assert true_quantile <= tail_bound(means, 1e-4) <= 1.3 * true_quantile


def test_the_tail_bound_never_cuts_off_what_was_seen() -> None:
    values = np.zeros(500)
    values[7] = 100.0
    assert tail_bound(values, 1e-4) >= 100.0
    assert tail_bound(np.zeros(500), 1e-4) == 0.0


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="99 groups are too few"):
        tail_bound(np.zeros(99), 1e-4)
    assert tail_bound(np.ones(100), 1e-4) == 1.0


def test_the_loosest_policy_sets_every_bound() -> None:
    calm = [stats(gap=10_000 + i) for i in range(200)]
    rough = [stats(matched=990, margin=500, gap=20_000 + i) for i in range(200)]
    both = thresholds_of([calm, rough], engine_class="x", false_rejects_per_million=100)
    alone = thresholds_of([rough], engine_class="x", false_rejects_per_million=100)
    assert both.max_mean_logprob_gap_micronats == alone.max_mean_logprob_gap_micronats >= 20_199
    assert both.min_match_millionths == alone.min_match_millionths == 985_000
    assert both.max_mean_margin_micronats == 750
    assert both.honest_match_millionths == 995_000
    assert both.honest_mean_margin_micronats == 250
    assert (both.num_honest_groups, both.num_honest_tokens) == (400, 400_000)
    assert caught([*calm, *rough], both) == 0


def test_judge_holds_work_to_each_bound_from_both_sides() -> None:
    bounds = thresholds_of(
        [[stats(matched=990, margin=500, gap=20_000)] * 100],
        engine_class="x",
        false_rejects_per_million=100,
    )
    within = stats(matched=985, margin=750, gap=30_000)
    assert judge(within, bounds) is None
    for change in (
        {"num_matched": 984},
        {"mean_margin_micronats": 751},
        {"mean_logprob_gap_micronats": 30_001},
    ):
        assert judge(within.model_copy(update=change), bounds) is not None


def test_a_class_is_written_in_place_of_its_old_bounds(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    for engine_class, margin in (("b", 1), ("a", 2), ("b", 3)):
        write(
            thresholds_of(
                [[stats(margin=margin)] * 100],
                engine_class=engine_class,
                false_rejects_per_million=100,
            ),
            path,
        )
    found = [Thresholds.from_json(json.dumps(entry)) for entry in json.loads(path.read_text())]
    assert [(t.engine_class, t.honest_mean_margin_micronats) for t in found] == [("a", 2), ("b", 3)]


def test_calibrated_bounds_pass_fresh_honest_work_and_stop_int4() -> None:
    engine = open_engine("transformers", MODEL, max_model_len=128)
    model, policy = ReplayModel(MODEL), read_weights(MODEL / "model.safetensors")
    workload = workload_of(MODEL, Arithmetic({}), num_groups=128, group_size=8, max_tokens=64)
    honest = measure(engine, model, policy, workload)
    bounds = thresholds_of(
        [honest], engine_class=engine.engine_class, false_rejects_per_million=100
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
        assert bounds.max_mean_logprob_gap_micronats < 120_000  # the best int4 group has 128,000
