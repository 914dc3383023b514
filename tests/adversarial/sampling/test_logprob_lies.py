"""Attack: right tokens with false log-probabilities, to bend the trainer's importance ratios.

Gross lies are caught in every group. What replay lets through is bounded (`benchmarks/distortion.py`); a
trainer that recomputes log-probabilities is moved by nothing at all (`tests/trainer/test_behaviour.py`).
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.claims import Lied, lied, open_trained
from protocol.rollout import Lease, Rollout
from protocol.verdict import Rejection
from tests.stage.sampling_lab import MODEL, Lab, exact
from trainer.model import Policy

Lie = Callable[[NDArray[np.float32]], NDArray[np.float32]]
LIES: dict[str, Lie] = {
    "all alike": lambda true: np.full_like(true, -1.0),
    "all certain": np.zeros_like,
    "a fifth likelier": lambda true: true * np.float32(0.8),
    "shifted": lambda true: np.roll(true, 1),
    "one in four by a nat": lambda true: true - np.where(np.arange(len(true)) % 4 == 0, 1, 0),
}


def test_false_logprobs_are_caught_in_every_group() -> None:
    bench = exact()
    leases = bench.leases(24)
    honest = bench.sample(leases)
    for name, lie in LIES.items():
        told = [
            tuple(Rollout.of(r.token_ids(), lie(r.worker_logprobs())) for r in group)
            for group in honest
        ]
        assert set(bench.caught(leases, told)) == {Rejection.REPLAY_LOGPROB}, name


@pytest.fixture(scope="module")
def policy() -> Policy:
    torch.set_num_threads(1)
    return open_trained(MODEL)


def sold(bench: Lab, policy: Policy, lease: Lease, *, by_gradient: bool) -> Lied:
    """Sample a group honestly; measure what lies about it cost and are worth."""
    (group,) = bench.sample([lease])
    return lied(
        lease,
        group,
        policy=policy,
        verifier=bench.model,
        thresholds=bench.thresholds,
        by_gradient=by_gradient,
    )


def test_the_worst_lie_that_passes_moves_the_gradient_within_the_bound(policy: Policy) -> None:
    """And less than the honest gradient, where without a replay it would move more than that."""
    bench = exact()
    found = sold(bench, policy, bench.leases(2)[1], by_gradient=True)
    claims, free = found.passing(), found.lie(np.inf)
    assert bench.caught([found.lease], [found.rollouts(claims)]) == [None]
    honest = found.gradient(found.truth.surprisals_N)
    moved, unheld = (float((found.gradient(c) - honest).norm()) for c in (claims, free))
    assert moved <= found.bound() / len(claims)
    assert moved < float(honest.norm()) < unheld


def test_replay_keeps_nearly_all_weight_in_its_place(policy: Policy) -> None:
    """Counted in weight and not in gradients, a lie that passes reaches few tokens of a group."""
    bench = exact()
    for lease in bench.leases(4):
        found = sold(bench, policy, lease, by_gradient=False)
        claims, free = found.passing(), found.lie(np.inf)
        assert bench.caught([lease], [found.rollouts(claims)]) == [None]
        assert bench.caught([lease], [found.rollouts(free)]) == [Rejection.REPLAY_LOGPROB]
        assert found.moved_weight(claims) <= found.bound() < found.moved_weight(free)
        assert 4 * found.moved_weight(claims) < found.moved_weight(free)
