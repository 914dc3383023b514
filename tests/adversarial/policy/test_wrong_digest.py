"""Attack: a patch or anchor that reads well but leads to other weights than the manifest signs."""

import pytest

from client.policies import PolicyUnreachable
from protocol.policies.manifest import PatchEntry, entries
from protocol.policies.patch import anchor_bytes, apply, encode, from_anchor
from tests.rollout_worker.test_weights import Direct, digest_of, same, store_of
from tests.stage.policies import Shelf, first_weights, shelf_of, stepped


def poison_patch(shelf: Shelf) -> None:
    """The trainer's own key signs version 1 with a patch to somewhere else (a bug, or a thief)."""
    evil = encode(shelf.weights[0], stepped(shelf.weights[0], seed=666))
    patches = (PatchEntry(base_version=0, chunks=shelf.put(evil)),)
    manifest = shelf.manifests[1].manifest
    shelf.sign(manifest.model_copy(update={"patches": patches}))


def test_without_the_digests_the_wrong_patch_applies() -> None:
    old, evil = first_weights(), stepped(first_weights(), seed=666)
    applied = apply(old, encode(old, evil), entries(evil), max_bytes=1 << 20)
    assert same(applied, evil)


def test_a_wrong_patch_is_refused_and_the_old_policy_stays() -> None:
    shelf = shelf_of(2)
    poison_patch(shelf)
    store = store_of(Direct(shelf))
    held = store.reach(0, digest_of(shelf, 0))
    with pytest.raises(PolicyUnreachable, match="tensors are not as the manifest promises"):
        store.reach(1, digest_of(shelf, 1))
    assert store.held() == (0,)
    assert same(store.reach(0, digest_of(shelf, 0)).weights, held.weights)


def test_a_wrong_patch_is_passed_by_where_an_anchor_leads_to_the_version() -> None:
    shelf = shelf_of(2, anchor_every=1)
    poison_patch(shelf)
    source = Direct(shelf)
    store = store_of(source)
    store.reach(0, digest_of(shelf, 0))
    source.kinds.clear()
    assert same(store.reach(1, digest_of(shelf, 1)).weights, shelf.weights[1])
    assert source.kinds == ["patch", "anchor"]


def test_a_wrong_anchor_is_refused_though_it_reads_well() -> None:
    shelf = shelf_of(1)
    evil = anchor_bytes(stepped(shelf.weights[0], seed=666))
    assert from_anchor(evil).keys() == shelf.weights[0].keys()
    manifest = shelf.manifests[0].manifest.model_copy(update={"anchor": shelf.put(evil)})
    shelf.sign(manifest)
    store = store_of(Direct(shelf))
    with pytest.raises(PolicyUnreachable, match="tensors are not as the manifest promises"):
        store.reach(0, digest_of(shelf, 0))
    assert store.held() == ()
