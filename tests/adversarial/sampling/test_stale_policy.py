"""Attack: sample from an older policy than leased, and save the download."""

import torch

from protocol.policies.manifest import HostTensor
from rollout_worker.engines.causal import host_tensor_of, tensor_of
from tests.stage.sampling_lab import exact, share


def one_step_away(policy: dict[str, HostTensor], *, size: float) -> dict[str, HostTensor]:
    """Move every weight by `size` or −`size`, as an AdamW step of that learning rate does."""
    draw = torch.Generator().manual_seed(0)

    def moved(host: HostTensor) -> HostTensor:
        weight = tensor_of(host).float()
        sign = torch.randint(0, 2, weight.shape, generator=draw) * 2 - 1
        return host_tensor_of((weight + size * sign).bfloat16())

    return {name: moved(tensor) for name, tensor in policy.items()}


def test_a_policy_some_steps_old_is_caught_in_every_group() -> None:
    bench = exact()
    leases = bench.leases(48)
    bench.engine.load(one_step_away(bench.policy, size=3e-3))
    assert share(bench.caught(leases, bench.sample(leases))) == 1
