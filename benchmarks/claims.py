"""Measure what false worker_logprobs that pass replay do to a group's gradient, beside the bound on it.

For each of some groups of the demo model, four rollouts with advantage ½ and four with −½: the worst lie
that was found and passes replay, the bound of `benchmarks/distortion.py` under the calibrated budget of gaps,
and the same bound without replay. In norms of the group's honest gradient, and in the weight of its tokens
(Σ|A| × the change of weight, by Σ|A|); a group whose gradients cancel is left out. Lies are told by a worker that knows everything: the weights under
training, the trainer's clipping, and how far every token's gradient reaches.

    python -m benchmarks.claims [--groups 8] [--out build/bench/claims.json]
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from benchmarks.distortion import Floats, Truth, gap_budget, most_distortion, price, weights
from protocol.constants import NANO
from protocol.environments.arithmetic import Arithmetic
from protocol.precision import ComputeDtype
from protocol.rollout import Lease, Rollout
from protocol.verdict import Statistic, Thresholds
from rollout_worker.engines.base import Engine
from rollout_worker.engines.registry import open_engine
from rollout_worker.generate import finish_group, requests_of
from rollout_worker.replay.calibrate import workload_of
from rollout_worker.replay.measure import ReplayModel, stats_of
from trainer.batch import BatchRollout, Group, Microbatch, pack
from trainer.loop import without_outliers
from trainer.loss import Band, Clip, Tokens, Whole, grpo
from trainer.model import Policy, open_policy

MODEL = Path("models/start")
CLIP, BAND = Clip(low=0.2, high=0.28, cap=4.0), Band(mean_low=0.5, mean_high=2.0, absurd=1e4)
"""The trainer's defaults."""
ADVANTAGES = (0.5, -0.5) * 4
EOS, MAX_TOKENS = 2, 64
CANCELLED = 1e3
"""A bound of so many honest norms: the group's better and worse rollouts are the same."""


@dataclass(frozen=True, slots=True)
class Lied:
    """One group, the lies that its worker could tell, and what a trainer makes of them."""

    lease: Lease
    group: tuple[Rollout, ...]
    policy: Policy
    microbatch: Microbatch
    truth: Truth
    used: float
    """Nats of the gap's budget that honest claims take, since a verifier's engine rounds otherwise."""
    budget: float

    def lie(self, budget: float) -> Floats:
        """Claim surprisals that give the worse half's tokens weight, and take it from the better's.

        The tokens that are worth most for their price first: they are the least likely ones. Never so
        much that a sequence leaves the band.
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

    def passing(self) -> Floats:
        """Return the lie that a verifier is certain to let pass, whatever its own rounding."""
        return self.lie(self.budget - 2 * self.used)

    def rollouts(self, claims: Floats) -> tuple[Rollout, ...]:
        """Return the group with these surprisals claimed."""
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
        tokens, _ = without_outliers(tokens, BAND)
        grpo(tokens, CLIP, Whole(len(claims), found.num_sequences, MAX_TOKENS)).backward()
        return gradient_of(self.policy)

    def bound(self, budget: float | None = None) -> float:
        """Return the bound on the change, in `sizes_N`'s units times the number of tokens."""
        spent = self.budget if budget is None else budget
        return most_distortion(self.truth, budget=spent, clip=CLIP, band=BAND)

    def moved_weight(self, claims: Floats) -> float:
        """Return Σ sizes × the change of the tokens' weights."""
        truth = self.truth
        told, true = (
            weights(np.exp(truth.logprobs_N + c), truth.advantages_N, CLIP)
            for c in (claims, truth.surprisals_N)
        )
        return float((truth.sizes_N * np.abs(told - true)).sum())


def gradient_of(policy: Policy) -> Tensor:
    """Take the gradients that were collected, as one vector."""
    policy.collect_gradients()
    masters = [master for master in policy.masters.values() if master.grad is not None]
    found = torch.cat([m.grad.flatten() for m in masters if m.grad is not None])
    for master in masters:
        master.grad = None
    return found


def open_trained(model: Path = MODEL) -> Policy:
    """Return the policy under training: the one that sampled, in float32."""
    return open_policy(
        model,
        device="cpu",
        compute_dtype=ComputeDtype.FLOAT32,
        temperature=1.0,
        logits_chunk=1 << 20,
    )[0]


def lied(
    lease: Lease,
    group: tuple[Rollout, ...],
    *,
    policy: Policy,
    verifier: ReplayModel,
    thresholds: Thresholds,
    by_gradient: bool,
) -> Lied:
    """Measure what lies about an honest group may cost, and what they are worth."""
    honest = stats_of(verifier.findings([(lease, group)])[0])
    completions = tuple(
        BatchRollout(r.token_ids().astype(np.int64), r.worker_logprobs(), a, False, i)
        for i, (r, a) in enumerate(zip(group, ADVANTAGES, strict=True))
    )
    whole = Group(
        bytes(32), lease.lease_id, 0, np.asarray(lease.prompt), completions, (0,) * len(group)
    )
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
    used = honest.total(Statistic.GAP) / NANO
    # Prices are against honest claims, the verifier's against its own: at most `used` apart.
    budget = gap_budget(thresholds, honest.num_tokens) + used
    return Lied(lease, group, policy, microbatch, truth, used, budget)


@dataclass(frozen=True, slots=True)
class Row:
    """One group's figures. Gradients are in norms of its honest one, weight in parts of its own."""

    tokens: int
    lies: int
    moved: float
    bound: float
    bound_without_replay: float
    weight_moved: float
    weight_bound: float


def row_of(found: Lied, by_weight: Lied) -> Row:
    """Tell the worst lie that passes, and measure it."""
    claims, count = found.passing(), len(found.truth.surprisals_N)
    honest = found.gradient(found.truth.surprisals_N)
    unit, weight = float(honest.norm()), float(by_weight.truth.sizes_N.sum())
    return Row(
        tokens=count,
        lies=int((claims != found.truth.surprisals_N).sum()),
        moved=float((found.gradient(claims) - honest).norm()) / unit,
        bound=found.bound() / count / unit,
        bound_without_replay=found.bound(1e9) / count / unit,
        weight_moved=by_weight.moved_weight(claims) / weight,
        weight_bound=by_weight.bound() / weight,
    )


def sampled(engine: Engine, leases: Sequence[Lease]) -> list[tuple[Rollout, ...]]:
    """Sample every lease honestly."""
    asked = [requests_of(lease, eos_token_ids=(EOS,)) for lease in leases]
    done = iter(engine.generate([request for requests in asked for request in requests]))
    return [finish_group(lease, [next(done) for _ in lease.seeds]) for lease in leases]


def measure(num_groups: int) -> list[Row]:
    """Return a row for each of the first groups that the demo's workload leases."""
    torch.set_num_threads(1)
    workload = workload_of(
        MODEL, Arithmetic({}), num_groups=num_groups, group_size=8, max_tokens=MAX_TOKENS
    )
    engine = open_engine("transformers", MODEL, max_model_len=128)
    thresholds = Thresholds.from_json((MODEL / "thresholds.json").read_bytes())
    leases = list(workload.leases(salt=0))[:num_groups]
    policy, verifier, rows = open_trained(), ReplayModel(MODEL), []
    for lease, group in zip(leases, sampled(engine, leases), strict=True):
        both = [
            lied(
                lease,
                group,
                policy=policy,
                verifier=verifier,
                thresholds=thresholds,
                by_gradient=by_gradient,
            )
            for by_gradient in (True, False)
        ]
        rows.append(row_of(*both))
    return [row for row in rows if row.bound < CANCELLED]


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("build/bench/claims.json"))
    options = parser.parse_args()
    rows = measure(options.groups)
    names = list(Row.__dataclass_fields__)
    print("| " + " | ".join(name.replace("_", " ") for name in names) + " |")
    print("|" + "---|" * len(names))
    for row in [*rows, None]:
        values = [
            median(float(getattr(one, name)) for one in rows) if row is None else getattr(row, name)
            for name in names
        ]
        cells = [f"{value:.2f}" if isinstance(value, float) else str(value) for value in values]
        print(("| median: " if row is None else "| ") + " | ".join(cells) + " |")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    body = [{name: getattr(row, name) for name in names} for row in rows]
    options.out.write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    main()
