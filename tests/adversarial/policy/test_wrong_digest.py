"""Attack: a patch or anchor that reads well but leads to other weights than the manifest signs."""

import pytest

from client.policies import PolicyUnreachable
from protocol.policies.manifest import PatchEntry, entries
from protocol.policies.patch import anchor_bytes, apply, encode, from_anchor
from tests.stage.policies import Policies, first_weights, same, stepped


def poison_patch(policies: Policies) -> None:
    """The trainer's own key signs version 1 with a patch to somewhere else (a bug, or a thief)."""
    evil = encode(policies.weights[0], stepped(policies.weights[0], seed=666))
    patches = (PatchEntry(base_version=0, chunks=policies.put(evil)),)
    policies.serve(policies.manifests[1].manifest.model_copy(update={"patches": patches}))


def test_without_the_digests_the_wrong_patch_applies() -> None:
    old, evil = first_weights(), stepped(first_weights(), seed=666)
    applied = apply(old, encode(old, evil), entries(evil), max_bytes=1 << 20)
    assert same(applied, evil)


def test_a_wrong_patch_is_refused_and_the_old_policy_stays(policies: Policies) -> None:
    poison_patch(policies.grow(2))
    store = policies.cache()
    held = store.reach(0, policies.digest(0))
    with pytest.raises(PolicyUnreachable, match="tensors are not as the manifest promises"):
        store.reach(1, policies.digest(1))
    assert store.held() == (0,)
    assert same(store.reach(0, policies.digest(0)).weights, held.weights)


def test_a_wrong_patch_is_passed_by_where_an_anchor_leads_to_the_version(
    policies: Policies,
) -> None:
    poison_patch(policies.grow(2, anchor_every=1))
    store = policies.cache()
    store.reach(0, policies.digest(0))
    policies.kinds.clear()
    assert same(store.reach(1, policies.digest(1)).weights, policies.weights[1])
    assert policies.kinds == ["patch", "anchor"]


def test_a_wrong_anchor_is_refused_though_it_reads_well(policies: Policies) -> None:
    policies.grow(1)
    evil = anchor_bytes(stepped(policies.weights[0], seed=666))
    assert from_anchor(evil).keys() == policies.weights[0].keys()
    honest = policies.manifests[0].manifest
    policies.serve(honest.model_copy(update={"anchor": policies.put(evil)}))
    store = policies.cache()
    with pytest.raises(PolicyUnreachable, match="tensors are not as the manifest promises"):
        store.reach(0, policies.digest(0))
    assert store.held() == ()
