"""Attack: serve int8 weights: too faint for one group in many, told by the worker's sequence."""

from rollout_worker.engines.rounded import rounded
from tests.adversarial.sampling_lab import exact, share


def test_int8_passes_group_by_group_and_not_as_a_sequence() -> None:
    bench = exact()
    leases = bench.leases(48)
    assert bench.groups_until_drift(bench.measured(leases, bench.sample(leases))) is None
    bench.engine.load(rounded(bench.policy, bits=8))
    groups = bench.sample(leases)
    assert share(bench.caught(leases, groups)) < 0.5  # alone, most pass: the attack succeeds
    crossed_after = bench.groups_until_drift(bench.measured(leases, groups))
    assert crossed_after is not None
    assert crossed_after <= 8
