"""Reliquary's rule as the lab judges by it, and the cheats that edit what was drawn."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.attacks import edits, reliquary
from benchmarks.attacks.bench import Bench, Policies
from benchmarks.attacks.cheats import attacks
from benchmarks.attacks.record import Drawn
from protocol.rollout import Lease, Rollout
from rollout_worker.replay import nucleus

NUM_GROUPS = 6
Groups = Sequence[tuple[Rollout, ...]]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("attacks")


@pytest.fixture(scope="module")
def gumbel(cache: Path) -> Bench:
    return Bench.open("transformers", Policies("demo", cache, 0), num_groups=NUM_GROUPS)


@pytest.fixture(scope="module")
def inverse(cache: Path) -> Bench:
    return Bench.open(reliquary.NAME, Policies("demo", cache, 0), num_groups=NUM_GROUPS)


def cheated(bench: Bench, name: str) -> tuple[list[Lease], Groups]:
    leases = bench.leases()
    return leases, attacks()[name].cheat(bench, leases)


def judged(bench: Bench, name: str) -> Drawn:
    leases, groups = cheated(bench, name)
    return reliquary.drawn(bench.reader, list(zip(leases, groups, strict=True)))


def seen(counted: int, matched: int, *, sure: int = 0, miss: float = 0.1) -> Drawn:
    """Return a group of two rollouts: one with these positions, one that is sure of everything."""
    misses = np.zeros(counted + sure + 1, dtype=np.float32)
    misses[matched:counted] = miss
    peaks = np.full(counted + sure + 1, 0.995, dtype=np.float32)
    peaks[:counted] = 0.5
    return Drawn(np.array([[counted + sure, 1]]), peaks, misses)


def rejects(seen: Drawn, *, has_gate: bool = False) -> bool:
    return bool(reliquary.rejects(seen, has_gate=has_gate)[0])


def test_the_first_id_whose_cumulative_probability_exceeds_the_uniform_is_drawn() -> None:
    chance = np.random.default_rng(0)
    logits = chance.normal(size=(400, 50)).astype(np.float32)
    seeds, positions = chance.integers(0, 1 << 63, 400), np.arange(400)
    uniforms = reliquary.uniforms(torch.from_numpy(seeds), torch.from_numpy(positions)).numpy()
    expected = []
    for row, u in zip(logits.astype(np.float64), uniforms, strict=True):
        shares = np.exp(row) / np.exp(row).sum()
        expected.append(next(i for i in range(50) if shares[: i + 1].sum() > u))
    found = reliquary.pick(
        torch.from_numpy(logits), torch.from_numpy(seeds), torch.from_numpy(positions)
    )
    # A uniform within float32's rounding of a border may fall on either side.
    assert (found.numpy() == np.array(expected)).mean() > 0.99
    assert 0 <= uniforms.min() < 0.02 and 0.98 < uniforms.max() < 1


def test_a_token_is_missed_by_the_distance_from_its_interval() -> None:
    scaled = torch.tensor([0.2, 0.5, 0.3]).log().repeat(4, 1)
    tokens, uniforms = torch.tensor([1, 1, 1, 0]), torch.tensor([0.4, 0.1, 0.9, 0.2])
    missed = reliquary.missed_by(scaled, tokens, uniforms)
    assert missed.tolist() == pytest.approx([0.0, 0.1, 0.2, 0.0], abs=1e-6)
    assert missed[0] == 0


def test_floors_hold_on_both_sides_and_abstain_below_their_positions() -> None:
    # 0.8 of a group, which a rollout alone reaches as well.
    assert not rejects(seen(40, 32))
    assert rejects(seen(40, 31))
    assert not rejects(seen(29, 21))  # 0.72, too few for the group's floor, above the rollout's
    assert rejects(seen(29, 20))
    assert not rejects(seen(20, 14))
    assert rejects(seen(20, 13))
    assert not rejects(seen(19, 0))
    assert not rejects(seen(0, 0, sure=200))


def test_the_gate_rejects_one_token_far_from_its_interval_and_lets_a_near_one_pass() -> None:
    assert not rejects(seen(40, 39, miss=0.5))
    assert rejects(seen(40, 39, miss=0.5), has_gate=True)
    assert not rejects(seen(40, 39, miss=0.0019), has_gate=True)
    # A near one still is no match for the floors.
    assert rejects(seen(40, 31, miss=0.0019), has_gate=True)


def test_honest_inverse_cdf_work_passes_the_floors_and_another_seed_does_not(
    inverse: Bench,
) -> None:
    honest = judged(inverse, "honest")
    assert not reliquary.rejects(honest, has_gate=False).any()
    assert reliquary.matched(honest) > 0.97
    assert reliquary.matched(judged(inverse, "seed")) < 0.8


def test_the_floors_leave_a_fifth_of_the_tokens_free(inverse: Bench) -> None:
    """Rounded weights, colder sampling and top-p change less than that."""
    for name in ("int8", "t097", "top-p"):
        cheat = judged(inverse, name)
        assert not reliquary.rejects(cheat, has_gate=False).any(), name


def test_top_p_draws_what_the_seeds_draw_inside_the_nucleus(gumbel: Bench) -> None:
    _, honest = cheated(gumbel, "honest")
    leases, groups = cheated(gumbel, "top-p")
    assert groups != honest
    drawn = same = 0
    for lease, group in zip(leases, groups, strict=True):
        for read in edits._read(gumbel, lease, group, range(len(group))):
            inside = nucleus.within_nucleus(read.scaled_NV, torch.ones(len(read.scaled_NV)), 0.95)
            drawn += len(read.tokens_N)
            winners = edits.seeded(inside, read.seeds_N, read.positions_N)
            same += int((winners == read.tokens_N).sum())
            assert (
                inside.gather(1, read.tokens_N[:, None]) > nucleus.OUTSIDE
            ).float().mean() > 0.99
    assert same / drawn > 0.99


def test_the_nucleus_is_the_fewest_tokens_that_reach_its_share() -> None:
    def kept(share: float, temperature: float = 1.0) -> list[bool]:
        logits = torch.tensor([[0.1, 0.6, 0.06, 0.24]]).log() * temperature
        inside = nucleus.within_nucleus(logits, torch.tensor([temperature]), share)
        return list((inside > nucleus.OUTSIDE)[0].tolist())

    assert all(kept(0.95))
    assert kept(0.9) == kept(0.9, temperature=2.0) == [True, True, False, True]
    assert kept(0.8) == [False, True, False, True]
    assert kept(0.01) == [False, True, False, False]


def test_near_ties_name_the_runner_up() -> None:
    values = torch.tensor([[1.0, 3.0, 2.995], [0.0, 5.0, 4.0], [2.0, 2.005, -1.0]])
    assert edits.near_ties(values, 0.01) == [(0, 2), (2, 0)]


def test_forks_move_rewards_only_the_way_they_are_wanted(gumbel: Bench) -> None:
    """With leads as wide as two nats there is something to fork in six groups."""
    leases, honest = cheated(gumbel, "honest")

    def rewards(groups: Groups) -> list[int]:
        pairs = zip(leases, groups, strict=True)
        return [gumbel.score(lease, rollout) for lease, group in pairs for rollout in group]

    before = rewards(honest)
    for is_raising in (True, False):
        forked = edits.forked(gumbel, leases, lead=2.0, is_raising=is_raising)
        after = rewards(forked)
        moves = np.subtract(after, before) * (1 if is_raising else -1)
        assert (moves >= 0).all() and (moves > 0).any()
        flat = [
            (a, b) for x, y in zip(honest, forked, strict=True) for a, b in zip(x, y, strict=True)
        ]
        assert all(moved > 0 or mine == its for moved, (mine, its) in zip(moves, flat, strict=True))
    assert edits.forked(gumbel, leases, lead=0.0, is_raising=True) == list(honest)


def test_a_tail_keeps_the_honest_head(gumbel: Bench) -> None:
    _, honest = cheated(gumbel, "honest")
    _, groups = cheated(gumbel, "tail-seed")
    assert groups != honest
    for mine, its in zip(honest, groups, strict=True):
        for a, b in zip(mine, its, strict=True):
            half = len(a.token_ids()) // 2
            assert (a.token_ids()[:half] == b.token_ids()[:half]).all()


def test_fp8_in_one_request_leaves_the_others_honest(gumbel: Bench) -> None:
    _, honest = cheated(gumbel, "honest")
    _, groups = cheated(gumbel, "fp8-one")
    _, every = cheated(gumbel, "fp8")
    assert [group[1:] for group in groups] == [group[1:] for group in honest]
    assert any(
        one[0].logprobs != mine[0].logprobs for one, mine in zip(groups, honest, strict=True)
    )
    assert len(every) == len(groups)
