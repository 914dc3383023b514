"""Attack: end every completion at once, to be paid for groups that cost nothing."""

from protocol.rollout import Rollout
from tests.stage.sampling_lab import EOS, exact, share


def test_ending_at_once_is_caught_in_every_group() -> None:
    bench = exact()
    leases = bench.leases(24)
    nothing = [tuple(Rollout.of([EOS], [-0.01]) for _ in lease.seeds) for lease in leases]
    assert share(bench.caught(leases, nothing)) == 1
