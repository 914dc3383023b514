"""How soon cheats on the real model are found when log-probabilities tell nothing, and honest work not.

The cheat prefills its tokens with the right weights and claims what it finds, so no gap is left: only
mismatches and margins tell. Full figures: `python -m benchmarks.attacks`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks.attacks.figures import without_gap
from protocol.verdict import ReplayStats, Statistic, judge
from rollout_worker.engines.base import Request
from tests.stage.sampling_lab import Lab, exact

GROUPS_PER_SALT = 64


def measured(
    bench: Lab, num_groups: int, change: Callable[[Request], Request] = lambda r: r
) -> list[ReplayStats]:
    """Sample and replay, with claims that leave no gap."""
    found: list[ReplayStats] = []
    for salt in range(-(-num_groups // GROUPS_PER_SALT)):
        leases = bench.leases(GROUPS_PER_SALT, salt=salt)
        found += bench.measured(leases, bench.sample(leases, change))
    return without_gap(found[:num_groups])


def found_after(work: Sequence[ReplayStats], bench: Lab) -> int | None:
    """Return after how many groups a verifier rejects one, None for not at all."""
    found = (n for n, stats in enumerate(work, 1) if judge(stats, bench.thresholds) is not None)
    return next(found, None)


def test_honest_work_is_never_rejected_and_never_drifts() -> None:
    bench = exact()
    work = measured(bench, 192)
    assert found_after(work, bench) is None
    assert bench.groups_until_drift(work) is None


def test_three_hundredths_colder_is_found_by_its_tokens_alone() -> None:
    """In float32 honest work has no mismatch, so the first that is no near tie is one too many."""
    bench = exact()
    cold = measured(bench, 128, lambda request: replace(request, temperature=0.97))
    passing = [stats for stats in cold if judge(stats, bench.thresholds) is None]
    assert len(passing) > 0.8 * len(cold)  # most groups come out the same: nothing was gained there
    assert sum(stats.num_wrong for stats in passing) <= 1
    condemned = found_after(cold, bench)
    assert condemned is not None
    assert condemned <= 64


def test_one_group_in_five_sampled_colder_is_found_among_honest_ones() -> None:
    bench = exact()
    cold = measured(bench, 32, lambda request: replace(request, temperature=0.8))
    honest = measured(bench, 128)
    mixed = [cold[i // 5] if i % 5 == 0 else honest[i - i // 5 - 1] for i in range(5 * len(cold))]
    condemned = found_after(mixed, bench)
    assert condemned is not None
    assert condemned <= 5 * 16


def test_what_wider_bounds_let_pass_the_sequential_test_finds() -> None:
    """Bounds of one group as wide as a coarser dtype's: then only the sum over groups tells."""
    bench = exact()
    wide = {
        statistic.value: bench.thresholds.bounds(statistic).model_copy(update={"group": 1 << 60})
        for statistic in Statistic
    }
    blind = replace(bench, thresholds=bench.thresholds.model_copy(update=wide))
    cold = measured(blind, 128, lambda request: replace(request, temperature=0.8))
    assert found_after(cold, blind) is None  # the attack, with the sequential test off
    condemned = blind.groups_until_drift(cold)
    assert condemned is not None
    assert condemned <= 32
