"""Attack: keep keys and values in fp8, for twice the batch in the same memory."""

from rollout_worker.engines.fp8_cache import keeping_fp8
from rollout_worker.engines.transformers import TransformersEngine
from tests.stage.sampling_lab import exact, share


def test_an_fp8_cache_is_caught_in_every_group() -> None:
    bench = exact()
    leases = bench.leases(24)
    assert share(bench.caught(leases, bench.sample(leases))) == 0
    assert isinstance(bench.engine, TransformersEngine)
    with keeping_fp8(bench.engine.model):
        groups = bench.sample(leases)
    assert share(bench.caught(leases, groups)) == 1
