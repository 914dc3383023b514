"""Attack: serve the policy rounded to four bits, at the full price."""

from protocol.verdict import Rejection
from rollout_worker.engines.rounded import RoundedEngine, rounded
from tests.stage.sampling_lab import exact, share


def test_every_int4_group_is_caught_alone() -> None:
    bench = exact()
    leases = bench.leases(48)
    assert share(bench.caught(leases, bench.sample(leases))) == 0  # the same leases, honestly
    bench.engine.load(rounded(bench.policy, bits=4))
    findings = bench.caught(leases, bench.sample(leases))
    assert set(findings) <= {
        Rejection.REPLAY_LOGPROB,
        Rejection.REPLAY_MARGIN,
        Rejection.REPLAY_MISMATCH,
    }


def test_the_attack_tool_rounds_what_it_is_given() -> None:
    bench = exact()
    cheat = RoundedEngine(bench.engine, bits=4)
    cheat.load(bench.policy)
    assert cheat.name == bench.engine.name
    leases = bench.leases(8)
    assert share(bench.caught(leases, bench.sample(leases))) == 1


def test_rounding_leaves_fifteen_steps_per_row_and_vectors_alone() -> None:
    policy = exact().policy
    small = rounded(policy, bits=4)
    name, vector = "model.layers.0.mlp.up_proj.weight", "model.norm.weight"
    rows = small[name].bits.reshape(small[name].shape)
    assert max(len(set(row.tolist())) for row in rows) <= 16  # −7 … 7, and a signed zero
    assert (small[vector].bits == policy[vector].bits).all()
