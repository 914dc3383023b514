"""Make the records that the figures are drawn from: sample every attack, replay it, compare commitments.

What is in the cache is read; what is missing is made with as few engines opened as can be, and written
at once, so that an interrupt loses one attack at most.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from benchmarks.attacks import record
from benchmarks.attacks.bench import (
    Bench,
    Policies,
    Replayer,
    open_replayer,
    replayed,
    salt_of,
    workload,
)
from benchmarks.attacks.cheats import Attack, attacks
from benchmarks.attacks.models import START
from benchmarks.attacks.peers import compared, hidden_states
from benchmarks.attacks.record import Compared, Replayed, Sampled
from benchmarks.attacks.weights import with_fp8_cache
from protocol.calibration import thresholds_of
from protocol.rollout import Lease
from protocol.verdict import Thresholds
from rollout_worker.calibrate import measure
from rollout_worker.engines.base import engine_class
from rollout_worker.engines.causal import CausalModel
from rollout_worker.replay import ReplayModel

FALSE_REJECTS_PER_MILLION = 100
FALSE_ALARMS_PER_MILLION = 10


@dataclass
class Lab:
    """One model under attack. `num_groups` groups of each attack, by each sampler, for each replayer."""

    policies: Policies
    attacks: Sequence[Attack]
    samplers: Sequence[str]
    replayers: Sequence[str]
    num_groups: int
    num_calibration_groups: int = 512
    num_compared_groups: int = 96
    """Of each attack, whose activations are compared: an eighth of a second each."""

    @property
    def seed(self) -> int:
        return self.policies.seed

    def prepare(self) -> None:
        """Make every record that is missing."""
        for sampler in self.samplers:
            self._use(sampler)
        for replayer in self.replayers:
            self._replay(replayer)
        self._compare()

    def sampled(self, sampler: str, attack: Attack) -> Sampled:
        return _found(record.read(Sampled, self._path(sampler, attack.name)))

    def replayed(self, sampler: str, replayer: str, attack: Attack) -> Replayed:
        return _found(record.read(Replayed, self._path(f"{sampler}-{replayer}", attack.name)))

    def compared(self, attack: Attack) -> Compared:
        return _found(record.read(Compared, self._path("activations", attack.name)))

    def of(self, sampler: str) -> list[Attack]:
        """Return the attacks that a sampler can make."""
        return [attack for attack in self.attacks if sampler in attack.engines]

    def thresholds(self, sampler: str) -> Thresholds:
        """Return the starting model's committed bounds, or calibrate another model's once."""
        wanted = engine_class(sampler, "cpu")
        if self.policies.folder == START:
            entries = json.loads((START / "thresholds.json").read_text())
            entry = next(entry for entry in entries if entry["engine_class"] == wanted)
            return Thresholds.from_json(json.dumps(entry))
        return Thresholds.from_json(self._bounds_path(sampler).read_text())

    def _use(self, sampler: str) -> None:
        """Open a sampler where something of it is missing: the groups of an attack, or its bounds."""
        missing = [a for a in self.of(sampler) if not self._path(sampler, a.name).exists()]
        bounds = self._bounds_path(sampler)
        is_calibrated = self.policies.folder == START or bounds.exists()
        if not missing and is_calibrated:
            return
        with self._bench(sampler) as bench:
            for attack in missing:
                say(f"{self.policies.model}: {attack.title}, sampled by {sampler}")
                groups = attack.cheat(bench, self._leases())
                record.write(Sampled.of(groups), self._path(sampler, attack.name))
            if not is_calibrated:
                bounds.parent.mkdir(parents=True, exist_ok=True)
                bounds.write_text(self._calibrated(bench).model_dump_json(indent=1))

    def _replay(self, name: str) -> None:
        pairs = [
            (sampler, attack)
            for sampler in self.samplers
            for attack in self.of(sampler)
            if not self._path(f"{sampler}-{name}", attack.name).exists()
        ]
        if not pairs:
            return
        replayer: Replayer = open_replayer(name, self.policies)
        for sampler, attack in pairs:
            say(f"{self.policies.model}: {attack.title} by {sampler}, replayed by {name}")
            leased = self.policies.named(attack.leased)
            seen = replayed(replayer, leased, self._leases(), self.sampled(sampler, attack))
            record.write(seen, self._path(f"{sampler}-{name}", attack.name))

    def _compare(self) -> None:
        """Compare commitments on what transformers sampled; without it there is nothing to compare."""
        if "transformers" not in self.samplers:
            return
        missing = [
            attack
            for attack in self.of("transformers")
            if not self._path("activations", attack.name).exists()
        ]
        if not missing:
            return
        model = CausalModel(self.policies.folder, device="cpu")
        for attack in missing:
            say(f"{self.policies.model}: activations of {attack.title}")
            pairs = zip(self._leases(), self.sampled("transformers", attack).groups(), strict=True)
            groups = list(pairs)[: self.num_compared_groups]
            model.load(attack.served(self.policies))
            undo = with_fp8_cache(model) if attack.name == "fp8" else lambda: None
            worker = hidden_states(model, groups, together=False)
            undo()
            model.load(self.policies.named(attack.leased))
            verifier = hidden_states(model, groups, together=True)
            seen = compared(worker, verifier, groups, seed=self.seed)
            record.write(seen, self._path("activations", attack.name))

    def _calibrated(self, bench: Bench) -> Thresholds:
        """Calibrate on prompts and seeds that no attack uses, as `rollcall calibrate` does."""
        say(f"{self.policies.model}: calibrating {bench.name}")
        prompts = workload(self.policies, self.num_groups + self.num_calibration_groups)
        fresh = replace(prompts, prompts=prompts.prompts[self.num_groups :])
        model = ReplayModel(self.policies.folder)
        honest = [
            measure(bench.engine, model, self.policies.named(name), fresh, salt=salt)
            for salt, name in enumerate(("exact", "later"))
        ]
        return thresholds_of(
            honest,
            engine_class=bench.engine.engine_class,
            false_rejects_per_million=FALSE_REJECTS_PER_MILLION,
            false_alarms_per_million=FALSE_ALARMS_PER_MILLION,
        )

    def _bounds_path(self, sampler: str) -> Path:
        return self.policies.cache / "thresholds" / f"{self.policies.model}-{sampler}.json"

    @contextmanager
    def _bench(self, sampler: str) -> Iterator[Bench]:
        say(f"{self.policies.model}: opening {sampler}")
        bench = Bench.open(sampler, self.policies, num_groups=self.num_groups)
        try:
            yield bench
        finally:
            bench.engine.close()

    def _leases(self) -> list[Lease]:
        found = workload(self.policies, self.num_groups).leases(salt=salt_of(self.seed, 0))
        return list(found)

    @cached_property
    def _fingerprint(self) -> str:
        weights = (self.policies.folder / "model.safetensors").read_bytes()
        return hashlib.sha256(weights).hexdigest()[:12]

    def _path(self, kind: str, attack: str) -> Path:
        name = f"{self.policies.model}-{self._fingerprint}-{self.num_groups}x{self.seed}"
        return self.policies.cache / "records" / name / kind / f"{attack}.npz"


def chosen(names: Sequence[str]) -> list[Attack]:
    """Return the named attacks, all for none; honest work is always among them."""
    known = attacks()
    if unknown := sorted(set(names) - known.keys()):
        raise ValueError(f"no attack {', '.join(unknown)}; there are {', '.join(known)}")
    return [a for a in known.values() if not names or a.name in names or a.name == "honest"]


def say(text: str) -> None:
    """Show progress, apart from the table."""
    print(text, file=sys.stderr, flush=True)


def _found(kept: record.K | None) -> record.K:
    if kept is None:
        raise FileNotFoundError("a record is missing: call `prepare` first")
    return kept
