"""The attack lab's benchmark: its arithmetic against plain references, and a small run through it all."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.attacks import figures, peers
from benchmarks.attacks.__main__ import main
from benchmarks.attacks.models import START
from protocol.constants import MICRO
from protocol.sequential import Drift, crossed, folded
from protocol.verdict import ReplayStats, Thresholds

THRESHOLDS = Thresholds.from_json(
    json.dumps(json.loads((START / "thresholds.json").read_text())[0])
)


def stats(num_matched: int, *, margin: int = 0, gap: int = 0, num_tokens: int = 140) -> ReplayStats:
    return ReplayStats(
        num_tokens=num_tokens,
        num_matched=num_matched,
        mean_margin_micronats=margin,
        max_margin_micronats=margin,
        mean_logprob_gap_micronats=gap,
        p99_logprob_gap_micronats=gap,
    )


def crossing(measured: Sequence[ReplayStats]) -> int:
    """Return the group at which the protocol's own test crosses, from 1; 0 for never."""
    drift = Drift()
    for count, group in enumerate(measured, 1):
        drift = folded(drift, group, THRESHOLDS)
        if crossed(drift, THRESHOLDS):
            return count
    return 0


@pytest.mark.parametrize("matched", [140, 139, 137, 120])
def test_sequences_cross_where_the_protocols_test_does(matched: int) -> None:
    measured = [stats(140), stats(matched, margin=(140 - matched) * 700), stats(140)]
    seed, horizon = 3, 200
    found, _, tokens = figures.sequences(measured, THRESHOLDS, count=5, horizon=horizon, seed=seed)
    drawn = np.random.default_rng(seed).integers(0, len(measured), (5, horizon))
    assert found.tolist() == [crossing([measured[i] for i in row]) for row in drawn]
    assert (tokens[:, -1] == 140 * horizon).all()


def test_a_group_condemned_alone_ends_a_sequence_before_the_sum_does() -> None:
    measured = [stats(0, margin=MICRO)]
    crossed_at, condemned_at, tokens = figures.sequences(
        measured, THRESHOLDS, count=2, horizon=20, seed=0
    )
    assert condemned_at.tolist() == [1, 1]
    assert (crossed_at > 3).all()  # three groups condemn nobody by themselves
    delay = figures.delay(condemned_at, tokens)
    assert (delay.median_groups, delay.p95_tokens) == (1, 140)


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
