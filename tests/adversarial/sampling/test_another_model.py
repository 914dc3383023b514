"""Attack: serve half of the model's layers under its name, for half of the work."""

import numpy as np

from protocol.policies.manifest import HostTensor
from tests.stage.sampling_lab import exact, share

SKIPPED = ("model.layers.1.self_attn.o_proj.weight", "model.layers.1.mlp.down_proj.weight")


def without_last_layer(policy: dict[str, HostTensor]) -> dict[str, HostTensor]:
    """Return weights whose last layer adds nothing, which is as good as leaving it out."""

    def silent(tensor: HostTensor) -> HostTensor:
        return HostTensor(tensor.dtype, tensor.shape, np.zeros_like(tensor.bits))

    return {name: silent(t) if name in SKIPPED else t for name, t in policy.items()}


def test_a_smaller_model_is_caught_in_every_group() -> None:
    bench = exact()
    leases = bench.leases(32)
    assert share(bench.caught(leases, bench.sample(leases))) == 0
    bench.engine.load(without_last_layer(bench.policy))
    assert share(bench.caught(leases, bench.sample(leases))) == 1
