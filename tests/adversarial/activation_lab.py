"""What the attacks on activation commitments share: groups that carry them, admission, replay."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from orchestrator.admission import admit
from protocol.activation_policy import ActivationPolicy, judge_activations
from protocol.rollout import Lease, Rollout
from protocol.verdict import Rejection
from rollout_worker.replay import measure_many
from tests.adversarial.sampling_lab import TERMS, Lab, submission_of

ASKING = replace(TERMS, asks_activations=True)
PUBLISHED = ActivationPolicy()
MEASURED = ActivationPolicy(
    max_exponent_mismatches=12,
    max_mantissa_error_mean_millionths=6_000_000,
    max_mantissa_error_median_millionths=4_000_000,
)
"""Well above what honest work of either engine measures on the starting model: 7 exponents, a mean of
4.11 and a median of 1 (`python -m benchmarks.activations`)."""

Group = tuple[Rollout, ...]


def proved(bench: Lab, leases: Sequence[Lease]) -> list[Group]:
    """Sample honestly from what the engine holds, with commitments."""
    return bench.sample(leases, lambda request: replace(request, proves_activations=True))


def with_proofs(group: Group, change: Callable[[bytes], bytes]) -> Group:
    """Return the group with each rollout's commitments changed."""
    return tuple(
        rollout.model_copy(update={"activations": change(rollout.activations)}) for rollout in group
    )


def admitted(lease: Lease, group: Group) -> tuple[Rejection | None, str]:
    """Return what admission finds in a run that asks for commitments."""
    finding = admit(lease, submission_of(lease, group), ASKING, newest_version=0)
    return (finding.rejection, finding.detail) if finding else (None, "")


def condemned(
    bench: Lab, leases: Sequence[Lease], groups: Sequence[Group], policy: ActivationPolicy
) -> list[Rejection | None]:
    """Return what a replay of the commitments finds; every group must pass admission first."""
    work = [(lease, submission_of(lease, g)) for lease, g in zip(leases, groups, strict=True)]
    for lease, group in zip(leases, groups, strict=True):
        assert admitted(lease, group) == (None, "")
    found = [judge_activations(m.deviations, policy) for m in measure_many(bench.model, work)]
    return [broken and broken[0] for broken in found]


def without(groups: Sequence[Group]) -> list[Group]:
    """Return the groups as a run that asks for no commitments takes them."""
    return [with_proofs(group, lambda _: b"") for group in groups]
