"""Attack: keep keys and values in fp8, for twice the batch in the same memory."""

from benchmarks.attacks.weights import with_fp8_cache
from rollout_worker.engines.transformers import TransformersEngine
from tests.adversarial.sampling_lab import exact, share


def test_an_fp8_cache_is_caught_in_every_group() -> None:
    bench = exact()
    leases = bench.leases(24)
    assert share(bench.caught(leases, bench.sample(leases))) == 0
    assert isinstance(bench.engine, TransformersEngine)
    undo = with_fp8_cache(bench.engine._model)
    try:
        groups = bench.sample(leases)
    finally:
        undo()
    assert share(bench.caught(leases, groups)) == 1
