"""Policies are reached by patch, skip patch and anchor, whichever is cheapest and whole."""

import json
from pathlib import Path

import pytest
from safetensors import deserialize

from client.policies import PolicyUnreachable, write_model_folder
from protocol.architectures import why_unfit
from tests.stage.policies import Policies, first_weights, same
from tests.stage.terms import make_spec


def test_a_newcomer_takes_the_anchor_and_the_next_version_costs_a_patch(policies: Policies) -> None:
    policies.grow(3)
    store = policies.cache()
    first = store.reach(0, policies.digest(0))
    second = store.reach(1, policies.digest(1))
    assert policies.kinds == ["anchor", "patch"]
    assert same(first.weights, policies.weights[0])
    assert same(second.weights, policies.weights[1])


def test_a_version_in_hand_costs_nothing(policies: Policies) -> None:
    policies.grow(2)
    store = policies.cache()
    store.reach(1, policies.digest(1))
    policies.kinds.clear()
    store.reach(1, policies.digest(1))
    assert policies.kinds == []


def test_a_worker_that_fell_behind_takes_a_skip_patch(policies: Policies) -> None:
    policies.grow(9, skips=(2, 4, 8))
    store = policies.cache()
    store.reach(4, policies.digest(4))
    policies.kinds.clear()
    reached = store.reach(8, policies.digest(8))
    assert policies.kinds == ["skip_patch"]
    assert same(reached.weights, policies.weights[8])


def test_a_newcomer_combines_the_anchor_with_patches_and_skips(policies: Policies) -> None:
    policies.grow(8, anchor_every=5, skips=(2,))
    reached = policies.cache().reach(7, policies.digest(7))
    assert policies.kinds == ["anchor", "skip_patch"]
    assert same(reached.weights, policies.weights[7])


def test_an_older_version_is_reached_again_for_a_late_replay(policies: Policies) -> None:
    policies.grow(6, anchor_every=3)
    store = policies.cache(keep=1)
    store.reach(5, policies.digest(5))
    older = store.reach(2, policies.digest(2))
    assert same(older.weights, policies.weights[2])


def test_without_a_whole_way_the_error_says_why_and_the_old_policy_stays(
    policies: Policies,
) -> None:
    policies.grow(2)
    store = policies.cache()
    held = store.reach(0, policies.digest(0))
    with pytest.raises(PolicyUnreachable, match="the lease"):
        store.reach(1, bytes(32))
    assert store.held() == (0,)
    assert store.reach(0, policies.digest(0)) is held


def test_a_model_folder_holds_the_exact_weights(tmp_path: Path) -> None:
    weights = first_weights()
    write_model_folder(tmp_path / "model", b"{}", weights)
    read = dict(deserialize((tmp_path / "model" / "model.safetensors").read_bytes()))
    assert (tmp_path / "model" / "config.json").read_bytes() == b"{}"
    for name, tensor in weights.items():
        assert bytes(read[name]["data"]) == tensor.bits.tobytes()


def test_a_run_needs_no_more_positions_than_its_model_has() -> None:
    config = json.dumps({"model_type": "llama", "max_position_embeddings": 32}).encode()
    assert why_unfit(config, make_spec(max_prompt_tokens=16, max_tokens=16)) is None
    longer = make_spec(max_prompt_tokens=16, max_tokens=17)
    assert "do not fit the model's 32 positions" in str(why_unfit(config, longer))
    assert why_unfit(b'{"model_type": "llama"}', longer) is None
    assert "model_type '' are not known" in str(why_unfit(b"{}", longer))
    assert "cannot be read" in str(why_unfit(b"[]", longer))
