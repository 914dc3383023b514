"""A verifier of several runs, one of which its operator or orchestrator has broken."""

from dataclasses import dataclass, field

from client.voice import Voice
from protocol.errors import Malformed, MarketError
from rollout_worker.verify.main import step_all


@dataclass
class Counted:
    """A run's step that says how often it was taken, and may fail."""

    pause: float
    error: MarketError | None = None
    taken: list[float] = field(default_factory=list)

    def step(self) -> float:
        self.taken.append(self.pause)
        if self.error is not None:
            raise self.error
        return self.pause


def test_a_broken_run_does_not_keep_a_verifier_from_the_runs_after_it() -> None:
    broken, sound = Counted(0.1, Malformed("a report without a subject")), Counted(0.2)
    assert step_all({1: broken, 2: sound}, most=1.0, chain=Voice("chain")) == 0.2
    assert (len(broken.taken), len(sound.taken)) == (1, 1)


def test_where_every_run_is_broken_the_verifier_still_pauses() -> None:
    assert step_all({1: Counted(0.0, Malformed("no"))}, most=1.0, chain=Voice("chain")) == 1.0
