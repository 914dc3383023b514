"""Attack: whoever serves blobs leaves one out, cuts one short, or swaps two. Over a real socket."""

from dataclasses import replace

import httpx
import pytest

from client.policies import PolicyCache, PolicyUnreachable
from protocol.policies.patch import from_anchor
from tests.stage.front import MISSING, Answered, Asked, blob_path
from tests.stage.policies import Policies, same


def at_version_0(policies: Policies) -> PolicyCache:
    """Return the copy of a worker that has version 0."""
    store = policies.cache()
    store.reach(0, policies.digest(0))
    return store


def first_chunk(policies: Policies) -> bytes:
    """Return the digest of the first part of the patch to version 1."""
    return policies.manifests[1].manifest.patches[0].chunks[0].digest


def require_old_policy_in_place(store: PolicyCache, policies: Policies) -> None:
    assert store.held() == (0,)
    assert same(store.reach(0, policies.digest(0)).weights, policies.weights[0])


def test_a_missing_chunk_leaves_the_old_policy_and_heals_when_it_returns(
    policies: Policies,
) -> None:
    store = at_version_0(policies.grow(2))
    policies.front.lies[blob_path(first_chunk(policies))] = MISSING
    with pytest.raises(PolicyUnreachable, match="left out"):
        store.reach(1, policies.digest(1))
    require_old_policy_in_place(store, policies)
    policies.front.lies.clear()
    assert same(store.reach(1, policies.digest(1)).weights, policies.weights[1])


def test_a_missing_chunk_of_a_patch_is_passed_by_with_the_anchor(policies: Policies) -> None:
    store = at_version_0(policies.grow(2, anchor_every=1))
    policies.front.lies[blob_path(first_chunk(policies))] = MISSING
    assert same(store.reach(1, policies.digest(1)).weights, policies.weights[1])


def test_a_truncated_blob_passes_for_whole_without_its_digest_and_not_with_it(
    policies: Policies,
) -> None:
    store = at_version_0(policies.grow(2))
    chunk = first_chunk(policies)
    path = blob_path(chunk)
    policies.front.lies[path] = Answered(200, policies.blob(chunk)[:-7])
    answer = httpx.get(policies.front.url + path)
    assert answer.status_code == 200  # HTTP alone says that nothing is amiss
    with pytest.raises(PolicyUnreachable, match="whose digest is"):
        store.reach(1, policies.digest(1))
    require_old_policy_in_place(store, policies)


def test_swapped_chunks_make_other_weights_without_their_digests_and_none_with_them(
    policies: Policies,
) -> None:
    """Two chunks inside the tensor data change places: the file still reads as safetensors."""
    store = at_version_0(policies.grow(2, anchor_every=1))
    policies.front.lies[blob_path(first_chunk(policies))] = MISSING
    anchor = policies.manifests[1].manifest.anchor
    parts = [policies.blob(chunk.digest) for chunk in anchor]
    assert anchor[1].size == anchor[2].size
    parts[1], parts[2] = parts[2], parts[1]
    for chunk, part in zip(anchor[1:3], parts[1:3], strict=True):
        policies.front.lies[blob_path(chunk.digest)] = Answered(200, part)
    assert not same(from_anchor(b"".join(parts)), policies.weights[1])
    with pytest.raises(PolicyUnreachable, match="whose digest is"):
        store.reach(1, policies.digest(1))
    require_old_policy_in_place(store, policies)


def test_a_download_that_always_breaks_off_is_given_up_with_the_old_policy_in_place(
    policies: Policies,
) -> None:
    store = at_version_0(policies.grow(2))
    path = blob_path(first_chunk(policies))

    def always_cut(asked: Asked, answered: Answered | None) -> Answered | None:
        return replace(answered, cut=3) if answered and asked.path == path else None

    policies.front.fault = always_cut
    asked = iter([False] * 5 + [True] * 5)
    with pytest.raises(Exception, match="gave up"):
        store.reach(1, policies.digest(1), give_up=lambda: next(asked))
    require_old_policy_in_place(store, policies)
