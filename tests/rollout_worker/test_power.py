"""How soon cheats on the real model are found when log-probabilities tell nothing, and honest work not.

The cheat prefills its tokens with the right weights and claims what it finds, so no gap is left: only
mismatches and margins tell. Full figures: `python -m benchmarks.attacks`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from protocol.sequential import Drift, crossed, folded
from protocol.verdict import ReplayStats, judge
from rollout_worker.engines.base import Request
from tests.adversarial.sampling_lab import Lab, exact

GROUPS_PER_SALT = 64


def measured(
    bench: Lab, num_groups: int, change: Callable[[Request], Request] = lambda r: r
) -> list[ReplayStats]:
    """Sample and replay, with claims that leave the gap an honest worker would have."""
    found: list[ReplayStats] = []
    for salt in range(-(-num_groups // GROUPS_PER_SALT)):
        leases = bench.leases(GROUPS_PER_SALT, salt=salt)
        found += bench.measured(leases, bench.sample(leases, change))
    hidden = {"mean_logprob_gap_micronats": 10_000, "p99_logprob_gap_micronats": 60_000}
    return [stats.model_copy(update=hidden) for stats in found[:num_groups]]


def found_after(work: Sequence[ReplayStats], bench: Lab, *, sequential: bool = True) -> int | None:
    """Return after how many groups a verifier condemns, None for not at all."""
    drift = Drift()
    for count, stats in enumerate(work, 1):
        if judge(stats, bench.thresholds) is not None:
            return count
        drift = folded(drift, stats, bench.thresholds)
        if sequential and crossed(drift, bench.thresholds):
            return count
    return None


def test_honest_work_is_never_condemned() -> None:
    bench = exact()
    assert found_after(measured(bench, 192), bench) is None


def test_three_hundredths_colder_is_found_by_its_tokens_alone() -> None:
    bench = exact()
    cold = measured(bench, 320, lambda request: replace(request, temperature=0.97))
    passing = [stats for stats in cold if judge(stats, bench.thresholds) is None]
    assert len(passing) > 0.9 * len(cold)  # one by one they pass: the attack, and its defence off
    assert found_after(passing, bench, sequential=False) is None
    condemned = found_after(passing, bench)
    assert condemned is not None
    assert condemned <= 250


def test_one_group_in_five_sampled_colder_is_found_among_honest_ones() -> None:
    """Honest groups dilute what is found, and cannot be saved up against it."""
    bench = exact()
    cold = measured(bench, 128, lambda request: replace(request, temperature=0.8))
    passing = [stats for stats in cold if judge(stats, bench.thresholds) is None]
    honest = measured(bench, 192)
    mixed = [
        passing[i // 5] if i % 5 == 0 else honest[i % len(honest)] for i in range(5 * len(passing))
    ]
    assert found_after(mixed, bench, sequential=False) is None
    condemned = found_after(mixed, bench)
    assert condemned is not None
    assert condemned <= 400
