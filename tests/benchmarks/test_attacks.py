"""The attack lab's benchmark: its arithmetic against plain references, and a small run through it all."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from benchmarks.attacks import figures, peers, record
from benchmarks.attacks.__main__ import main
from benchmarks.attacks.bench import Bench, Policies
from benchmarks.attacks.cheats import attacks
from benchmarks.attacks.lab import HANDED_IN, Lab, chosen
from benchmarks.attacks.models import START, Reinforcement
from benchmarks.attacks.record import Sampled
from benchmarks.attacks.rows import AIMS, rows
from benchmarks.attacks.stale import policy_after
from orchestrator.rules.admission import admit
from protocol.checks.evidence import Consequence
from protocol.checks.sequential import Drift, crossed, folded
from protocol.constants import NANO
from protocol.rollout import Rollout
from protocol.verdict import ReplayStats, Thresholds, judge
from rollout_worker.engines.causal import read_weights, tensor_of
from rollout_worker.engines.fp8_cache import Fp8Cache
from tests.stage.sampling_lab import TERMS, submission_of

THRESHOLDS = Thresholds.from_json((START / "thresholds.json").read_bytes())


def stats(
    num_matched: int, *, margin: int = 0, gap: int = 0, forks: int = 0, num_tokens: int = 140
) -> ReplayStats:
    """`forks` above zero were for reward, below zero against it."""
    return ReplayStats(
        num_tokens=num_tokens,
        num_matched=num_matched,
        margin_nanonats=margin,
        max_margin_nanonats=margin,
        gap_nanonats=gap,
        surprisal_nanonats=0,
        forks_for_micro=max(forks, 0),
        forks_against_micro=max(-forks, 0),
    )


def crossing(measured: Sequence[ReplayStats]) -> int:
    """Return the group at which the protocol's own test crosses, from 1; 0 for never."""
    drift = Drift()
    for count, group in enumerate(measured, 1):
        drift = folded(drift, group, THRESHOLDS)
        if crossed(drift, THRESHOLDS):
            return count
    return 0


@pytest.mark.parametrize(
    "cheated",
    [
        stats(140),
        stats(139),
        stats(137, margin=7_000),
        stats(120),
        stats(140, margin=THRESHOLDS.margin.drift // 2),
        stats(140, gap=THRESHOLDS.gap.drift),
        stats(140, forks=THRESHOLDS.mismatches.drift // 4),
        stats(140, forks=-THRESHOLDS.mismatches.drift // 4),
    ],
)
def test_sequences_cross_where_the_protocols_test_does(cheated: ReplayStats) -> None:
    measured = [stats(140), cheated, stats(140)]
    seed, horizon = 3, 200
    found = figures.sequences(measured, THRESHOLDS, count=5, horizon=horizon, seed=seed)
    drawn = np.random.default_rng(seed).integers(0, len(measured), (5, horizon))
    assert (found.drawn_CT == drawn).all()
    assert found.crossed_C.tolist() == [crossing([measured[i] for i in row]) for row in drawn]
    assert (found.tokens_CT[:, -1] == 140 * horizon).all()


def test_forks_alone_make_a_sequence_cross() -> None:
    """Each mismatch may be a rounding; that all of them gain may not."""
    for forks in (THRESHOLDS.mismatches.drift // 4, -THRESHOLDS.mismatches.drift // 4):
        found = figures.sequences(
            [stats(140, forks=forks)], THRESHOLDS, count=1, horizon=20, seed=0
        )
        assert 4 <= found.crossed_C[0] == found.condemned_C[0] < 20


def test_a_group_condemned_alone_ends_a_sequence_before_the_sum_does() -> None:
    measured = [stats(0, margin=NANO)]
    found = figures.sequences(measured, THRESHOLDS, count=2, horizon=20, seed=0)
    assert found.condemned_C.tolist() == [1, 1]
    assert (found.crossed_C > 3).all()  # three groups condemn nobody by themselves
    delay = figures.delay(found.condemned_C, found.tokens_CT)
    assert (delay.median_groups, delay.p95_tokens) == (1, 140)


def test_rewards_count_as_moved_until_a_worker_is_found() -> None:
    drawn = figures.Sequences(
        crossed_C=np.array([0, 0]),
        condemned_C=np.array([2, 0]),
        drawn_CT=np.array([[0, 1, 1, 1], [0, 0, 1, 0]]),
        tokens_CT=np.full((2, 4), 10).cumsum(axis=1),
    )
    # A half over two groups; over all four of the one that nobody finds a quarter.
    assert figures.moved_until(np.array([0.0, 1.0]), drawn) == pytest.approx((0.5 + 0.25) / 2)


def test_the_right_claims_leave_no_gap_and_every_token_as_it_was() -> None:
    [group] = figures.without_gap([stats(130, margin=5, gap=70, forks=3)])
    assert group == stats(130, margin=5, gap=0, forks=3)
    assert judge(stats(140, gap=NANO), THRESHOLDS) is not None
    assert judge(stats(140), THRESHOLDS) is None


def test_a_delay_beyond_the_horizon_is_none() -> None:
    tokens = np.full((4, 10), 10).cumsum(axis=1)
    delay = figures.delay(np.array([1, 2, 0, 0]), tokens)
    assert (delay.median_groups, delay.median_tokens) == (2, 20)
    assert (delay.p95_groups, delay.p95_tokens) == (None, None)


def test_the_area_counts_pairs_and_half_the_ties() -> None:
    honest, cheat = np.array([0.0, 0.0, 1.0, 3.0]), np.array([0.0, 2.0, 3.0])
    pairs = [(c > h) + 0.5 * (c == h) for c in cheat for h in honest]
    assert figures.area(honest, cheat) == pytest.approx(np.mean(pairs))


def test_grails_sketch_is_bounded_so_that_a_constant_zero_passes() -> None:
    """16 × 7 × 127 = 14,224 at most; of random coefficients, hardly ever beyond 6,000."""
    assert peers.LARGEST_SKETCH == 14_224
    extreme = torch.full((1, 16), 1e9)
    every = np.arange(16)[None]
    largest = peers.sketches(extreme, every, np.full(16, 127))
    assert largest.tolist() == [14_224]
    draws = np.random.default_rng(0)
    beyond = [
        abs(peers.sketches(extreme, every, peers.coefficients_of(draws))[0]) > 6_000
        for _ in range(4_000)
    ]
    # The worst case of 16 activations beyond every bucket; a model's are in buckets 0 to 2.
    assert np.mean(beyond) < 0.01
    usual = torch.randn(2_000, 16, generator=torch.Generator().manual_seed(0)) * 3
    zero = peers.sketches(usual, np.repeat(every, 2_000, axis=0), peers.coefficients_of(draws))
    assert (np.abs(zero) <= peers.tolerances(np.arange(2_000))).all()


def test_buckets_are_grails_to_the_number() -> None:
    values = np.array([0.0, 5e-7, 1.0, 1.4, -5.0, 100.0, 1e9, -np.inf])
    assert peers.buckets(values).tolist() == [0, 0, 0, 1, -2, 5, 7, -7]


def test_admission_takes_every_attack(tmp_path: Path) -> None:
    """With replay off each of them is paid; those that serve trained policies sample as honest work."""
    bench = Bench.open("transformers", Policies("demo", tmp_path, 0), num_groups=2)
    leases = bench.leases()
    for attack in (a for a in attacks().values() if not a.needs):
        for lease, group in zip(leases, attack.cheat(bench, leases), strict=True):
            submission = submission_of(lease, group)
            assert admit(lease, submission, TERMS, newest_version=0) is None, attack.name


def test_an_fp8_cache_gives_back_what_e4m3_can_hold() -> None:
    cache = Fp8Cache(config=AutoConfig.from_pretrained(START))
    states = torch.randn(1, 2, 5, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    keys, values = cache.update(states, -states, 0)
    for held in (keys, -values):
        assert torch.equal(held, states.to(torch.float8_e4m3fn).bfloat16())
        assert not torch.equal(held, states)
        # Three bits of mantissa: half a step is a sixteenth of the power of two below.
        assert ((held - states).abs() <= states.abs() / 16 + 2**-10).all()


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    groups = [
        (Rollout.of([3, 4, 2], [-1, -2, -3]), Rollout.of([2], [-0.5])),
        (Rollout.of([5], [-4]), Rollout.of([6, 2], [0, -1])),
    ]
    path = tmp_path / "sub" / "kept.npz"
    assert record.read(Sampled, path) is None
    record.write(Sampled.of(groups), path)
    kept = record.read(Sampled, path)
    assert kept is not None
    assert kept.groups() == groups
    assert kept.num_tokens().tolist() == [4, 3]
    other = Sampled.of([groups[0], (groups[1][0], Rollout.of([7, 2], [0, -1]))])
    assert kept.differs_from(other).tolist() == [[False, False], [False, True]]


def test_rollouts_add_up_to_their_groups() -> None:
    parts = [
        [stats(130, margin=7), stats(140, gap=5)],
        [stats(139, margin=2), stats(138, margin=3)],
    ]
    kept = record.Replayed(
        np.full((2, 2), 140),
        np.zeros(560, np.float32),
        np.zeros(560, np.float32),
        np.stack([record.rows_of(group) for group in parts]),
    )
    assert kept.of_rollouts() == [one for group in parts for one in group]
    first, second = kept.stats()
    assert (first.num_tokens, first.num_matched, first.gap_nanonats) == (280, 270, 5)
    assert (first.max_margin_nanonats, second.max_margin_nanonats) == (7, 3)
    assert (second.margin_nanonats, second.num_wrong) == (5, 3)


def test_condemned_groups_are_called_what_they_are(tmp_path: Path) -> None:
    """What several names explain gets none: after a prefill, or as top-p and a colder temperature do."""
    wanted = chosen(["seed", "greedy", "top-p", "int4"], "demo")
    policies = Policies("demo", tmp_path, 0)
    lab = Lab(policies, wanted, ["transformers"], ["transformers"], 3, num_named=3, compares=False)
    lab.prepare()
    for row in rows(lab, "transformers", "transformers"):
        if row.attack.is_honest:
            assert row.handed_in.naming.count == 0
            continue
        for claims in AIMS:
            assert row.caught[claims].naming.count > 0
            assert row.named_wrong(claims) == 0.0, row.attack.name
        if row.attack.name in ("greedy", "int4"):
            assert row.named_right(HANDED_IN) == 1.0, row.attack.name
            assert row.handed_in.naming.consequences == {Consequence.NAMED: 1.0}, row.attack.name


def test_a_policy_some_steps_on_is_made_once_and_differs_by_its_steps(tmp_path: Path) -> None:
    how = Reinforcement(groups_per_step=4, learning_rate=1e-3)
    later = policy_after(START, how, num_steps=2, seed=0, cache=tmp_path)
    exact = read_weights(START / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    moved = (tensor_of(later[name]).float() - tensor_of(exact[name]).float()).abs()
    # AdamW's first steps move each weight by at most the rate, which bfloat16 may round up.
    assert 1e-4 < moved.max() < 5e-3
    again = policy_after(START, how, num_steps=2, seed=0, cache=tmp_path)
    assert all((again[n].bits == later[n].bits).all() for n in later)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1


def test_a_small_run_goes_through_everything_and_is_deterministic(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(name: str, *more: str) -> dict[str, object]:
        out = tmp_path / f"{name}.json"
        arguments = ["--groups", "4", "--sampler", "transformers", "--cache", str(tmp_path / name)]
        assert main([*arguments, "--attack", "int4", "--json", str(out), *more]) == 0
        return dict(json.loads(out.read_text()))

    first = run("first", "--plots", str(tmp_path))
    assert "int4 weights" in capsys.readouterr().out
    assert (tmp_path / "demo-transformers-transformers-roc.png").stat().st_size > 10_000
    assert (tmp_path / "demo-transformers-transformers-delay.png").stat().st_size > 10_000
    assert run("second") == first
