"""Attack: sample a little colder than leased, for somewhat better rewards."""

from dataclasses import replace

from benchmarks.attacks.figures import without_gap
from protocol.verdict import judge
from tests.stage.sampling_lab import exact, share


def test_three_hundredths_colder_is_caught_in_every_group() -> None:
    bench = exact()
    leases = bench.leases(24)
    assert share(bench.caught(leases, bench.sample(leases))) == 0
    cold = bench.sample(leases, lambda request: replace(request, temperature=0.97))
    assert share(bench.caught(leases, cold)) == 1


def test_with_the_right_logprobs_most_groups_pass_and_a_probation_does_not() -> None:
    """The cheat prefills its text with the policy and claims what it finds: only tokens tell."""
    bench = exact()
    leases = bench.leases(48)
    cold = bench.sample(leases, lambda request: replace(request, temperature=0.8))
    measured = without_gap(bench.measured(leases, cold))
    caught = [judge(stats, bench.thresholds) is not None for stats in measured]
    assert not all(
        caught
    )  # where the policy is sure a colder one says the same: the attack succeeds
    assert sum(caught) > 0.1 * len(caught)
