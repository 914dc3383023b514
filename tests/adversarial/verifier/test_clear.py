"""A stake hangs on work that no honest verifier could differ about: is what canaries are made of that clear?

Against a verifier that rejects at random, or on other hardware than the bounds were measured for, the
accusers' own replays must be far from every bound. Groups from other seeds are, and honest ones too.
"""

from dataclasses import replace

from protocol.checks.canary import is_clear
from protocol.verdict import Outcome
from rollout_worker.engines.reseeded import ReseededEngine
from tests.stage.sampling_lab import exact

NUM_GROUPS = 6


def test_groups_from_other_seeds_are_clearly_false_and_honest_ones_clearly_honest() -> None:
    bench = exact()
    leases = bench.leases(NUM_GROUPS)
    cheat = replace(bench, engine=ReseededEngine(bench.engine, shift=1))
    for sampler, outcome, other in (
        (bench, Outcome.ACCEPTED, Outcome.REJECTED),
        (cheat, Outcome.REJECTED, Outcome.ACCEPTED),
    ):
        found = bench.measured(leases, sampler.sample(leases))
        assert all(is_clear(outcome, stats, bench.thresholds) for stats in found)
        assert not any(is_clear(other, stats, bench.thresholds) for stats in found)
