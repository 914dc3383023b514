"""Attack: sample with seeds of one's own, which is what any choosing among samples comes to."""

from dataclasses import replace

from tests.stage.sampling_lab import exact, share


def test_another_seed_is_caught_where_there_was_anything_to_choose() -> None:
    bench = exact()
    leases = bench.leases(64)
    own = bench.sample(leases, lambda request: replace(request, seed=request.seed ^ 1))
    findings = bench.caught(leases, own)
    honest = bench.sample(leases)
    assert share(bench.caught(leases, honest)) == 0
    # Groups of which the policy is sure come out the same under every seed: nothing was stolen.
    differs = [
        sum(a.tokens != b.tokens for a, b in zip(mine, leased, strict=True)) >= 3
        for mine, leased in zip(own, honest, strict=True)
    ]
    assert sum(differs) > 32
    chosen = [finding for finding, other in zip(findings, differs, strict=True) if other]
    assert share(chosen) > 0.95
