"""Whether a worker keeps groups back because of their worth: its drops against its rewards.

A lease fixes task and seeds, so its group has one reward before anyone samples it, and over leases of one
policy version rewards are drawn alike for everybody. A worker whose drops have nothing to do with rewards
(crashes, returned leases) finishes a random part of its leases. One that samples everything and drops the
poor groups moves its finished groups' mean away from everybody's, and so biases the training.

The test. Per policy version, pool the worker's finished groups with all leases of the others, and ask how
probable it is that a random part of that pool is as good. Others' missing leases count as the best possible
(C. F. Manski, American Economic Review 80, 1990), so nobody can make an honest worker look too good by
keeping good groups back themselves. Over all versions, with excess T, variance V of the drawn
parts and b the most that one group can exceed its pool's mean,

    P(excess ≥ T) ≤ exp(−T² / (2 (V + b T / 3)))

which is Bernstein's inequality, and holds for draws without replacement (W. Hoeffding, Journal of the
American Statistical Association 58, 1963, theorem 4): no simulation, no normal approximation. Both
directions are asked. The k-th look at a worker may spend 1 / (k (k + 1)) of its false-alarm rate, so the
sum over all looks stays within it, however long the run.

It cannot see: drops by anything but reward; a worker whose drops are fewer than the others' missing leases
excuse; a run in which most work is withheld, because the others are the measure; a run of one worker. It
mistakes for withholding: a machine that fails only on long answers, if long answers are poor.

Pure. Rewards are ten-thousandths, a group's is the mean of its rollouts' (rounded down).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from protocol.environments.base import FULL_SCORE
from protocol.wire import U32, U63, Address, AsTuple, Wire

NUM_GROUPS_PER_LOOK = 64
"""Finished groups between two looks at a worker. Closer looks each spend a part of the false-alarm rate
and find nothing sooner: 64 groups move the exponent by about 3 if 30 % are withheld. Also written in
`orchestrator/store/lua/standing.lua`."""

NUM_VERSIONS = 512
"""How many policy versions a look goes back, so that a worker that begins to withhold cannot hide
forever behind its past."""

WITHHELD = "withheld_groups"
"""The reason of such an exclusion, as workers and events give it."""


class Tally(Wire):
    """Groups of one policy version: how many leases there were, what became of them and their rewards."""

    num_leased: U63
    num_finished: U63
    reward_sum: U63
    reward_squares: U63

    @property
    def num_missing(self) -> int:
        return self.num_leased - self.num_finished


class Stratum(Wire):
    """One policy version: the worker's own groups, and those of all others together."""

    version: U32
    own: Tally
    others: Tally


class Case(Wire):
    """All data that decides a look at one worker, kept so that anyone can decide it again."""

    run_id: U63
    worker: Address
    look: Annotated[int, Field(ge=1, lt=1 << 63)]
    """The number of looks at this worker, including this one."""
    alarms_per_million: U32
    strata: Annotated[tuple[Stratum, ...], AsTuple]


@dataclass(frozen=True, slots=True)
class Evidence:
    """How far a worker's finished groups stand out. `excess` and `expected` are sums of rewards of 1.

    Example: Evidence(num_finished=320, num_missing=137, excess=21.8, log_probability=-17.1)
    """

    num_finished: int
    num_missing: int
    excess: float
    """Positive if the finished groups are too good, negative if they are too poor."""
    log_probability: float
    """Natural logarithm of the highest probability of this if drops are unrelated to rewards."""


def evidence_of(strata: Sequence[Stratum]) -> Evidence:
    """Return the stronger of both directions. Versions without a missing group of the worker tell nothing."""
    telling = [s for s in strata if s.own.num_missing and s.own.num_finished]
    found = [_excess(telling, lost_reward) for lost_reward in (1.0, 0.0)]
    excess, log_probability = min(found, key=lambda pair: pair[1])
    return Evidence(
        num_finished=sum(s.own.num_finished for s in telling),
        num_missing=sum(s.own.num_missing for s in telling),
        excess=excess,
        log_probability=log_probability,
    )


def is_withholding(case: Case) -> Evidence | None:
    """Return the evidence if it is beyond chance at this look's part of the false-alarm rate."""
    if not case.alarms_per_million:
        return None
    evidence = evidence_of(case.strata)
    share = case.alarms_per_million / 1_000_000 / (case.look * (case.look + 1))
    # Half for each direction.
    return evidence if evidence.log_probability < math.log(share / 2) else None


def _excess(strata: Sequence[Stratum], lost_reward: float) -> tuple[float, float]:
    """Return one direction's signed excess and the bound on its probability.

    Others' missing groups count as `lost_reward`: 1 to ask whether the worker's are too good, 0 to ask
    whether they are too poor.
    """
    excess = variance = largest = 0.0
    for stratum in strata:
        mean, pool_variance = _pool(stratum, lost_reward)
        own = stratum.own
        excess += own.reward_sum / FULL_SCORE - own.num_finished * mean
        variance += own.num_finished * pool_variance
        largest = max(largest, mean if lost_reward == 0.0 else 1.0 - mean)
    toward = excess if lost_reward == 1.0 else -excess
    if toward <= 0.0:
        return excess, 0.0
    return excess, -(toward**2) / (2 * (variance + largest * toward / 3))


def _pool(stratum: Stratum, lost_reward: float) -> tuple[float, float]:
    """Return mean and variance of the worker's finished groups and all leases of the others."""
    own, others = stratum.own, stratum.others
    lost = others.num_missing
    count = own.num_finished + others.num_finished + lost
    total = (own.reward_sum + others.reward_sum) / FULL_SCORE + lost * lost_reward
    squares = (own.reward_squares + others.reward_squares) / FULL_SCORE**2 + lost * lost_reward
    mean = total / count
    return mean, max(0.0, squares / count - mean * mean)
