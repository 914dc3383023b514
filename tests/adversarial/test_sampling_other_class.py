"""Attack: claim the engine class whose bounds are loosest, and serve rounded weights under it."""

import json

from protocol.verdict import Thresholds, judge
from rollout_worker.engines.rounded import rounded
from rollout_worker.replay import replay_many
from tests.adversarial.sampling_lab import MODEL, exact, submission_of


def test_no_calibrated_class_lets_int4_through() -> None:
    bench = exact()
    leases = bench.leases(24)
    bench.engine.load(rounded(bench.policy, bits=4))
    groups = bench.sample(leases)
    work = [
        (lease, submission_of(lease, group)) for lease, group in zip(leases, groups, strict=True)
    ]
    entries = json.loads((MODEL / "thresholds.json").read_text())
    measured = replay_many(bench.model, work)
    for entry in entries:
        bounds = Thresholds.from_json(json.dumps(entry))
        assert all(judge(stats, bounds) is not None for stats, _ in measured), bounds.engine_class
    assert len(entries) >= 2
