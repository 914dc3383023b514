"""Capturing hidden states: what an engine keeps is what a prefill recomputes, however it arrives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from protocol.activation_policy import ActivationPolicy, judge_activations
from protocol.activations import BadProof, Deviation
from protocol.activations import prove as prove_bits
from protocol.verdict import Rejection
from rollout_worker.activations import Tape, compare, prove
from rollout_worker.engines.contest import Claims
from rollout_worker.engines.vllm_replay import Sequences, _Replay

WIDTH = 128


def hidden(length: int, *, seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(length, WIDTH, generator=draw).bfloat16()


def same(proofs: bytes, states: Tensor) -> bool:
    """Whether the proofs are of exactly these states: of equal magnitudes either may be the last."""
    found = compare(proofs, states)
    return all(d.exponent_mismatches <= 4 and d.mantissa_error_mean < 3 for d in found)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 100), min_size=1, max_size=6), st.integers(0, 2), st.booleans())
def test_a_tape_proves_what_was_written_step_by_step(
    lengths: list[int], beyond: int, is_reversed: bool
) -> None:
    states = [hidden(n + beyond, seed=i) for i, n in enumerate(lengths)]
    tape = Tape(len(lengths))
    for step in range(max(map(len, states))):
        live = [i for i, rows in enumerate(states) if step < len(rows)]
        live = live[::-1] if is_reversed else live
        tape.write(live, [step] * len(live), torch.stack([states[i][step] for i in live]))
    if beyond > 1:
        return  # one step beyond the end is what engines may run, not two
    for proofs, rows, length in zip(tape.proofs(lengths), states, lengths, strict=True):
        assert same(proofs, rows[:length])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 120), st.lists(st.integers(1, 50), min_size=1, max_size=8))
def test_a_prefill_in_pieces_is_one_prefill(length: int, cuts: list[int]) -> None:
    states, other = hidden(length, seed=1), hidden(40, seed=2)
    tape, place = Tape(2), 0
    tape.extend(1, 0, other)
    for cut in [*cuts, length]:
        tape.extend(0, place, states[place : place + cut])
        place = min(length, place + cut)
    assert tape.proofs([length, 40]) == [prove(states), prove(other)]
    [found, none] = tape.deviations([prove(states), b""], [length, 40])
    assert len(found) == -(-length // 32) and none == ()
    assert all(d.exponent_mismatches == 0 and d.mantissa_error_mean == 0 for d in found)


def test_a_preempted_rollout_that_is_written_again_proves_the_same() -> None:
    states, tape = hidden(50, seed=3), Tape(1)
    tape.extend(0, 0, states[:40])
    tape.extend(0, 0, states)
    assert tape.proofs([50]) == [prove(states)]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.booleans())
def test_a_replay_in_vllms_steps_compares_every_position_once(
    steps: list[int], is_preempted: bool
) -> None:
    """Sequences 7 and 8 of an engine, of 5 + 40 and 3 + 33 tokens, prefilled in pieces."""
    prompts, lengths = [5, 3], [40, 33]
    contexts = [
        hidden(p + n - 1, seed=i) for i, (p, n) in enumerate(zip(prompts, lengths, strict=True))
    ]
    states = [c[p - 1 :] for c, p in zip(contexts, prompts, strict=True)]
    nothing = torch.zeros(sum(lengths), dtype=torch.int64)
    claims = Claims(nothing, nothing, nothing, nothing.float())
    replay = _Replay(Sequences(7, prompts, lengths, claims, [prove(rows) for rows in states]))
    for row in (1, 0):
        for pieces in ([3] if is_preempted else [], [*steps, 100]):
            computed = 0
            for step in pieces:
                ran = min(step, len(contexts[row]) - computed)
                claimed, places = replay.wanted(f"{7 + row}-abcd1234", computed, ran)
                in_step = contexts[row][computed : computed + ran]
                replay.record(claimed, in_step[places.start : places.stop])
                computed += ran
    found = replay.deviations()
    assert [len(deviations) for deviations in found] == [2, 2]
    assert all(same.exponent_mismatches == 0 for deviations in found for same in deviations)


def test_torch_and_numpy_choose_the_same_points() -> None:
    states = hidden(70, seed=4)
    bits = states.view(torch.int16).numpy().view("<u2")
    assert same(prove_bits(bits), states) and same(prove(states), states)


def test_a_rollout_longer_than_what_was_seen_has_no_proof() -> None:
    tape = Tape(2)
    tape.write([0], [0], hidden(1, seed=5))
    assert tape.proofs([1, 0])[1] == b""
    with pytest.raises(RuntimeError, match="rollout 0 has 2 tokens, hidden states of 1"):
        tape.proofs([2, 0])


def test_a_model_too_narrow_to_commit_is_refused() -> None:
    with pytest.raises(BadProof, match="64 activations are fewer than 128"):
        prove(torch.ones(1, 64))


@pytest.mark.parametrize(
    ("found", "passes"),
    [
        (Deviation(38, 10.0, 8.0), True),
        (Deviation(39, 10.0, 8.0), False),
        (Deviation(38, 10.1, 8.0), False),
        (Deviation(38, 10.0, 8.5), False),
        (Deviation(128, float("inf"), float("inf")), False),
    ],
)
def test_the_published_bounds_are_the_default(found: Deviation, passes: bool) -> None:
    fine = Deviation(0, 0.0, 0.0)
    broken = judge_activations([(fine,), (fine, found)], ActivationPolicy())
    assert (broken is None) == passes
    if broken is not None:
        assert broken[0] is Rejection.REPLAY_ACTIVATIONS
        assert "rollout 1, tokens from 32" in broken[1]


def test_a_rollout_without_any_is_condemned_whatever_admission_did() -> None:
    broken = judge_activations([(Deviation(0, 0.0, 0.0),), ()], ActivationPolicy())
    assert broken == (Rejection.BAD_ACTIVATIONS, "rollout 1 carries no activation commitments")
