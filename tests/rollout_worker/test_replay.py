"""Hold replay to a reference of a few lines, and to its bounds on memory and on strangers' values."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import LlamaConfig, LlamaForCausalLM

from protocol import sampling
from protocol.constants import NANO, SURPRISAL_FLOOR_NATS
from protocol.environments.arithmetic import Arithmetic
from protocol.precision import ComputeDtype
from protocol.rollout import Lease, Rollout
from protocol.verdict import ReplayStats
from rollout_worker.config import ReplayConfig
from rollout_worker.engines.causal import CausalModel
from rollout_worker.engines.registry import open_engine
from rollout_worker.generate import generate_groups
from rollout_worker.replay.calibrate import workload_of
from rollout_worker.replay.measure import (
    LARGEST_NATS,
    Findings,
    Replayer,
    ReplayModel,
    Variant,
    mismatches_of,
    only,
    stats_of,
)
from rollout_worker.replay.nucleus import within_nucleus
from rollout_worker.replay.registry import open_replayer

MODEL = Path(__file__).parents[2] / "models" / "start"
EOS = 2
Work = list[tuple[Lease, tuple[Rollout, ...]]]


@cache
def honest() -> Work:
    leases = list(
        workload_of(MODEL, Arithmetic({}), num_groups=24, group_size=8, max_tokens=64).leases(
            salt=5
        )
    )
    engine = open_engine("transformers", MODEL, max_model_len=128)
    return list(zip(leases, generate_groups(engine, leases, eos_token_ids=(EOS,)), strict=True))


def replay(model: Replayer, lease: Lease, rollouts: tuple[Rollout, ...]) -> ReplayStats:
    """Replay one whole group with the weights that `model` holds."""
    [found] = model.findings([(lease, rollouts)])
    return stats_of(found)


def changed(rollout: Rollout, position: int, token: int) -> Rollout:
    tokens = rollout.token_ids().copy()
    tokens[position] = token
    return Rollout.of(tokens, rollout.worker_logprobs())


def by_reference(
    model: CausalModel, lease: Lease, seed: int, rollout: Rollout
) -> tuple[list[int], list[float]]:
    """Recompute winners and margins one token at a time, from the definition."""
    expected, margins = [], []
    for k, claimed in enumerate(rollout.token_ids().tolist()):
        context = [*lease.prompt, *rollout.token_ids()[:k].tolist()]
        with torch.inference_mode():
            hidden = model.decoder(input_ids=torch.tensor([context])).last_hidden_state
            logits = model.logits(hidden[:, -1]).numpy()
        values = sampling.noised(logits, [seed], [len(context) - 1], temperature=1.0)[0]
        expected.append(int(values.argmax()))
        margins.append(float(values.max() - values[claimed]))
    return expected, margins


def test_findings_equal_the_definition() -> None:
    reference, model = CausalModel(MODEL, device="cpu"), ReplayModel(MODEL)
    lease, group = honest()[3]
    tampered = (changed(group[0], 2, 50), *group[1:])
    for i, found in enumerate(model.findings([(lease, tampered)])[0][:2]):
        expected, margins = by_reference(reference, lease, lease.seeds[i], tampered[i])
        assert found.expected.tolist() == expected
        assert np.abs(found.margins - margins).max() < 1e-4  # float32 logits near 20


def test_an_honest_group_has_no_margin_and_one_false_token_is_named() -> None:
    model = ReplayModel(MODEL)
    lease, group = honest()[0]
    stats = replay(model, lease, group)
    assert stats.num_matched == stats.num_tokens == sum(len(r.token_ids()) for r in group)
    assert mismatches_of(model.findings([(lease, group)])[0]) == ()
    false = (*group[:5], changed(group[5], 1, 90), *group[6:])
    [found] = model.findings([(lease, false)])
    stats = stats_of(found)
    named = next(m for m in mismatches_of(found) if m.position == 1)
    assert (named.rollout, named.claimed) == (5, 90)
    assert named.expected == int(group[5].token_ids()[1])
    assert stats.num_matched < stats.num_tokens


def test_some_rollouts_are_measured_as_they_are_among_all() -> None:
    """What a draw picks of a group keeps its seeds, its places and, but for low bits, its figures."""
    model = ReplayModel(MODEL)
    lease, group = honest()[0]
    false = (*group[:5], changed(group[5], 1, 90), *group[6:])
    [whole] = model.findings([(lease, false)])
    [some] = model.findings([only(lease, false, (2, 5))])
    for ours, theirs in zip(some, (whole[2], whole[5]), strict=True):
        assert ours.expected.tolist() == theirs.expected.tolist()
        assert np.abs(ours.margins - theirs.margins).max() < 1e-4
    assert {m.rollout for m in mismatches_of(some, (2, 5))} == {5}
    wrong = stats_of(some).num_wrong
    assert wrong == stats_of(whole).num_wrong > 0
    forks = stats_of(some, [125_000, -375_000])
    assert (forks.forks_for_micro, forks.forks_against_micro) == (0, 375_000 * wrong)
    forks = stats_of(some, [-125_000, 375_000])
    assert (forks.forks_for_micro, forks.forks_against_micro) == (375_000 * wrong, 0)


def test_small_passes_find_what_large_ones_do() -> None:
    large, small = (
        [stats_of(found) for found in model.findings(honest())]
        for model in (
            ReplayModel(MODEL),
            ReplayModel(MODEL, max_pass_tokens=64, buffer_bytes=128 * 24 * 7),
        )
    )
    for a, b in zip(large, small, strict=True):
        assert a.num_tokens == b.num_tokens
        assert a.num_matched == b.num_matched
        assert abs(a.gap_nanonats - b.gap_nanonats) < 1e-5 * a.num_tokens * NANO


def test_a_nucleus_is_the_whole_vocabularys_however_little_of_it_is_held(tmp_path: Path) -> None:
    """Three blocks of a vocabulary of 5,000, and as few positions at once as the buffer holds."""
    small_model(tmp_path, vocabulary_size=5_000)
    model = CausalModel(tmp_path, device="cpu")
    lease = honest()[0][0]
    lease = lease.model_copy(update={"seeds": lease.seeds[:2]})
    group = tuple(drawn_within(model, lease, seed, nucleus=0.5) for seed in lease.seeds)
    for buffer_bytes in (1 << 18, 1 << 24):
        replayed = ReplayModel(tmp_path, buffer_bytes=buffer_bytes)
        cut, whole = replayed.under(lease, group, [Variant(nucleus=0.5), Variant()])
        assert [int((found.margins != 0).sum()) for found in cut] == [0, 0]
        assert sum(int((found.margins != 0).sum()) for found in whole) >= 2


def small_model(folder: Path, *, vocabulary_size: int) -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=vocabulary_size, initializer_range=0.5, **shape, **heads)
    LlamaForCausalLM(config).save_pretrained(folder)


def drawn_within(model: CausalModel, lease: Lease, seed: int, *, nucleus: float) -> Rollout:
    """Draw 32 tokens from the nucleus one at a time, from the definition."""
    tokens: list[int] = []
    for _ in range(32):
        context = [*lease.prompt, *tokens]
        with torch.inference_mode():
            hidden = model.decoder(input_ids=torch.tensor([context])).last_hidden_state
            cut = within_nucleus(model.logits(hidden[:, -1]), torch.ones(1), nucleus).numpy()
        values = sampling.noised(cut, [seed], [len(context) - 1], temperature=1.0)[0]
        tokens.append(int(values.argmax()))
    return Rollout.of(np.array(tokens, dtype=np.uint32), np.zeros(32, dtype=np.float32))


def test_a_verifiers_config_bounds_its_replay() -> None:
    config = ReplayConfig(max_pass_tokens=64, buffer_mib=1)
    lease, group = honest()[0]
    replayer = open_replayer(config, MODEL, dtype=ComputeDtype.FLOAT32, max_model_len=128)
    stats = replay(replayer, lease, group)
    assert stats.num_tokens == sum(len(r.token_ids()) for r in group)
    with pytest.raises(ValidationError, match="transformers"):
        ReplayConfig.model_validate({"engine": "llama"})


def test_an_engine_seed_belongs_to_its_rollout() -> None:
    model = ReplayModel(MODEL)
    lease, group = next((lease, g) for lease, g in honest() if len({r.tokens for r in g}) >= 3)
    turned = (*group[1:], group[0])
    stats = replay(model, lease, turned)
    assert stats.num_matched < stats.num_tokens


def test_stats_cap_margins_in_the_sum_and_not_in_the_maximum() -> None:
    found = Findings(
        claimed=np.zeros(4, dtype=np.uint32),
        expected=np.array([0, 1, 1, 0], dtype=np.uint32),
        margins=np.array([0.0, 0.5, 7.0, 0.0]),
        gaps=np.array([0.0, 0.1, 0.2, 0.3]),
        surprisals=np.array([0.0, 1.0, 2.0, 0.5]),
    )
    stats = stats_of([found])
    assert stats.num_matched == 2
    assert stats.margin_nanonats == 1_500_000_000
    assert stats.max_margin_nanonats == 7_000_000_000
    assert stats.gap_nanonats == 600_000_000
    assert stats.surprisal_nanonats == 3_500_000_000
    assert (stats.forks_for_micro, stats.forks_against_micro) == (0, 0)  # rewards are not known
    worst, second = mismatches_of([found])
    assert (worst.position, second.position) == (2, 1)


def test_only_the_worst_64_positions_are_named() -> None:
    found = Findings(
        claimed=np.zeros(100, dtype=np.uint32),
        expected=np.ones(100, dtype=np.uint32),
        margins=np.arange(1, 101).astype(np.float64),
        gaps=np.zeros(100),
        surprisals=np.zeros(100),
    )
    named = mismatches_of([found])
    assert [m.position for m in named] == list(range(99, 35, -1))


@pytest.mark.parametrize("lie", [float("nan"), float("-inf"), float("inf"), -3e38])
def test_any_float_has_an_integer_gap(lie: float) -> None:
    lease, group = honest()[0]
    first = Rollout.of(group[0].token_ids(), np.full(len(group[0].token_ids()), lie))
    stats = replay(ReplayModel(MODEL), lease, (first, *group[1:]))
    assert 0 < stats.gap_nanonats <= LARGEST_NATS * NANO * stats.num_tokens


def test_the_gap_of_a_sure_token_is_seen() -> None:
    lease, group = honest()[0]
    doubled = tuple(Rollout.of(r.token_ids(), 2 * r.worker_logprobs()) for r in group)
    stats = replay(ReplayModel(MODEL), lease, doubled)
    sure = np.concatenate([-r.worker_logprobs() for r in group])
    expected = np.log((SURPRISAL_FLOOR_NATS + 2 * sure) / (SURPRISAL_FLOOR_NATS + sure)).sum()
    assert stats.gap_nanonats / NANO == pytest.approx(expected, rel=1e-4)


def test_what_no_model_can_read_is_refused() -> None:
    model = ReplayModel(MODEL)
    lease, group = honest()[0]
    with pytest.raises(ValueError, match="7 rollouts under a lease of 8"):
        model.findings([(lease, group[:7])])
    with pytest.raises(ValueError, match="token 128 is outside"):
        model.findings([(lease, (changed(group[0], 0, 128), *group[1:]))])
    with pytest.raises(ValueError, match="0 tokens"):
        model.findings([(lease, (Rollout.of([], []), *group[1:]))])
