"""Attack: draw several groups, and hand in for each seed the completion with the best reward."""

from collections.abc import Callable
from dataclasses import replace

from protocol.environments.arithmetic import Arithmetic
from protocol.rollout import Rollout
from rollout_worker.engines.base import Request
from tests.stage.sampling_lab import MODEL, exact, share

NUM_DRAWS = 4


def _shifted(k: int) -> Callable[[Request], Request]:
    return lambda request: replace(request, seed=request.seed ^ k)


def test_picking_the_right_answers_is_caught() -> None:
    from tokenizers import Tokenizer

    bench = exact()
    leases = bench.leases(48)
    tokenizer, environment = Tokenizer.from_file(str(MODEL / "tokenizer.json")), Arithmetic({})

    def score(index: int, rollout: Rollout) -> int:
        text = tokenizer.decode(rollout.token_ids().tolist(), skip_special_tokens=True)
        return environment.score(environment.problem(index), text)

    draws = [bench.sample(leases, _shifted(k)) for k in range(NUM_DRAWS)]
    best = [
        tuple(max(candidates, key=lambda c: score(i, c)) for candidates in zip(*group, strict=True))
        for i, group in enumerate(zip(*draws, strict=True))
    ]
    gained = [
        sum(score(i, r) for r in best[i]) > sum(score(i, r) for r in draws[0][i])
        for i in range(len(leases))
    ]
    assert sum(gained) > 16  # it pays
    findings = bench.caught(leases, best)
    assert share([f for f, better in zip(findings, gained, strict=True) if better]) > 0.95
