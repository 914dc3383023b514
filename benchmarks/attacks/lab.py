"""Make the records that the figures are drawn from: sample every attack, replay it, compare commitments.

What is in the cache is read; what is missing is made with as few engines opened as can be, and written
at once, so that an interrupt loses one attack at most.
"""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.attacks import figures, record, reliquary
from benchmarks.attacks.bench import Bench, Policies, open_replayer, replayed, salt_of, workload
from benchmarks.attacks.cheats import Attack, attacks
from benchmarks.attacks.models import START, UNTRAINED
from benchmarks.attacks.naming import claiming_the_right, named
from benchmarks.attacks.peers import Group, compared, hidden_states
from benchmarks.attacks.record import Compared, Drawn, Names, Replayed, Sampled
from protocol.checks.calibration import MIN_GROUPS, thresholds_of
from protocol.environments.base import FULL_SCORE
from protocol.policies.manifest import entries, policy_digest
from protocol.rollout import Lease
from protocol.verdict import Thresholds
from rollout_worker.engines.causal import CausalModel
from rollout_worker.engines.fp8_cache import keeping_fp8
from rollout_worker.replay.measure import ReplayModel

FALSE_REJECTS_PER_MILLION = 100
FALSE_ALARMS_PER_MILLION = 10
CALIBRATION = "calibration"
DRAWN = "drawn"
"""Kind of the records of Reliquary's rule."""
HANDED_IN, PREFILLED = "handed-in", "prefilled"
"""How a cheat claims log-probabilities: its engine's, or the right ones after a prefill."""


@dataclass
class Lab:
    """One model under attack. `num_groups` groups of each attack, by each sampler, for each replayer.

    `num_calibration_groups` of each of two policies set the bounds that are not committed.
    """

    policies: Policies
    attacks: Sequence[Attack]
    samplers: Sequence[str]
    replayers: Sequence[str]
    num_groups: int
    num_calibration_groups: int = 512
    num_compared_groups: int = 96
    """Of each attack, whose activations are compared: a tenth of a second of processor time each."""
    num_named: int = 24
    """Condemned groups of each attack and pair that are asked what was done."""
    compares: bool = True
    """Whether to compare activations, on what transformers sampled, and to sample by Reliquary's rule."""

    @property
    def seed(self) -> int:
        return self.policies.seed

    def prepare(self) -> None:
        """Make every record that is missing, one pair of engines after the other."""
        for sampler in self.samplers:
            self._sample(sampler)
            for replayer in self.replayers:
                self._replay(sampler, replayer)
                self._name(sampler, replayer)
        if self.compares:
            self._compare()
            self._sample(reliquary.NAME)
            self._draw()

    def sampled(self, sampler: str, attack: Attack) -> Sampled:
        return _found(record.read(Sampled, self._path(sampler, attack.name)))

    def replayed(self, sampler: str, replayer: str, attack: Attack) -> Replayed:
        return _found(record.read(Replayed, self._path(f"{sampler}-{replayer}", attack.name)))

    def names(self, sampler: str, replayer: str, attack: Attack, claims: str) -> Names:
        kind = self._named_kind(sampler, replayer, claims)
        return _found(record.read(Names, self._path(kind, attack.name)))

    def compared(self, attack: Attack) -> Compared:
        return _found(record.read(Compared, self._path(self._activations, attack.name)))

    def drawn(self, attack: Attack) -> Drawn:
        return _found(record.read(Drawn, self._path(DRAWN, attack.name)))

    def rewards(self, sampler: str, attack: Attack) -> NDArray[np.float64]:
        """Return the rewards of an attack's rollouts, groups × group size, 1 for a full score."""
        pairs = zip(self._leases(attack), self.sampled(sampler, attack).groups(), strict=True)
        scores = [[self.policies.score(lease, r) for r in group] for lease, group in pairs]
        return np.array(scores, dtype=np.float64) / FULL_SCORE

    def of(self, sampler: str) -> list[Attack]:
        """Return the attacks that a sampler can make."""
        return [attack for attack in self.attacks if sampler in attack.engines]

    def thresholds(self, sampler: str, replayer: str) -> Thresholds:
        """Return the bounds of honest work between two engines.

        Those committed with the starting model hold for every pair; another model's are calibrated
        here, as `rollcall calibrate` does, on prompts and seeds that no attack uses.
        """
        if self._is_committed:
            return _committed()
        seen = [self.replayed(sampler, replayer, work) for work in self._calibration()]
        # Bounds hold for single rollouts too: where groups are too few, those are what is counted.
        are_few = self.num_calibration_groups < MIN_GROUPS
        return thresholds_of(
            [one.of_rollouts() if are_few else one.stats() for one in seen],
            compute_dtype=self.policies.dtype,
            model_digest=policy_digest(entries(self.policies.named("exact"))),
            varied=[f"{sampler}, replayed by {replayer}"],
            int8=[],
            false_rejects_per_million=FALSE_REJECTS_PER_MILLION,
            false_alarms_per_million=FALSE_ALARMS_PER_MILLION,
        )

    @property
    def _is_committed(self) -> bool:
        """Whether the model's bounds need no calibration."""
        return self.policies.folder == START and self.policies.dtype is _committed().compute_dtype

    def _works(self, sampler: str) -> list[Attack]:
        """Return what a sampler makes: its attacks, and honest work to calibrate on where needed."""
        needed = sampler != reliquary.NAME and not self._is_committed
        return [*self.of(sampler), *(self._calibration() if needed else ())]

    def _calibration(self) -> list[Attack]:
        """Return honest work to calibrate on: of the leased policy, and of the one 20 steps on if any."""
        found = attacks()
        names = ("honest",) if self.policies.model in UNTRAINED else ("honest", "honest-later")
        return [
            replace(
                found[name],
                name=f"{CALIBRATION}-{self.num_calibration_groups}-{found[name].leased}",
                title="calibration",
            )
            for name in names
        ]

    def _sample(self, sampler: str) -> None:
        works = self._works(sampler)
        missing = [work for work in works if not self._path(sampler, work.name).exists()]
        if not missing:
            return
        with self._bench(sampler) as bench:
            for work in missing:
                say(f"{self.policies.model}: {work.title}, sampled by {sampler}")
                groups = work.cheat(bench, self._leases(work))
                record.write(Sampled.of(groups), self._path(sampler, work.name))

    def _replay(self, sampler: str, name: str) -> None:
        works = self._works(sampler)
        kind = f"{sampler}-{name}"
        missing = [work for work in works if not self._path(kind, work.name).exists()]
        if not missing:
            return
        with open_replayer(name, self.policies) as replayer:
            for work in missing:
                say(f"{self.policies.model}: {work.title} by {sampler}, replayed by {name}")
                seen = replayed(
                    replayer,
                    self.policies,
                    work.leased,
                    self._leases(work),
                    self.sampled(sampler, work),
                )
                record.write(seen, self._path(kind, work.name))

    def _name(self, sampler: str, replayer: str) -> None:
        """Ask of condemned groups what was done, once with each way of claiming."""
        missing = [
            (attack, claims)
            for attack in self.of(sampler)
            for claims in (HANDED_IN, PREFILLED)
            if not self._path(self._named_kind(sampler, replayer, claims), attack.name).exists()
        ]
        if not missing:
            return
        thresholds = self.thresholds(sampler, replayer)
        model = ReplayModel(self.policies.folder, dtype=self.policies.dtype)
        for attack, claims in missing:
            say(f"{self.policies.model}: naming {attack.title} by {sampler}, {claims}")
            stats = self.replayed(sampler, replayer, attack).stats()
            if claims == PREFILLED:
                stats = figures.without_gap(stats)
            groups = self.sampled(sampler, attack).groups()
            every = list(zip(self._leases(attack), groups, stats, strict=True))
            places = figures.rejected(stats, thresholds).nonzero()[0][: self.num_named]
            condemned = [every[i] for i in places]
            if claims == PREFILLED:
                leased = self.policies.named(attack.leased)
                condemned = claiming_the_right(model, leased, condemned)
            names = named(model, self.policies, attack, condemned, thresholds)
            record.write(
                names, self._path(self._named_kind(sampler, replayer, claims), attack.name)
            )

    def _compare(self) -> None:
        """Compare commitments on what transformers sampled."""
        missing = [
            attack
            for attack in self.of("transformers")
            if not self._path(self._activations, attack.name).exists()
        ]
        if not missing:
            return
        model = CausalModel(self.policies.folder, device="cpu", dtype=self.policies.dtype)
        for attack in missing:
            say(f"{self.policies.model}: activations of {attack.title}")
            pairs = zip(
                self._leases(attack), self.sampled("transformers", attack).groups(), strict=True
            )
            groups = list(pairs)[: self.num_compared_groups]
            model.load(attack.served(self.policies))
            worker = _committed_states(model, attack.name, groups)
            model.load(self.policies.named(attack.leased))
            verifier = hidden_states(model, groups, together=True)
            seen = compared(worker, verifier, groups, seed=self.seed)
            record.write(seen, self._path(self._activations, attack.name))

    def _draw(self) -> None:
        """Hold what was sampled by inverse CDF against Reliquary's intervals."""
        works = self.of(reliquary.NAME)
        missing = [work for work in works if not self._path(DRAWN, work.name).exists()]
        if not missing:
            return
        model = CausalModel(self.policies.folder, device="cpu", dtype=self.policies.dtype)
        for work in missing:
            say(f"{self.policies.model}: {work.title}, by Reliquary's rule")
            model.load(self.policies.named(work.leased))
            groups = self.sampled(reliquary.NAME, work).groups()
            seen = reliquary.drawn(model, list(zip(self._leases(work), groups, strict=True)))
            record.write(seen, self._path(DRAWN, work.name))

    @contextmanager
    def _bench(self, sampler: str) -> Iterator[Bench]:
        say(f"{self.policies.model}: opening {sampler}")
        bench = Bench.open(sampler, self.policies, num_groups=self.num_groups)
        try:
            yield bench
        finally:
            bench.engine.close()

    def _leases(self, work: Attack) -> list[Lease]:
        """Return the leases of an attack; what calibrates has prompts and seeds of its own."""
        salt = salt_of(self.seed, 0)
        if not work.name.startswith(CALIBRATION):
            return list(workload(self.policies, self.num_groups).leases(salt=salt))
        every = workload(self.policies, self.num_groups + self.num_calibration_groups)
        fresh = replace(every, prompts=every.prompts[self.num_groups :])
        return list(fresh.leases(salt=salt_of(self.seed, 2)))

    def _named_kind(self, sampler: str, replayer: str, claims: str) -> str:
        """Return the kind of a record of names, which depend on the bounds."""
        law = hashlib.sha256(self.thresholds(sampler, replayer).to_json()).hexdigest()[:8]
        return f"{sampler}-{replayer}-{claims}-{self.num_named}-{law}"

    @property
    def _activations(self) -> str:
        return f"activations-{self.num_compared_groups}"

    @cached_property
    def _fingerprint(self) -> str:
        weights = (self.policies.folder / "model.safetensors").read_bytes()
        return hashlib.sha256(weights).hexdigest()[:12]

    def _path(self, kind: str, attack: str) -> Path:
        asked = self.policies.task.environment.digest.hex()[:8]
        model = f"{self.policies.model}-{self.policies.dtype}-{self._fingerprint}"
        length = f"-{self.policies.max_tokens}" if self.policies.max_tokens else ""
        name = f"{model}-{asked}{length}-{self.num_groups}x{self.seed}"
        return self.policies.cache / "records" / name / kind / f"{attack}.npz"


def _committed() -> Thresholds:
    return Thresholds.from_json((START / "thresholds.json").read_bytes())


def chosen(names: Sequence[str], model: str) -> list[Attack]:
    """Return the named attacks on a model, all for none; honest work is always among them."""
    known = {a.name: a for a in attacks().values() if not (a.needs and model in UNTRAINED)}
    if unknown := sorted(set(names) - known.keys()):
        raise ValueError(f"no attack {', '.join(unknown)} on {model}; there are {', '.join(known)}")
    return [a for a in known.values() if not names or a.name in names or a.name == "honest"]


def say(text: str) -> None:
    """Show progress, apart from the table."""
    print(text, file=sys.stderr, flush=True)


def _found(kept: record.K | None) -> record.K:
    if kept is None:
        raise FileNotFoundError("a record is missing: call `prepare` first")
    return kept


def _committed_states(model: CausalModel, attack: str, groups: Sequence[Group]) -> list[Tensor]:
    """Return the hidden states that a cheat has, some through an fp8 cache."""
    if attack not in {"fp8", "fp8-one"}:
        return hidden_states(model, groups, together=False)
    with keeping_fp8(model):
        states = hidden_states(model, groups, together=False)
    if attack == "fp8":
        return states
    exact, size = hidden_states(model, groups, together=False), len(groups[0][1])
    return [states[i] if i % size == 0 else exact[i] for i in range(len(exact))]
