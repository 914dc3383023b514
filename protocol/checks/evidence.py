"""How strong a rejected group's evidence is, what explains it, and what follows from it.

Pure. A group outside its bounds is not paid; nothing else follows from one group, because a machine may
fail honestly. Stake is taken only if the evidence is beyond what any honest machine does:

- *gross*: under the honest law the group's tokens are less likely than 10^-12, in two groups of the worker;
- *named*: a hypothesis about what was done explains the group better than the honest law by 10^9, and the
  group is no gross evidence against the hypothesis, because neither of two impossible ones is true.

Either takes m verifiers' own replays (`draw.votes_that_condemn`).

Evidence is counted so that a machine that fails honestly cannot reach it:

- *Tokens.* Each token that is not the seeded winner counts as one, however far it lost. Their number in a group
  is Poisson at the higher of the bounds' reference rate and `FAULT_RATE`. If λ are expected, k of them have at
  most the probability e^(k − λ) (λ/k)^k (Chernoff). One bit that flipped is one token.
- *Claims.* Log-probabilities are only claimed: the trainer recomputes them, and an engine that reports
  `logit − logsumexp` in float32 is outside the bounds without having cheated. So they count only for a named
  hypothesis: weights that explain every claim to within the honest bounds were the ones served. A gap of x
  times what honest work stays below has probability r^x, where r is the share of honest groups above it
  (Pickands 1975; `calibration.py`).

Left out: which hypotheses are tried, and how (`rollout_worker/replay/hypotheses.py`).
"""

import math
from enum import StrEnum

from protocol.constants import MICRO, NANO
from protocol.verdict import Outcome, ReplayStats, Statistic, Thresholds, Verdict

GROSS_DECADES = 12.0
"""Orders of magnitude: one of a million million honest groups looks like this."""
NAMED_DECADES = 9.0
"""Orders by which a hypothesis must beat the honest law; some 40 are tried, which costs 1.6 of them."""
FAULT_RATE = 1e-5
"""The largest share of a machine's tokens that come out wrong without its owner's doing: a bit flips, a
kernel fails. Such a machine's groups are not paid, and its stake is safe."""


class Hypothesis(StrEnum):
    """What a worker may have done instead of sampling as leased."""

    UNSEEDED = "unseeded"
    """No seed of the lease draws these tokens, though the log-probabilities are the policy's: they came
    from other seeds, from another model, or were written."""
    SIBLING_SEED = "sibling_seed"
    """Seeds of other rollouts of the lease drew them: in another order, or one seed for all."""
    OLDER_VERSION = "older_version"
    INT8 = "int8"
    INT4 = "int4"
    FP8_CACHE = "fp8_cache"
    TEMPERATURE = "temperature"
    TOP_P = "top_p"


class Consequence(StrEnum):
    """What follows from one verifier's verdict, if enough others find the same."""

    NONE = "none"
    UNPAID = "unpaid"
    GROSS = "gross"
    """Unpaid, and with another such group exclusion and stake."""
    NAMED = "named"
    """Unpaid, exclusion and stake."""


def token_decades(stats: ReplayStats, thresholds: Thresholds) -> float:
    """Return −log10 of the probability that honest work loses so many tokens."""
    rate = max(FAULT_RATE, thresholds.mismatches.reference / MICRO)
    expected, found = rate * stats.num_tokens, stats.num_wrong
    if found <= expected:
        return 0.0
    return (expected - found + found * math.log(found / expected)) / math.log(10)


def decades(stats: ReplayStats, thresholds: Thresholds) -> float:
    """Return how unlikely these figures are for honest work, by its tokens or by its claims."""
    gap, rate = thresholds.gap, thresholds.false_rejects_per_million_groups / MICRO / len(Statistic)
    most = gap.reference * stats.num_tokens + gap.group
    by_claims = stats.gap_nanonats / most if stats.gap_nanonats > most else 0.0
    return max(token_decades(stats, thresholds), -by_claims * math.log10(rate))


def lead(verdict: Verdict, thresholds: Thresholds) -> float:
    """Return how many decades likelier a verdict's hypothesis is than the honest law.

    Tokens that a hypothesis determines have probability 1 under it; tokens that no seed of the lease draws
    have the policy's.
    """
    if not verdict.hypothesis:
        return 0.0
    unseeded = verdict.hypothesis == Hypothesis.UNSEEDED
    chance = verdict.stats.surprisal_nanonats / NANO / math.log(10) if unseeded else 0.0
    explained = decades(verdict.explained, thresholds) + chance
    return decades(verdict.stats, thresholds) - explained


def consequence(verdict: Verdict, thresholds: Thresholds) -> Consequence:
    """Return what a verdict's own figures justify; they are signed, so anyone recomputes this."""
    if verdict.outcome is not Outcome.REJECTED:
        return Consequence.NONE
    covers = verdict.explained.num_tokens == verdict.stats.num_tokens  # of nothing all is explained
    explains = covers and decades(verdict.explained, thresholds) < GROSS_DECADES
    if explains and lead(verdict, thresholds) >= NAMED_DECADES:
        return Consequence.NAMED
    if token_decades(verdict.stats, thresholds) >= GROSS_DECADES:
        return Consequence.GROSS
    return Consequence.UNPAID
