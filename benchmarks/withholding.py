"""How many groups a worker that keeps poor ones back finishes until it is found, and how often an honest
one is taken for it.

Simulated: under each policy version the worker leases 10 groups of 8 rollouts, others 22; every rollout
is right with probability one half. That is where the mean of a group says least (tasks that are all easy
or all hard are worth more to keep back, and tell more). The worker drops the poorest part of its leases of
each version; of the others' leases a part is missing, and counts against finding anything.

    python -m benchmarks.withholding [--seed 0] [--markets 41] [--honest 20000]
"""

import argparse
import math

import numpy as np
from numpy.typing import NDArray

from protocol.environments.base import FULL_SCORE
from protocol.withholding import (
    NUM_GROUPS_PER_LOOK,
    NUM_VERSIONS,
    Case,
    Stratum,
    Tally,
    evidence_of,
    is_withholding,
)

GROUP_SIZE, NUM_OWN, NUM_OTHERS = 8, 10, 22
MOST_GROUPS = 4096
SHARES = (0.5, 0.3, 0.2, 0.1)
MISSING = (0.0, 0.05, 0.2)
Rewards = NDArray[np.int64]


def tally(num_leased: int, rewards: Rewards) -> Tally:
    """Return what the orchestrator would have counted."""
    return Tally(
        num_leased=num_leased,
        num_finished=len(rewards),
        reward_sum=int(rewards.sum()),
        reward_squares=int((rewards * rewards).sum()),
    )


def drawn(chance: np.random.Generator, count: int) -> Rewards:
    return chance.binomial(GROUP_SIZE, 0.5, count) * FULL_SCORE // GROUP_SIZE


def version_of(
    chance: np.random.Generator, version: int, *, withheld: float, crashed: float, missing: float
) -> Stratum:
    """Return one version's groups; `withheld`, `crashed` and `missing` are shares of leases."""
    own = np.sort(drawn(chance, NUM_OWN))[chance.binomial(NUM_OWN, withheld) :]
    own = own[chance.random(len(own)) >= crashed]
    others = drawn(chance, NUM_OTHERS)
    others = others[chance.random(NUM_OTHERS) >= missing]
    return Stratum(version=version, own=tally(NUM_OWN, own), others=tally(NUM_OTHERS, others))


def groups_until_found(chance: np.random.Generator, *, withheld: float, missing: float) -> float:
    """Return how many groups were finished at the look that found the worker; infinite for none."""
    strata: list[Stratum] = []
    finished = looks = 0
    while finished < MOST_GROUPS:
        made = version_of(chance, len(strata), withheld=withheld, crashed=0.0, missing=missing)
        strata.append(made)
        finished += made.own.num_finished
        if finished // NUM_GROUPS_PER_LOOK == looks:
            continue
        looks = finished // NUM_GROUPS_PER_LOOK
        case = Case(
            run_id=1,
            worker="0x" + 40 * "1",
            look=looks,
            alarms_per_million=1,
            strata=tuple(strata[-NUM_VERSIONS:]),
        )
        if is_withholding(case):
            return finished
    return math.inf


def honest_alarms(chance: np.random.Generator, count: int, rates: tuple[float, ...]) -> list[int]:
    """Return how many honest workers, a fifth of whose leases crash, one look takes for withholders."""
    found = [0] * len(rates)
    for _ in range(count):
        strata = [version_of(chance, n, withheld=0.0, crashed=0.2, missing=0.0) for n in range(16)]
        log_probability = evidence_of(strata).log_probability
        for i, rate in enumerate(rates):
            found[i] += log_probability < math.log(rate / 2)
    return found


def shown(groups: list[float]) -> str:
    median, late = (float(np.quantile(groups, q, method="higher")) for q in (0.5, 0.95))
    return " / ".join("–" if math.isinf(value) else f"{value:,.0f}" for value in (median, late))


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--markets", type=int, default=41)
    parser.add_argument("--honest", type=int, default=20_000)
    arguments = parser.parse_args()
    chance = np.random.default_rng(arguments.seed)
    print("Finished groups until found, median / 95th percentile (– : not within 4,096)\n")
    print("| kept back | " + " | ".join(f"{m:.0%} of others' missing" for m in MISSING) + " |")
    print("|---|" + "---|" * len(MISSING))
    for share in SHARES:
        cells = [
            shown(
                [
                    groups_until_found(chance, withheld=share, missing=missing)
                    for _ in range(arguments.markets)
                ]
            )
            for missing in MISSING
        ]
        print(f"| the poorest {share:.0%} | " + " | ".join(cells) + " |")
    rates = (0.1, 0.01, 0.001)
    alarms = honest_alarms(chance, arguments.honest, rates)
    print(f"\nHonest workers taken for withholders at one look, of {arguments.honest:,}\n")
    for rate, count in zip(rates, alarms, strict=True):
        print(f"- allowed {rate:g}: {count} ({count / arguments.honest:g})")


if __name__ == "__main__":
    main()
