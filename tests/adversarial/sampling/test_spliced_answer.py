"""Attack: write the right worked solution instead of sampling one, or begin it and sample the rest."""

import numpy as np

from protocol.environments.arithmetic import Arithmetic
from protocol.rollout import Rollout
from tests.stage.sampling_lab import EOS, MODEL, exact, share


def test_gold_solutions_are_caught_unless_the_policy_was_sure_of_them() -> None:
    from tokenizers import Tokenizer

    bench = exact()
    leases = bench.leases(48)
    tokenizer, environment = Tokenizer.from_file(str(MODEL / "tokenizer.json")), Arithmetic({})
    honest = bench.sample(leases)
    spliced = []
    for i, group in enumerate(honest):
        ids = tokenizer.encode(environment.problem(i).solution, add_special_tokens=False).ids
        gold = np.array([*ids, EOS], dtype=np.uint32)
        fake = Rollout.of(gold, np.full(len(gold), -1e-4))
        spliced.append(tuple(fake for _ in group))
    differs = [
        sum(a.tokens != b.tokens for a, b in zip(fake, right, strict=True)) >= 3
        for fake, right in zip(spliced, honest, strict=True)
    ]
    assert sum(differs) > 24
    findings = bench.caught(leases, spliced)
    assert share([f for f, other in zip(findings, differs, strict=True) if other]) == 1


def test_a_begun_solution_is_caught_though_the_rest_is_sampled_as_leased() -> None:
    from tokenizers import Tokenizer

    bench = exact()
    leases = bench.leases(12)
    tokenizer, environment = Tokenizer.from_file(str(MODEL / "tokenizer.json")), Arithmetic({})
    honest, begun = bench.sample(leases), []
    for i, lease in enumerate(leases):
        ids = tokenizer.encode(environment.problem(i).solution, add_special_tokens=False).ids
        start = Rollout.of(ids[: len(ids) // 2], [-1e-4] * (len(ids) // 2))
        begun.append(bench.continued(lease, [start] * lease.group_size))
    differs = [
        sum(a.tokens != b.tokens for a, b in zip(fake, right, strict=True)) >= 3
        for fake, right in zip(begun, honest, strict=True)
    ]
    assert sum(differs) > 6
    findings = bench.caught(leases, begun)
    assert share([f for f, other in zip(findings, differs, strict=True) if other]) == 1
