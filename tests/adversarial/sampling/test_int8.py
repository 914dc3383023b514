"""Attack: serve int8 weights: the faintest rounding, and in float32 no group of it passes."""

from rollout_worker.engines.rounded import rounded
from tests.stage.sampling_lab import exact, share


def test_every_int8_group_is_caught_alone() -> None:
    bench = exact()
    leases = bench.leases(48)
    assert share(bench.caught(leases, bench.sample(leases))) == 0  # the same leases, honestly
    bench.engine.load(rounded(bench.policy, bits=8))
    assert share(bench.caught(leases, bench.sample(leases))) == 1
