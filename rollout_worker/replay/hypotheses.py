"""Find out what was done to a group that its replay rejects: replay it under named alternatives.

A hypothesis explains a group whose replay under it is within the honest bounds. A cheat may have claimed its own
log-probabilities or recomputed the right ones, so the gap under a hypothesis is the smaller of the two. Tokens are
bound to their seeds, log-probabilities are only said.

A name may cost a stake, so a wrong one is worse than none. It is given to the only kind of hypothesis that
explains the group, if neither honest work nor draws by other seeds look like it once in a thousand times
(`CLEAR_DECADES`). After a prefill a group often differs by one token, which a nucleus, a colder temperature and
int8 explain alike: then what may have been done is told in words, and what follows is what the evidence is worth
without a name (`protocol.checks.evidence`).

Cost: the group is prefilled twice, for 20 contests under other nuclei and seeds and 15 under other temperatures, then
once for each rounding, fp8 and every older version, which must be fetched; at last, if none of the temperatures
explains it, 54 contests for those between. The second kind that explains ends it, and so does the first that gives
claims which are not the leased policy's.

Left out: models other than the run's, and quantisations other than symmetric rounding per row; their groups
are gross evidence without a name.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from protocol.checks.evidence import GROSS_DECADES, Hypothesis, decades
from protocol.policies.manifest import Weights
from protocol.rollout import Lease, Rollout
from protocol.verdict import NOTHING_MEASURED, ReplayStats, Thresholds, judge
from rollout_worker.engines.rounded import rounded
from rollout_worker.replay.measure import Findings, ReplayModel, Variant, only, stats_of

TEMPERATURES = (0.0001, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99, 1.01, 1.03, 1.05, 1.1, 1.2, 1.5)
"""Times the leased one; the first is as good as greedy."""
NUCLEI = (0.99, 0.98, 0.95, 0.9, 0.8)
"""From the faintest."""

CLEAR_DECADES = 3.0
"""By which a name must be likelier than whatever else the group may be. Some 40 alternatives are tried, so that
one in a thousand each makes at most 4 % of names wrong. One lost token is 1.8 decades, two are 3.9."""
REFINEMENTS = 6
"""Times the range around the best temperature is cut to a quarter: 0.1 to 0.00002."""
OLDER_VERSIONS = 8
"""Versions below the leased one that are tried, as many as may still be trained on."""

Older = Callable[[], Iterator[tuple[int, Weights]]]
"""Yields earlier policy versions with their weights, newest first, as far as they can be had."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """The rollouts that a replay rejected, with the exact weights that were leased."""

    lease: Lease
    """With the seeds of all the group's rollouts."""
    rollouts: tuple[Rollout, ...]
    chosen: tuple[int, ...]
    """Which of them were replayed."""
    weights: Weights
    stats: ReplayStats
    """As leased, over the chosen ones."""


@dataclass(frozen=True, slots=True)
class Named:
    """A hypothesis, and what a replay under it measured; or in words alone what may have been done.

    Example: Named(Hypothesis.TEMPERATURE, "temperature 0.9 instead of 1", stats)
    """

    hypothesis: Hypothesis | None
    detail: str
    explained: ReplayStats = NOTHING_MEASURED

    @property
    def word(self) -> str:
        """The hypothesis as a verdict names it; empty for none."""
        return self.hypothesis.value if self.hypothesis else ""


def name(
    suspect: Suspect, model: ReplayModel, older: Older, thresholds: Thresholds
) -> Named | None:
    """Return what was done: a hypothesis if one alone is clear, words if several may be, None if none is.

    None is clear for honest work. `model` may hold any weights before and holds others after.
    """
    if judge(suspect.stats, thresholds) is None:
        return None
    case = _Case.open(suspect, model, thresholds)
    # That no seed drew the tokens explains them, and no claims.
    unseeded = _unseeded(suspect)
    may_be_unseeded = case.explains(unseeded)
    tried: list[Named] = []
    explaining: dict[Hypothesis | None, Named] = {}
    for found in case.tried(older):
        tried.append(found)
        if case.explains(found):
            explaining.setdefault(found.hypothesis, found)
        if len(explaining) > 1:
            either = " or ".join(one.detail for one in explaining.values())
            return Named(None, f"perhaps {either}: the tokens do not tell them apart")
        if explaining and not may_be_unseeded:
            break  # what gives the very claims was served
    if not explaining and not may_be_unseeded:
        return case.nearest([*tried, *case.in_part])
    found, rivals = unseeded, [decades(suspect.stats, thresholds)]
    if explaining:
        [found] = explaining.values()
        rivals += [case.chance()] if may_be_unseeded else []
    if min(rivals) >= CLEAR_DECADES:
        return found
    return Named(None, f"perhaps {found.detail}: the tokens are too few to tell")


@dataclass(frozen=True, slots=True)
class _Case:
    """A suspect under replay.

    Every hypothesis is held against all of the rollouts, and kept in `in_part` with those as leased that are
    honest by themselves: who cheats in one of eight is named by that one, where nothing explains them all.
    """

    suspect: Suspect
    model: ReplayModel
    thresholds: Thresholds
    leased: Sequence[Findings]
    """As leased, one per chosen rollout."""
    is_honest: Sequence[bool]
    in_part: list[Named]

    @classmethod
    def open(cls, suspect: Suspect, model: ReplayModel, thresholds: Thresholds) -> "_Case":
        model.load(suspect.weights)
        [leased] = model.findings([only(suspect.lease, suspect.rollouts, suspect.chosen)])
        is_honest = [judge(stats_of([found]), thresholds) is None for found in leased]
        return cls(suspect, model, thresholds, leased, is_honest, [])

    def tried(self, older: Older) -> Iterator[Named]:
        """Yield every hypothesis with what it explains, the cheapest to try first."""
        suspect, model = self.suspect, self.model
        temperatures = [factor * suspect.lease.temperature for factor in TEMPERATURES]
        yield from self.other_draws()
        coarse = self.under([Variant(temperature=t) for t in temperatures])
        at = [self.at(t, found) for t, found in zip(temperatures, coarse, strict=True)]
        yield from at
        for bits, hypothesis in ((8, Hypothesis.INT8), (4, Hypothesis.INT4)):
            model.load(rounded(suspect.weights, bits=bits))
            yield self.named(hypothesis, f"weights rounded to int{bits}", self.as_leased())
        model.load(suspect.weights)
        with model.keeping_fp8():
            yield self.named(Hypothesis.FP8_CACHE, "keys and values kept in fp8", self.as_leased())
        for version, weights in older():
            model.load(weights)
            detail = f"version {version} instead of {suspect.lease.policy_version}"
            yield self.named(Hypothesis.OLDER_VERSION, detail, self.as_leased())
        if not any(map(self.explains, at)):
            model.load(suspect.weights)
            yield self.between(temperatures, coarse)

    def other_draws(self) -> Iterator[Named]:
        seeds = [*_rotations(self.suspect), *_one_for_all(self.suspect)]
        variants = [Variant(nucleus=p) for p in NUCLEI] + [Variant(seeds=s) for s in seeds]
        found = iter(self.under(variants))
        for nucleus in NUCLEI:
            yield self.named(Hypothesis.TOP_P, f"top-p {nucleus}", next(found))
        for _ in seeds:
            detail = "seeds of other rollouts of the lease"
            yield self.named(Hypothesis.SIBLING_SEED, detail, next(found))

    def between(self, temperatures: list[float], coarse: list[list[Findings]]) -> Named:
        """Return the temperature that explains the tokens, then the claims, best: the nearest tried, refined."""
        tried, found = temperatures, coarse
        for _ in range(REFINEMENTS):
            best = min(range(len(found)), key=lambda i: _missed(found[i]))
            low, high = tried[max(0, best - 1)], tried[min(len(tried) - 1, best + 1)]
            tried = [low + (high - low) * k / 8 for k in range(9)]
            found = self.under([Variant(temperature=t) for t in tried])
        best = min(range(len(found)), key=lambda i: _missed(found[i]))
        return self.at(tried[best], found[best])

    def under(self, variants: Sequence[Variant]) -> list[list[Findings]]:
        suspect = self.suspect
        return self.model.under(*only(suspect.lease, suspect.rollouts, suspect.chosen), variants)

    def as_leased(self) -> list[Findings]:
        """Replay with whatever the model holds."""
        suspect = self.suspect
        return self.model.findings([only(suspect.lease, suspect.rollouts, suspect.chosen)])[0]

    def at(self, temperature: float, found: Sequence[Findings]) -> Named:
        detail = f"temperature {temperature:.4g} instead of {self.suspect.lease.temperature:.4g}"
        return self.named(Hypothesis.TEMPERATURE, detail, found)

    def explains(self, named: Named) -> bool:
        return judge(named.explained, self.thresholds) is None

    def chance(self) -> float:
        """Return how unlikely the policy is to draw the rejected rollouts by any seeds: −log10 of it."""
        pairs = zip(self.leased, self.is_honest, strict=True)
        nats = sum(float(found.surprisals.sum()) for found, is_honest in pairs if not is_honest)
        return nats / math.log(10)

    def nearest(self, found: Sequence[Named]) -> Named | None:
        """Return what explains the group best, perhaps a part of it, if no other kind comes near."""
        best: dict[Hypothesis | None, Named] = {}
        for one in sorted(found, key=self.decades):
            best.setdefault(one.hypothesis, one)
        first, *others = best.values()
        # What is itself gross evidence against a hypothesis does not speak for it.
        if self.decades(first) >= GROSS_DECADES:
            return None
        rivals = [decades(self.suspect.stats, self.thresholds), *map(self.decades, others)]
        return first if min(rivals) - self.decades(first) >= CLEAR_DECADES else None

    def decades(self, named: Named) -> float:
        return decades(named.explained, self.thresholds)

    def named(self, hypothesis: Hypothesis, detail: str, found: Sequence[Findings]) -> Named:
        if any(self.is_honest):
            rows = zip(self.leased, self.is_honest, found, strict=True)
            mixed = [leased if is_honest else other for leased, is_honest, other in rows]
            part = f"{detail} in {len(mixed) - sum(self.is_honest)} of {len(mixed)} rollouts"
            self.in_part.append(Named(hypothesis, part, self.explained(mixed)))
        return Named(hypothesis, detail, self.explained(found))

    def explained(self, found: Sequence[Findings]) -> ReplayStats:
        stats = stats_of(found)
        gap = min(stats.gap_nanonats, self.suspect.stats.gap_nanonats)
        return stats.model_copy(update={"gap_nanonats": gap})


def _missed(found: Sequence[Findings]) -> tuple[float, float]:
    return sum(float(f.margins.sum()) for f in found), sum(float(f.gaps.sum()) for f in found)


def _rotations(suspect: Suspect) -> Iterator[tuple[int, ...]]:
    seeds = suspect.lease.seeds
    for by in range(1, len(seeds)):
        yield tuple(seeds[(i + by) % len(seeds)] for i in suspect.chosen)


def _one_for_all(suspect: Suspect) -> Iterator[tuple[int, ...]]:
    for seed in suspect.lease.seeds:
        yield (seed,) * len(suspect.chosen)


def _unseeded(suspect: Suspect) -> Named:
    stats = suspect.stats
    explained = stats.model_copy(
        update={"num_matched": stats.num_tokens, "margin_nanonats": 0, "max_margin_nanonats": 0}
    )
    return Named(
        Hypothesis.UNSEEDED,
        "drawn by no seed of the lease, and claimed as the policy has it",
        explained,
    )
