"""Attack: sample from four-bit weights under a demand for activation commitments.

And what the demand does not add: one honest prefill proves any text, wherever its tokens came from.
"""

from dataclasses import replace

import numpy as np

from protocol.policy import HostTensor
from rollout_worker.activations import prove
from rollout_worker.engines.prefill import Completed, hidden_states
from rollout_worker.engines.rounded import rounded
from tests.adversarial.activation_lab import MEASURED, PUBLISHED, Group, condemned, proved, without
from tests.adversarial.sampling_lab import Lab, exact, share


def test_int4_weights_are_caught_by_bounds_that_were_measured() -> None:
    bench = exact()
    leases = bench.leases(16)
    bench.engine.load(rounded(bench.policy, bits=4))
    groups = proved(bench, leases)
    assert share(condemned(bench, leases, groups, MEASURED)) == 1
    # TOPLOC's own bounds are for large models on other hardware: most of the attack passes them.
    assert share(condemned(bench, leases, groups, PUBLISHED)) < 0.5


def test_one_honest_prefill_proves_text_of_any_origin_and_only_replay_sees_it() -> None:
    bench = exact()
    leases = bench.leases(16)
    elsewhere = bench.sample(leases, lambda request: replace(request, seed=request.seed ^ 1))
    groups = [prefilled(bench, lease.prompt, g) for lease, g in zip(leases, elsewhere, strict=True)]
    assert share(condemned(bench, leases, groups, MEASURED)) == 0  # a cherry-picker passes
    assert share(bench.caught(leases, without(groups))) == 1


def test_where_a_policy_is_sure_commitments_see_what_its_tokens_hide() -> None:
    """Sure tokens are the same whoever samples them, and their log-probabilities are all 0."""
    bench = exact()
    leases = bench.leases(32)
    sure = sharpened(bench.policy)
    bench.model.load(sure)
    bench.engine.load(sure)
    honest = proved(bench, leases)
    assert share(condemned(bench, leases, honest, MEASURED)) == 0
    bench.engine.load(rounded(sure, bits=4))
    groups = proved(bench, leases)
    assert share(bench.caught(leases, without(groups))) < 0.8
    assert share(condemned(bench, leases, groups, MEASURED)) > 0.9


def sharpened(policy: dict[str, HostTensor]) -> dict[str, HostTensor]:
    """Return the policy with logits 128 times as large: the final norm's exponents rise by 7."""
    name = "model.norm.weight"
    norm = policy[name]
    return {**policy, name: replace(norm, bits=(norm.bits + np.uint16(7 << 7)).astype(np.uint16))}


def prefilled(bench: Lab, prompt: tuple[int, ...], group: Group) -> Group:
    """Return the group with commitments from one pass of the exact policy over its text."""
    completed = [Completed(prompt, rollout.token_ids()) for rollout in group]
    states = hidden_states(bench.model._model, completed, shares_prompts=False, max_positions=4096)
    return tuple(
        rollout.model_copy(update={"activations": prove(own)})
        for rollout, own in zip(group, states, strict=True)
    )
