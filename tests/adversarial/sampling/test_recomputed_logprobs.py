"""Attack: cheat, then prefill the result with the right weights and report those log-probabilities.

It costs a prefill of every completion and hides from the gap; what is left are the margins of the
tokens themselves. Groups of which the policy is sure pass, so that a probation replays them all.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from protocol.rollout import Lease, Rollout
from rollout_worker.engines.causal import CausalModel
from rollout_worker.engines.likelihood import logprobs_of
from rollout_worker.engines.rounded import rounded
from tests.stage.sampling_lab import MODEL, Lab, exact, share

NUM_PROBATION_GROUPS = 64


@torch.inference_mode()
def recomputed(leases: Sequence[Lease], groups: Sequence[Sequence[Rollout]]) -> list[list[Rollout]]:
    model = CausalModel(MODEL, device="cpu")

    def honest(lease: Lease, rollout: Rollout) -> Rollout:
        tokens = torch.from_numpy(rollout.token_ids().astype("int64"))
        context = torch.tensor([*lease.prompt, *tokens[:-1].tolist()])
        hidden = model.decoder(input_ids=context[None]).last_hidden_state[
            0, len(lease.prompt) - 1 :
        ]
        logprobs = logprobs_of(model.logits(hidden), tokens)
        return Rollout.of(rollout.token_ids(), logprobs.numpy())

    return [[honest(lease, r) for r in group] for lease, group in zip(leases, groups, strict=True)]


def share_caught(cheat: Callable[[Lab, Sequence[Lease]], list[tuple[Rollout, ...]]]) -> float:
    bench = exact()
    leases = bench.leases(NUM_PROBATION_GROUPS)
    return share(bench.caught(leases, recomputed(leases, cheat(bench, leases))))


def test_honest_work_is_still_honest() -> None:
    assert share_caught(lambda bench, leases: bench.sample(leases)) == 0


def test_int4_is_caught_many_times_in_a_probation() -> None:
    def int4(bench: Lab, leases: Sequence[Lease]) -> list[tuple[Rollout, ...]]:
        bench.engine.load(rounded(bench.policy, bits=4))
        return bench.sample(leases)

    assert share_caught(int4) > 0.3


def test_another_seed_is_caught_in_most_groups() -> None:
    def other(bench: Lab, leases: Sequence[Lease]) -> list[tuple[Rollout, ...]]:
        return bench.sample(leases, lambda request: replace(request, seed=request.seed ^ 1))

    assert share_caught(other) > 0.9


def test_a_colder_temperature_is_caught_within_a_probation() -> None:
    def colder(bench: Lab, leases: Sequence[Lease]) -> list[tuple[Rollout, ...]]:
        return bench.sample(leases, lambda request: replace(request, temperature=0.8))

    assert share_caught(colder) > 0
