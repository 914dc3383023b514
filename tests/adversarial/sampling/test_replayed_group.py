"""Attack: sample once, and hand the group in again whenever the same task is leased again."""

from orchestrator.rules.admission import copy_key
from tests.stage.sampling_lab import exact, share, submission_of


def test_a_group_fits_the_seeds_of_its_own_lease_only() -> None:
    bench = exact()
    first, again = bench.leases(48, salt=3), bench.leases(48, salt=4)
    assert [lease.prompt for lease in first] == [lease.prompt for lease in again]
    groups, fresh = bench.sample(first), bench.sample(again)
    assert share(bench.caught(first, groups)) == 0
    differs = [
        sum(a.tokens != b.tokens for a, b in zip(old, right, strict=True)) >= 3
        for old, right in zip(groups, fresh, strict=True)
    ]
    findings = bench.caught(again, groups)
    assert sum(differs) > 24
    assert share([f for f, other in zip(findings, differs, strict=True) if other]) > 0.95


def test_admission_knows_a_group_again_where_chance_cannot_explain_it() -> None:
    bench = exact()
    first, again = bench.leases(48, salt=3), bench.leases(48, salt=4)
    for old, new, group in zip(first, again, bench.sample(first), strict=True):
        key = copy_key(submission_of(old, group))
        assert key == copy_key(submission_of(new, group))
        likely = sum(float(r.worker_logprobs().sum()) for r in group) > -40
        assert (key is None) == likely
