"""Ask what was done to condemned groups, as a verifier asks, and say what its answers come to.

The hypotheses are replayed on transformers whichever engine replayed first, as verifiers do. Left out:
which hypothesis is right (`cheats`), and shares of groups (`figures`).
"""

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.attacks.bench import Policies
from benchmarks.attacks.cheats import Attack
from benchmarks.attacks.record import Names, from_rows, rows_of
from protocol.checks.evidence import Consequence, consequence
from protocol.policies.manifest import Weights
from protocol.rollout import Lease, Rollout
from protocol.verdict import NOTHING_MEASURED, Outcome, ReplayStats, Thresholds, Verdict
from rollout_worker.replay.hypotheses import Suspect, name
from rollout_worker.replay.measure import ReplayModel

Condemned = tuple[Lease, tuple[Rollout, ...], ReplayStats]


def named(
    model: ReplayModel,
    policies: Policies,
    attack: Attack,
    condemned: Sequence[Condemned],
    thresholds: Thresholds,
) -> Names:
    """Name what was done to each group, from all of its rollouts."""
    leased = policies.named(attack.leased)

    def older() -> Iterator[tuple[int, Weights]]:
        if attack.leased == "later":
            yield 0, policies.named("exact")

    found = [
        name(
            Suspect(lease, rollouts, tuple(range(len(rollouts))), leased, stats),
            model,
            older,
            thresholds,
        )
        for lease, rollouts, stats in condemned
    ]
    return Names(
        np.array([one.word if one else "" for one in found], dtype=np.str_),
        rows_of([stats for *_, stats in condemned]),
        rows_of([one.explained if one else NOTHING_MEASURED for one in found]),
    )


def claiming_the_right(
    model: ReplayModel, leased: Weights, condemned: Sequence[Condemned]
) -> list[Condemned]:
    """Return the groups with the log-probabilities that the leased weights give their tokens."""
    model.load(leased)
    found = model.findings([(lease, rollouts) for lease, rollouts, _ in condemned])
    return [
        (
            lease,
            tuple(Rollout.of(seen.claimed, -seen.surprisals) for seen in of_one),
            stats,
        )
        for (lease, _, stats), of_one in zip(condemned, found, strict=True)
    ]


def consequences(names: Names, thresholds: Thresholds) -> list[Consequence]:
    """Return what follows for each group, by the figures that its verdict would sign."""
    stats, explained = from_rows(names.stats_CS), from_rows(names.explained_CS)
    return [
        consequence(
            # The rest of a verdict says whose it is.
            Verdict.model_construct(
                outcome=Outcome.REJECTED, hypothesis=hypothesis, stats=mine, explained=its
            ),
            thresholds,
        )
        for hypothesis, mine, its in zip(names.names_C.tolist(), stats, explained, strict=True)
    ]
