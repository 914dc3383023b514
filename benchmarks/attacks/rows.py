"""One row of the table: everything that was measured of one attack on one pair of engines."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.attacks import figures, reliquary
from benchmarks.attacks.cheats import Attack
from benchmarks.attacks.figures import Area, Array, Delay
from benchmarks.attacks.lab import HANDED_IN, PREFILLED, Lab
from benchmarks.attacks.naming import consequences
from benchmarks.attacks.record import Names
from protocol.checks.evidence import Consequence, Hypothesis
from protocol.verdict import ReplayStats, Thresholds

NUM_SEQUENCES = 500
HORIZON = 3_000
AIMS = {HANDED_IN: 1, PREFILLED: 3}
"""Groups within which 95 % of cheating workers ought to be found out, by what is claimed."""
MOST_MOVED = 0.005
"""By how much near-tie forks may move the mean reward, of 1, before they are found."""
LEAST_NAMED = 0.95
"""Share of condemned groups whose name ought to be the right one."""
MOST_MISNAMED = 0.05
"""Share of condemned groups that may get a wrong name."""


@dataclass(frozen=True, slots=True)
class Naming:
    """What condemned groups were called, and what follows from one verdict of each."""

    count: int
    names: Mapping[str, float]
    """Shares, the commonest first; "" where no hypothesis explains a group."""
    consequences: Mapping[Consequence, float]


@dataclass(frozen=True, slots=True)
class Caught:
    """What replay makes of an attack: alone, in sequence, and per 300 tokens."""

    rejected: float
    """Share of groups that `judge` rejects one by one."""
    rejected_bound: float
    """95 % upper bound of that share."""
    rejected_differing: float | None
    """Share of the groups that differ from honest work; None where none does."""
    rejected_rollouts: float
    """Share of single rollouts that `judge` rejects: what a draw of one of a group goes by."""
    rejected_rollouts_differing: float | None
    """The same of the rollouts that differ from honest work."""
    sequential: Delay
    """Of the sequential test alone."""
    either: Delay
    """Of whichever of the two condemns first."""
    differing: Delay | None
    """The same of a worker all of whose groups differ."""
    area: Area
    crossed: float
    """Share of the sequences that cross within the horizon."""
    ended: Array
    """Tokens at which each sequence crossed, ∞ for never: the delay's distribution."""
    moved: float
    """By how much the mean reward of paid groups differs from honest work's until such a worker is found."""
    naming: Naming


@dataclass(frozen=True, slots=True)
class Row:
    """One attack on one pair of engines, as handed in and with the right log-probabilities."""

    attack: Attack
    sampler: str
    replayer: str
    num_groups: int
    num_tokens: int
    match: float
    mean_gap: float
    """Of all tokens as handed in, in nats (`Findings.gaps`)."""
    differs: float
    """Share of groups with a completion that honest work does not have."""
    moved: float
    """By how much the mean reward differs from honest work's, of 1."""
    moved_unpunished: float
    """The same if what `judge` rejects, with the right log-probabilities, had its honest rewards."""
    handed_in: Caught
    prefilled: Caught

    @property
    def caught(self) -> dict[str, Caught]:
        return {HANDED_IN: self.handed_in, PREFILLED: self.prefilled}

    def reached(self, claims: str) -> bool | None:
        """Whether 95 % of such workers are found out within the groups aimed at; None without an aim."""
        return self._within(claims, self.caught[claims].either)

    def reached_differing(self, claims: str) -> bool | None:
        """The same of workers all of whose groups differ."""
        return self._within(claims, self.caught[claims].differing)

    def named_right(self, claims: str) -> float | None:
        """Return the share of named groups whose name is the right one; None where there is none."""
        naming = self.caught[claims].naming
        if self.attack.named is None or not naming.count:
            return None
        return naming.names.get(self.attack.named.value, 0.0)

    def named_wrong(self, claims: str) -> float | None:
        """Return the share of named groups that got a wrong name; none at all is not wrong."""
        naming = self.caught[claims].naming
        if not naming.count:
            return None
        # Where no name is right it is true, after a prefill, that no seed drew the tokens.
        right = self.attack.named or Hypothesis.UNSEEDED
        return sum(share for name, share in naming.names.items() if name not in ("", right))

    def _within(self, claims: str, delay: Delay | None) -> bool | None:
        if not self.attack.has_aims or delay is None:
            return None
        return delay.p95_groups is not None and delay.p95_groups <= AIMS[claims]


@dataclass(frozen=True, slots=True)
class Peer:
    """One attack as commitments to activations see it, where the cheat does not prefill again, and as
    Reliquary's rule sees it among workers who sample by that rule."""

    attack: Attack
    toploc_rejected: float
    toploc: Area
    grail_rejected: float
    grail: Area
    zero_passes: float
    """Share of groups in which a constant zero passes GRAIL's tolerance at every position."""
    largest_sketch: int
    reliquary: "Floors | None"


@dataclass(frozen=True, slots=True)
class Floors:
    """What Reliquary's rule makes of an attack. None of it depends on claimed log-probabilities."""

    rejected: float
    """Share of groups."""
    rejected_with_gate: float
    matched: float
    """Share of the tokens that count."""


def rows(lab: Lab, sampler: str, replayer: str) -> list[Row]:
    """Return a row for each attack that the sampler can make."""
    thresholds = lab.thresholds(sampler, replayer)
    every = lab.of(sampler)
    named = {attack.name: attack for attack in every}
    found = []
    for attack in every:
        control = named.get("honest-later" if attack.leased == "later" else "honest", every[0])
        sampled, honest = lab.sampled(sampler, attack), lab.sampled(sampler, control)
        seen = lab.replayed(sampler, replayer, attack)
        own = lab.replayed(sampler, replayer, control)
        stats, of_rollouts = seen.stats(), seen.of_rollouts()
        gained_G = (lab.rewards(sampler, attack) - lab.rewards(sampler, control)).mean(axis=1)
        differs_GR = sampled.differs_from(honest)
        handed_in, prefilled = (
            _caught(
                claimed(stats),
                claimed(of_rollouts),
                thresholds,
                area=figures.replay_area(own, seen, with_gap=claims == HANDED_IN, seed=lab.seed),
                differs_GR=differs_GR,
                gained_G=gained_G,
                naming=_naming(lab.names(sampler, replayer, attack, claims), thresholds),
                seed=lab.seed,
            )
            for claims, claimed in ((HANDED_IN, list), (PREFILLED, figures.without_gap))
        )
        num_tokens = sum(group.num_tokens for group in stats)
        passes_G = ~figures.rejected(figures.without_gap(stats), thresholds)
        found.append(
            Row(
                attack,
                sampler,
                replayer,
                num_groups=len(stats),
                num_tokens=num_tokens,
                match=sum(group.num_matched for group in stats) / num_tokens,
                mean_gap=float(seen.gaps_N.mean()),
                differs=float(differs_GR.any(axis=1).mean()),
                moved=float(gained_G.mean()),
                moved_unpunished=float((gained_G * passes_G).mean()),
                handed_in=handed_in,
                prefilled=prefilled,
            )
        )
    return found


def peers(lab: Lab) -> list[Peer]:
    """Return a row for each attack whose activations were compared."""
    every = lab.of("transformers")
    honest = {name: lab.compared(_named(every, name)) for name in ("honest", "honest-later")}
    found = []
    for attack in every:
        seen = lab.compared(attack)
        own = honest["honest-later" if attack.leased == "later" else "honest"]
        found.append(
            Peer(
                attack,
                toploc_rejected=float(figures.toploc_rejects(seen).mean()),
                toploc=figures.toploc_area(own, seen, seed=lab.seed),
                grail_rejected=float(figures.grail_rejects(seen, seen.sketch_N).mean()),
                grail=figures.grail_area(own, seen, seed=lab.seed),
                zero_passes=float(1 - figures.grail_rejects(seen, seen.zero_N).mean()),
                largest_sketch=int(seen.zero_N.max()),
                reliquary=_floors(lab, attack),
            )
        )
    return found


def _floors(lab: Lab, attack: Attack) -> Floors | None:
    if reliquary.NAME not in attack.engines:
        return None
    seen = lab.drawn(attack)
    return Floors(
        rejected=float(reliquary.rejects(seen, has_gate=False).mean()),
        rejected_with_gate=float(reliquary.rejects(seen, has_gate=True).mean()),
        matched=reliquary.matched(seen),
    )


def _named(every: Sequence[Attack], name: str) -> Attack:
    return next((attack for attack in every if attack.name == name), every[0])


def _caught(
    stats: Sequence[ReplayStats],
    of_rollouts: Sequence[ReplayStats],
    thresholds: Thresholds,
    *,
    area: Area,
    differs_GR: NDArray[np.bool_],
    gained_G: Array,
    naming: Naming,
    seed: int,
) -> Caught:
    alone_G, differs_G = figures.rejected(stats, thresholds), differs_GR.sum(axis=1) > 0
    singly = figures.rejected(of_rollouts, thresholds)
    drawn = figures.sequences(stats, thresholds, count=NUM_SEQUENCES, horizon=HORIZON, seed=seed)
    differing = [stats[i] for i in np.flatnonzero(differs_G)]
    crossed = drawn.crossed_C
    at = drawn.tokens_CT[np.arange(len(crossed)), np.maximum(crossed, 1) - 1]
    return Caught(
        rejected=float(alone_G.mean()),
        rejected_bound=figures.upper_bound(int(alone_G.sum()), len(alone_G)),
        rejected_differing=float(alone_G[differs_G].mean()) if differing else None,
        rejected_rollouts=float(singly.mean()),
        rejected_rollouts_differing=(
            float(singly[differs_GR.ravel()].mean()) if differing else None
        ),
        sequential=figures.delay(crossed, drawn.tokens_CT),
        either=figures.delay(drawn.condemned_C, drawn.tokens_CT),
        differing=_delay_of(differing, thresholds, seed=seed) if differing else None,
        area=area,
        crossed=float((crossed > 0).mean()),
        ended=np.where(crossed > 0, at, np.inf),
        moved=figures.moved_until(gained_G * ~alone_G, drawn),
        naming=naming,
    )


def _delay_of(stats: Sequence[ReplayStats], thresholds: Thresholds, *, seed: int) -> Delay:
    drawn = figures.sequences(stats, thresholds, count=NUM_SEQUENCES, horizon=HORIZON, seed=seed)
    return figures.delay(drawn.condemned_C, drawn.tokens_CT)


def _naming(names: Names, thresholds: Thresholds) -> Naming:
    count = len(names.names_C)

    def shares(found: Sequence[str]) -> dict[str, float]:
        return {name: times / count for name, times in Counter(found).most_common()}

    follows = {Consequence(k): v for k, v in shares(consequences(names, thresholds)).items()}
    return Naming(count, shares(names.names_C.tolist()), follows)
