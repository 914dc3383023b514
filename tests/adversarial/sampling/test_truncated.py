"""Attack: stop half-way and write the end, which costs half and looks finished."""

from orchestrator.rules.admission import admit
from protocol.rollout import Rollout
from protocol.verdict import Rejection
from tests.stage.sampling_lab import EOS, TERMS, exact, share, submission_of


def cut(rollout: Rollout) -> Rollout:
    half = max(1, len(rollout.token_ids()) // 2)
    ids, logprobs = rollout.token_ids()[:half].copy(), rollout.worker_logprobs()[:half]
    ids[-1] = EOS
    return Rollout.of(ids, logprobs)


def test_a_written_end_is_caught_in_every_group() -> None:
    bench = exact()
    leases = bench.leases(32)
    honest = bench.sample(leases)
    assert share(bench.caught(leases, honest)) == 0
    short = [tuple(cut(rollout) for rollout in group) for group in honest]
    assert share(bench.caught(leases, short)) == 1  # admission takes each of them


def test_no_end_at_all_is_refused_without_a_replay() -> None:
    bench = exact()
    (lease,) = bench.leases(1)
    bare = [
        Rollout.of(r.token_ids()[:-1], r.worker_logprobs()[:-1]) for r in bench.sample([lease])[0]
    ]
    finding = admit(lease, submission_of(lease, bare), TERMS, newest_version=0)
    assert finding is not None
    assert finding.rejection is Rejection.BAD_TERMINATION
