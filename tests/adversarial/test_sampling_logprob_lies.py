"""Attack: right tokens with false log-probabilities, to bend the trainer's importance ratios.

Gross lies are caught in every group. What replay lets through is bounded (`trainer/distortion.py`), but
the bound is wide, since a few unlikely tokens have most of a group's gradient; so a trainer recomputes
log-probabilities, and then lies do nothing at all (`tests/trainer/test_behaviour.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from protocol.constants import MICRO
from protocol.rollout import Lease, Rollout
from protocol.verdict import Rejection, Statistic
from tests.adversarial.sampling_lab import MODEL, Lab, exact
from trainer.batch import Completion, Group, Microbatch, pack
from trainer.distortion import Floats, Truth, gap_budget, most_distortion, price, weights
from trainer.loop import without_outliers
from trainer.loss import Band, Clip, Tokens, Whole, grpo
from trainer.model import Policy, open_policy

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


CLIP, BAND = Clip(low=0.2, high=0.28, cap=4.0), Band(mean_low=0.5, mean_high=2.0, absurd=1e4)
"""The trainer's defaults."""


@dataclass(frozen=True, slots=True)
class Lied:
    """One group, the lie that its worker could tell, and what a trainer makes of either."""

    lease: Lease
    group: tuple[Rollout, ...]
    policy: Policy
    microbatch: Microbatch
    truth: Truth
    budget: float

    def lie(self, budget: float) -> Floats:
        """Claim surprisals that give the tokens of the worse half weight, and take it from the better's.

        The least likely tokens first: they have the greatest gradients, and lies about them are cheapest.
        Never so much that a sequence leaves the band.
        """
        true, sequence = self.truth.surprisals_N, self.truth.sequence_N
        is_good = self.truth.advantages_N > 0
        aims = np.where(is_good, np.log(1.29), np.log(3.99)) - self.truth.logprobs_N
        prices, claims = price(true, aims), true.copy()
        room = {s: np.log(1.99) * (sequence == s).sum() for s in set(sequence.tolist())}
        worth = np.where(is_good, 1, 3) * self.truth.sizes_N
        for i in np.argsort(-worth / (prices if np.isfinite(budget) else 1)):
            if prices[i] <= budget and aims[i] - true[i] <= room[sequence[i]]:
                claims[i] = aims[i]
                budget -= prices[i]
                room[sequence[i]] -= aims[i] - true[i]
        return np.asarray(claims)

    def rollouts(self, claims: Floats) -> tuple[Rollout, ...]:
        cuts = np.cumsum([len(r.token_ids()) for r in self.group])[:-1]
        parts = np.split(-claims, cuts)
        return tuple(Rollout.of(r.token_ids(), c) for r, c in zip(self.group, parts, strict=True))

    def gradient(self, claims: Floats) -> Tensor:
        """Return the gradient of the trainer's loss where these claims are believed."""
        found = self.microbatch
        logprobs_N, _ = self.policy.logprobs(found)
        tokens = Tokens(
            logprobs_N=logprobs_N,
            behaviour_N=torch.tensor(-claims, dtype=torch.float32),
            advantages_N=found.advantages_N,
            mask_N=found.mask_N,
            sequence_N=found.sequence_N,
            num_sequences=found.num_sequences,
        )
        tokens, left_out = without_outliers(tokens, BAND)
        assert not left_out
        grpo(tokens, CLIP, Whole(len(claims), found.num_sequences, 64)).backward()
        return gradient_of(self.policy)

    def bound(self) -> float:
        return most_distortion(self.truth, budget=self.budget, clip=CLIP, band=BAND)


def gradient_of(policy: Policy) -> Tensor:
    """Take the gradients that were collected, as one vector."""
    policy.collect_gradients()
    masters = [master for master in policy.masters.values() if master.grad is not None]
    found = torch.cat([m.grad.flatten() for m in masters if m.grad is not None])
    for master in masters:
        master.grad = None
    return found


def lied(bench: Lab, policy: Policy, lease: Lease, *, by_gradient: bool) -> Lied:
    """Sample a group of four better and four worse rollouts; measure what a lie about it may cost."""
    (group,) = bench.sample([lease])
    (honest,) = bench.measured([lease], [group])
    advantages = [0.5, -0.5] * 4
    completions = tuple(
        Completion(r.token_ids().astype(np.int64), r.worker_logprobs(), a, False, i)
        for i, (r, a) in enumerate(zip(group, advantages, strict=True))
    )
    whole = Group(bytes(32), 0, np.asarray(lease.prompt), completions, (0,) * 8)
    (microbatch,) = pack([whole], max_tokens=1 << 20, device="cpu")
    logprobs_N, _ = policy.logprobs(microbatch)
    sizes_N = microbatch.advantages_N.abs().double().numpy()
    if by_gradient:
        norms = []
        for one in logprobs_N:
            one.backward(retain_graph=True)
            norms.append(float(gradient_of(policy).norm()))
        sizes_N = sizes_N * np.array(norms)
    truth = Truth(
        surprisals_N=np.maximum(-microbatch.worker_logprobs_N.double().numpy(), 0),
        logprobs_N=logprobs_N.detach().double().numpy(),
        advantages_N=microbatch.advantages_N.double().numpy(),
        sequence_N=microbatch.sequence_N.numpy(),
        sizes_N=sizes_N,
    )
    # The verifier recomputes on other batches: what its gaps to honest claims take of the budget.
    used = honest.total(Statistic.GAP) / MICRO
    return Lied(
        lease,
        group,
        policy,
        microbatch,
        truth,
        budget=gap_budget(bench.thresholds, honest.num_tokens) + used,
    )


@pytest.fixture(scope="module")
def policy() -> Policy:
    torch.set_num_threads(1)
    return open_policy(
        MODEL, device="cpu", compute_dtype="float32", temperature=1.0, logits_chunk=1 << 20
    )[0]


def spare(bench: Lab, found: Lied) -> float:
    """Return what a lie may cost for certain: the limit less twice what honest claims use of it."""
    (honest,) = bench.measured([found.lease], [found.group])
    return found.budget - 2 * honest.total(Statistic.GAP) / MICRO


def test_the_worst_lie_that_passes_moves_the_gradient_within_the_bound(policy: Policy) -> None:
    """And by more than the whole honest gradient: why the trainer believes no claim by default."""
    bench = exact()
    found = lied(bench, policy, bench.leases(1)[0], by_gradient=True)
    claims = found.lie(spare(bench, found))
    assert bench.caught([found.lease], [found.rollouts(claims)]) == [None]
    honest = found.gradient(found.truth.surprisals_N)
    moved = float((found.gradient(claims) - honest).norm())
    assert moved <= found.bound() / len(claims)
    assert moved > float(honest.norm())


def test_replay_keeps_nearly_all_weight_in_its_place(policy: Policy) -> None:
    """Counted in weight and not in gradients, a lie that passes reaches few tokens of a group."""
    bench = exact()
    for lease in bench.leases(4):
        found = lied(bench, policy, lease, by_gradient=False)
        claims, free = found.lie(spare(bench, found)), found.lie(np.inf)
        assert bench.caught([lease], [found.rollouts(claims)]) == [None]
        assert bench.caught([lease], [found.rollouts(free)]) == [Rejection.REPLAY_LOGPROB]
        assert moved_weight(found, claims) <= found.bound() < moved_weight(found, free)
        assert 4 * moved_weight(found, claims) < moved_weight(found, free)


def moved_weight(found: Lied, claims: Floats) -> float:
    """Return Σ|A| × the change of the tokens' weights."""
    truth = found.truth
    told, true = (
        weights(np.exp(truth.logprobs_N + c), truth.advantages_N, CLIP)
        for c in (claims, truth.surprisals_N)
    )
    return float((truth.sizes_N * np.abs(told - true)).sum())
