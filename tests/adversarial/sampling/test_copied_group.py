"""Attack: hand in what another worker sampled for the same task, and sample nothing."""

from tests.stage.sampling_lab import exact, share


def test_a_copy_fails_under_its_own_seeds() -> None:
    bench = exact()
    theirs, mine = bench.leases(64, salt=1), bench.leases(64, salt=2)
    assert [lease.prompt for lease in theirs] == [lease.prompt for lease in mine]
    groups = bench.sample(theirs)
    assert share(bench.caught(theirs, groups)) == 0
    # What the policy is sure of is the same under all seeds, and is no one's to steal.
    own = bench.sample(mine)
    differs = [
        sum(a.tokens != b.tokens for a, b in zip(copy, right, strict=True)) >= 3
        for copy, right in zip(groups, own, strict=True)
    ]
    findings = bench.caught(mine, groups)
    assert sum(differs) > 32
    assert share([f for f, other in zip(findings, differs, strict=True) if other]) > 0.95
