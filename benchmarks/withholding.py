"""How many groups a worker that keeps poor ones back finishes until it is found, and how often an honest
one is taken for it.

Simulated: under each policy version the worker leases 10 groups of 8 rollouts, others 22; every rollout
is right with probability one half. With `--model` the groups are drawn from as many that this model sampled
and its environment scored. The worker drops the poorest part of its leases of each version; of the others'
leases a part is missing, and counts against finding anything.

    python -m benchmarks.withholding [--seed 0] [--markets 41] [--honest 20000] [--model models/start]
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.model_folder import end_tokens
from protocol.checks.withholding import (
    NUM_GROUPS_PER_LOOK,
    NUM_VERSIONS,
    Case,
    Stratum,
    Tally,
    evidence_of,
    is_withholding,
)
from protocol.environments.arithmetic import Arithmetic
from protocol.environments.base import FULL_SCORE

NUM_SAMPLED, MOST_TOKENS = 512, 64
GROUP_SIZE, NUM_OWN, NUM_OTHERS = 8, 10, 22
MOST_GROUPS = 4096
SHARES = (0.5, 0.3, 0.2, 0.1)
MISSING = (0.0, 0.05, 0.2)
Rewards = NDArray[np.int64]
Source = Callable[[np.random.Generator, int], Rewards]


def tally(num_leased: int, rewards: Rewards) -> Tally:
    """Return what the orchestrator would have counted."""
    return Tally(
        num_leased=num_leased,
        num_finished=len(rewards),
        reward_sum=int(rewards.sum()),
        reward_squares=int((rewards * rewards).sum()),
    )


def coins(chance: np.random.Generator, count: int) -> Rewards:
    """Return mean rewards of groups whose rollouts are right half of the time."""
    return chance.binomial(GROUP_SIZE, 0.5, count) * FULL_SCORE // GROUP_SIZE


def sampled(model: Path) -> Source:
    """Return a source of groups that the model sampled for arithmetic tasks, each task once."""
    from orchestrator.rewards.child import Scorer
    from rollout_worker.engines.registry import open_engine
    from rollout_worker.generate import generate_groups
    from rollout_worker.replay.calibrate import workload_of

    made, eos = Arithmetic({}), end_tokens(model)
    learn = {"run_id": 0, "environment": made.name, "config": {}, "eos_token_ids": eos}
    scorer = Scorer()
    scorer.handle({"do": "learn", "tokenizer": (model / "tokenizer.json").read_text(), **learn})
    work = workload_of(
        model, made, num_groups=NUM_SAMPLED, group_size=GROUP_SIZE, max_tokens=MOST_TOKENS
    )
    leases, found = list(work.leases(salt=0)), []
    engine = open_engine("transformers", model, max_model_len=2 * MOST_TOKENS)
    for start in range(0, NUM_SAMPLED, 64):
        part = leases[start : start + 64]
        groups = generate_groups(engine, part, eos_token_ids=eos)
        jobs = [
            (0, lease.index, [rollout.tokens for rollout in group])
            for lease, group in zip(part, groups, strict=True)
        ]
        rewards = scorer.handle({"do": "score", "groups": jobs})
        found += [sum(of) // GROUP_SIZE for of in rewards if of is not None]
    engine.close()
    pool = np.array(found)
    mean, spread = pool.mean() / FULL_SCORE, pool.std() / FULL_SCORE
    print(f"{len(pool)} groups of {model}: mean {mean:.3f}, standard deviation {spread:.3f}\n")
    return lambda chance, count: chance.choice(pool, count)


def version_of(
    chance: np.random.Generator,
    source: Source,
    version: int,
    *,
    withheld: float,
    crashed: float,
    missing: float,
) -> Stratum:
    """Return one version's groups; `withheld`, `crashed` and `missing` are shares of leases."""
    own = np.sort(source(chance, NUM_OWN))[chance.binomial(NUM_OWN, withheld) :]
    own = own[chance.random(len(own)) >= crashed]
    others = source(chance, NUM_OTHERS)
    others = others[chance.random(NUM_OTHERS) >= missing]
    return Stratum(version=version, own=tally(NUM_OWN, own), others=tally(NUM_OTHERS, others))


def groups_until_found(
    chance: np.random.Generator, source: Source, *, withheld: float, missing: float
) -> float:
    """Return how many groups were finished at the look that found the worker; infinite for none."""
    strata: list[Stratum] = []
    finished = looks = 0
    while finished < MOST_GROUPS:
        made = version_of(
            *(chance, source, len(strata)), withheld=withheld, crashed=0.0, missing=missing
        )
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


def honest_alarms(
    chance: np.random.Generator, source: Source, count: int, rates: tuple[float, ...]
) -> list[int]:
    """Return how many honest workers, a fifth of whose leases crash, one look takes for withholders."""
    found = [0] * len(rates)
    for _ in range(count):
        strata = [
            version_of(chance, source, n, withheld=0.0, crashed=0.2, missing=0.0) for n in range(16)
        ]
        log_probability = evidence_of(strata).log_probability
        for i, rate in enumerate(rates):
            found[i] += log_probability < math.log(rate / 2)
    return found


def shown(quantiles: list[float]) -> str:
    return " / ".join("–" if math.isinf(value) else f"{value:,.0f}" for value in quantiles)


def quantiles_of(groups: list[float]) -> list[float]:
    """Return median and 95th percentile."""
    return [float(np.quantile(groups, q, method="higher")) for q in (0.5, 0.95)]


def main() -> None:
    """Print both tables and write their figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--markets", type=int, default=41)
    parser.add_argument("--honest", type=int, default=20_000)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path("build/bench/withholding.json"))
    arguments = parser.parse_args()
    source = sampled(arguments.model) if arguments.model else coins
    chance = np.random.default_rng(arguments.seed)
    print("Finished groups until found, median / 95th percentile (– : not within 4,096)\n")
    print("| kept back | " + " | ".join(f"{m:.0%} of others' missing" for m in MISSING) + " |")
    print("|---|" + "---|" * len(MISSING))
    until_found: list[dict[str, float | None]] = []
    for share in SHARES:
        cells = []
        for missing in MISSING:
            groups = [
                groups_until_found(chance, source, withheld=share, missing=missing)
                for _ in range(arguments.markets)
            ]
            cells.append(shown(quantiles_of(groups)))
            median, late = (None if math.isinf(q) else q for q in quantiles_of(groups))
            until_found.append(
                {"withheld": share, "missing": missing, "median": median, "p95": late}
            )
        print(f"| the poorest {share:.0%} | " + " | ".join(cells) + " |", flush=True)
    rates = (0.1, 0.01, 0.001)
    alarms = honest_alarms(chance, source, arguments.honest, rates)
    print(f"\nHonest workers taken for withholders at one look, of {arguments.honest:,}\n")
    for rate, count in zip(rates, alarms, strict=True):
        print(f"- allowed {rate:g}: {count} ({count / arguments.honest:g})")
    found = dict(zip(map(str, rates), alarms, strict=True))
    body = {"until_found": until_found, "honest": arguments.honest, "alarms_by_rate": found}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    main()
