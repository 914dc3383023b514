"""Attack: go on past the end, since tokens are what is paid."""

from dataclasses import replace

import numpy as np

from orchestrator.admission import admit
from protocol.rollout import Lease, Rollout
from protocol.verdict import Rejection
from rollout_worker.generate import requests_of
from tests.adversarial.sampling_lab import EOS, TERMS, Lab, exact, share, submission_of

SPACE = 98
"""Any token but the end."""


def carried_on(bench: Lab, lease: Lease, honest: tuple[Rollout, ...]) -> tuple[Rollout, ...]:
    """Write another token in place of each end, and sample on under the leased seeds."""
    requests, opened = [], []
    asked = requests_of(lease, eos_token_id=EOS)
    for request, rollout in zip(asked, honest, strict=True):
        ids = np.where(rollout.token_ids() == EOS, SPACE, rollout.token_ids())
        opened.append((ids, rollout.worker_logprobs()))
        room = request.max_tokens - len(ids)
        requests.append(replace(request, prompt=(*request.prompt, *map(int, ids)), max_tokens=room))
    return tuple(
        Rollout.of(np.concatenate([ids, more.tokens]), np.concatenate([logprobs, more.logprobs]))
        for (ids, logprobs), more in zip(opened, bench.engine.generate(requests), strict=True)
    )


def test_a_longer_completion_is_caught_in_every_group() -> None:
    bench = exact()
    leases = bench.leases(12)
    honest = bench.sample(leases)
    assert share(bench.caught(leases, honest)) == 0
    longer = [carried_on(bench, x, group) for x, group in zip(leases, honest, strict=True)]
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
