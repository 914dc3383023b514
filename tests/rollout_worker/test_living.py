"""A replay engine that dies is opened anew, and ends the verifier with a remedy where that does not help."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from protocol.policies.manifest import Weights
from protocol.rollout import Lease, Rollout
from rollout_worker.replay.measure import Findings, ReplayModel, stats_of
from rollout_worker.verify.living import EngineDead, LivingReplayer
from tests.stage.sampling_lab import MODEL, Lab, exact


@dataclass
class Mortal:
    """A real replayer, for which the device is there or not; it reads no group of `poison`."""

    model: ReplayModel
    poison: list[Lease]
    is_dead: bool = False

    def load(self, weights: Weights) -> None:
        self.model.load(weights)

    def findings(self, groups: Sequence[tuple[Lease, Sequence[Rollout]]]) -> list[list[Findings]]:
        if self.is_dead or any(lease in self.poison for lease, _ in groups):
            raise RuntimeError("CUDA error: device lost")
        return self.model.findings(groups)


@dataclass
class Machine:
    """Opens replayers; `is_broken` where no new one works either."""

    opened: list[Mortal] = field(default_factory=list)
    poison: list[Lease] = field(default_factory=list)
    is_broken: bool = False

    def open(self, weights: Weights) -> Mortal:
        assert weights
        self.opened.append(Mortal(ReplayModel(MODEL), self.poison, self.is_broken))
        return self.opened[-1]


@pytest.fixture
def lab() -> Lab:
    return exact()


def parts(lab: Lab, count: int) -> list[tuple[Lease, Sequence[Rollout]]]:
    leases = lab.leases(count)
    return list(zip(leases, lab.sample(leases), strict=True))


def test_a_dead_engine_is_opened_anew_with_the_weights_it_had(lab: Lab) -> None:
    machine = Machine()
    replayer = LivingReplayer(machine.open)
    first, second = parts(lab, 2)
    replayer.load(b"digest", lab.policy)
    expected = list(map(stats_of, replayer.findings([first, second])))
    machine.opened[0].is_dead = True
    assert list(map(stats_of, replayer.findings([first, second]))) == expected
    assert len(machine.opened) == 2


def test_a_group_that_no_engine_can_replay_kills_none(lab: Lab) -> None:
    """Else a worker had only to send it to have every verifier open its engine over and over."""
    machine = Machine()
    replayer = LivingReplayer(machine.open)
    good, bad = parts(lab, 2)
    machine.poison.append(bad[0])
    replayer.load(b"digest", lab.policy)
    replayer.findings([good])
    with pytest.raises(RuntimeError, match="device lost"):
        replayer.findings([bad])
    assert len(machine.opened) == 1
    assert replayer.findings([good])


def test_where_no_new_engine_works_either_the_verifier_ends_with_the_remedy(lab: Lab) -> None:
    machine = Machine()
    replayer = LivingReplayer(machine.open)
    [good] = parts(lab, 1)
    replayer.load(b"digest", lab.policy)
    replayer.findings([good])
    machine.opened[0].is_dead = machine.is_broken = True
    with pytest.raises(EngineDead, match="start the verifier again"):
        replayer.findings([good])
