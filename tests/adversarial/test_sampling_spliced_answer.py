"""Attack: write the right worked solution instead of sampling one."""

import numpy as np

from protocol.environments.arithmetic import Arithmetic
from protocol.rollout import Rollout
from tests.adversarial.sampling_lab import EOS, MODEL, exact, share


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
