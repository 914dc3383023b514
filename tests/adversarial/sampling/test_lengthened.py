"""Attack: go on past the end, since tokens are what is paid."""

import numpy as np

from orchestrator.rules.admission import admit
from protocol.rollout import Rollout
from protocol.verdict import Rejection
from tests.stage.sampling_lab import EOS, TERMS, exact, share, submission_of

SPACE = 98
"""Any token but the end."""


def opened(rollout: Rollout) -> Rollout:
    """Write another token in place of the end."""
    ids = np.where(rollout.token_ids() == EOS, SPACE, rollout.token_ids())
    return Rollout.of(ids, rollout.worker_logprobs())


def test_a_longer_completion_is_caught_in_every_group() -> None:
    bench = exact()
    leases = bench.leases(12)
    honest = bench.sample(leases)
    assert share(bench.caught(leases, honest)) == 0
    longer = [
        bench.continued(lease, [opened(rollout) for rollout in group])
        for lease, group in zip(leases, honest, strict=True)
    ]
    paid = [
        sum(len(r.tokens) for r in more) / sum(len(r.tokens) for r in group)
        for more, group in zip(longer, honest, strict=True)
    ]
    assert min(paid) > 1  # it pays
    assert share(bench.caught(leases, longer)) == 1


def test_tokens_behind_the_end_are_refused_without_a_replay() -> None:
    bench = exact()
    (lease,) = bench.leases(1)
    padded = [
        Rollout.of([*r.token_ids(), EOS], [*r.worker_logprobs(), 0.0])
        for r in bench.sample([lease])[0]
    ]
    finding = admit(lease, submission_of(lease, padded), TERMS, newest_version=0)
    assert finding is not None
    assert finding.rejection is Rejection.BAD_TERMINATION
