"""One row of the table: everything that was measured of one attack on one pair of engines."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.attacks import figures, reliquary
from benchmarks.attacks.cheats import Attack
from benchmarks.attacks.figures import Area, Array, Delay
from benchmarks.attacks.lab import Lab
from protocol.verdict import ReplayStats, Thresholds

NUM_SEQUENCES = 500
HORIZON = 3_000


@dataclass(frozen=True, slots=True)
class Caught:
    """What replay makes of an attack: alone, in sequence, and per 300 tokens."""

    rejected: float
    """Share of groups that `judge` rejects one by one."""
    rejected_bound: float
    """95 % upper bound of that share."""
    sequential: Delay
    """Of the sequential test alone."""
    either: Delay
    """Of whichever of the two condemns first."""
    area: Area
    crossed: float
    """Share of the sequences that cross within the horizon."""
    ended: Array
    """Tokens at which each sequence crossed, ∞ for never: the delay's distribution."""


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

    def reached(self, caught: Caught) -> bool | None:
        """Whether 95 % of cheats are condemned within the groups aimed at; None without an aim."""
        if not self.attack.aim:
            return None
        within = caught.either.p95_groups
        return within is not None and within <= self.attack.aim


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
        stats = seen.stats()
        variants = ((stats, True), (figures.without_gap(stats), False))
        handed_in, prefilled = (
            _caught(
                variant,
                thresholds,
                figures.replay_area(own, seen, with_gap=with_gap, seed=lab.seed),
                seed=lab.seed,
            )
            for variant, with_gap in variants
        )
        num_tokens = sum(group.num_tokens for group in stats)
        gained_G = (lab.rewards(sampler, attack) - lab.rewards(sampler, control)).mean(axis=1)
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
                differs=float((sampled.differs_from(honest) > 0).mean()),
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
    stats: Sequence[ReplayStats], thresholds: Thresholds, area: Area, *, seed: int
) -> Caught:
    alone = figures.rejected(stats, thresholds)
    crossed, condemned, tokens = figures.sequences(
        stats, thresholds, count=NUM_SEQUENCES, horizon=HORIZON, seed=seed
    )
    at = tokens[np.arange(len(crossed)), np.maximum(crossed, 1) - 1]
    return Caught(
        rejected=float(alone.mean()),
        rejected_bound=figures.upper_bound(int(alone.sum()), len(alone)),
        sequential=figures.delay(crossed, tokens),
        either=figures.delay(condemned, tokens),
        area=area,
        crossed=float((crossed > 0).mean()),
        ended=np.where(crossed > 0, at, np.inf),
    )
