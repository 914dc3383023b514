"""Attack: right tokens with false log-probabilities, to bend the trainer's importance ratios."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from protocol.rollout import Rollout
from protocol.verdict import Rejection
from tests.adversarial.sampling_lab import exact

Lie = Callable[[NDArray[np.float32]], NDArray[np.float32]]
LIES: dict[str, Lie] = {
    "all alike": lambda true: np.full_like(true, -1.0),
    "all certain": np.zeros_like,
    "a fifth likelier": lambda true: true * np.float32(0.8),
    "shifted": lambda true: np.roll(true, 1),
    "one in four by a nat": lambda true: true - np.where(np.arange(len(true)) % 4 == 0, 1, 0),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_false_logprobs_are_caught_in_every_group(lie: Lie) -> None:
    bench = exact()
    leases = bench.leases(24)
    lied = [
        tuple(Rollout.of(r.token_ids(), lie(r.worker_logprobs())) for r in group)
        for group in bench.sample(leases)
    ]
    assert set(bench.caught(leases, lied)) == {Rejection.REPLAY_LOGPROB}
