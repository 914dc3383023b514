"""Attack: whoever serves blobs leaves one out, cuts one short, or swaps two. Over a real socket."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from client.policies import PolicyCache, PolicyUnreachable
from client.worker import WorkerRoutes
from protocol.policies.patch import from_anchor
from tests.rollout_worker.test_client import market_at
from tests.rollout_worker.test_weights import digest_of, same
from tests.stage.policies import DOMAIN, RUN, Server, Shelf, serving, shelf_of


@contextmanager
def worker_at_version_0(
    shelf: Shelf, folder: Path
) -> Iterator[tuple[PolicyCache, WorkerRoutes, Server]]:
    with serving(shelf) as server, market_at(server.url, folder) as services:
        store = PolicyCache(services, run_id=RUN, spec=shelf.spec, domain=DOMAIN)
        store.reach(0, digest_of(shelf, 0))
        yield store, services, server


def require_old_policy_in_place(store: PolicyCache, shelf: Shelf) -> None:
    assert store.held() == (0,)
    assert same(store.reach(0, digest_of(shelf, 0)).weights, shelf.weights[0])


def test_a_missing_chunk_leaves_the_old_policy_and_heals_when_it_returns(tmp_path: Path) -> None:
    shelf = shelf_of(2)
    chunk = shelf.manifests[1].manifest.patches[0].chunks[0].digest
    kept = shelf.blobs.pop(chunk)
    with worker_at_version_0(shelf, tmp_path) as (store, _, _):
        with pytest.raises(PolicyUnreachable, match="not_found"):
            store.reach(1, digest_of(shelf, 1))
        require_old_policy_in_place(store, shelf)
        shelf.blobs[chunk] = kept
        assert same(store.reach(1, digest_of(shelf, 1)).weights, shelf.weights[1])


def test_a_missing_chunk_of_a_patch_is_passed_by_with_the_anchor(tmp_path: Path) -> None:
    shelf = shelf_of(2, anchor_every=1)
    del shelf.blobs[shelf.manifests[1].manifest.patches[0].chunks[0].digest]
    with worker_at_version_0(shelf, tmp_path) as (store, _, _):
        assert same(store.reach(1, digest_of(shelf, 1)).weights, shelf.weights[1])


def test_a_truncated_blob_passes_for_whole_without_its_digest_and_not_with_it(
    tmp_path: Path,
) -> None:
    shelf = shelf_of(2)
    chunk = shelf.manifests[1].manifest.patches[0].chunks[0].digest
    shelf.blobs[chunk] = shelf.blobs[chunk][:-7]
    with worker_at_version_0(shelf, tmp_path) as (store, _, server):
        answer = httpx.get(f"{server.url}/v1/blobs/0x{chunk.hex()}")
        assert answer.status_code == 200  # HTTP alone says that nothing is amiss
        with pytest.raises(PolicyUnreachable, match="whose digest is"):
            store.reach(1, digest_of(shelf, 1))
        require_old_policy_in_place(store, shelf)


def test_swapped_chunks_make_other_weights_without_their_digests_and_none_with_them(
    tmp_path: Path,
) -> None:
    """Two chunks inside the tensor data change places: the file still reads as safetensors."""
    shelf = shelf_of(2, anchor_every=1)
    del shelf.blobs[shelf.manifests[1].manifest.patches[0].chunks[0].digest]
    anchor = shelf.manifests[1].manifest.anchor
    first, second = anchor[1].digest, anchor[2].digest
    assert anchor[1].size == anchor[2].size
    with worker_at_version_0(shelf, tmp_path) as (store, _, _):
        shelf.blobs[first], shelf.blobs[second] = shelf.blobs[second], shelf.blobs[first]
        joined = b"".join(shelf.blobs[chunk.digest] for chunk in anchor)
        assert not same(from_anchor(joined), shelf.weights[1])
        with pytest.raises(PolicyUnreachable, match="whose digest is"):
            store.reach(1, digest_of(shelf, 1))
        require_old_policy_in_place(store, shelf)


def test_a_download_that_always_breaks_off_is_given_up_with_the_old_policy_in_place(
    tmp_path: Path,
) -> None:
    shelf = shelf_of(2)
    chunk = shelf.manifests[1].manifest.patches[0].chunks[0].digest
    with worker_at_version_0(shelf, tmp_path) as (store, _, server):

        class AlwaysCut(dict[bytes, int]):
            def pop(self, key: bytes, *default: int) -> int:  # type: ignore[override]
                return 3 if key == chunk else default[0]

        server.cut_after = AlwaysCut()
        asked = iter([False] * 5 + [True] * 5)
        with pytest.raises(Exception, match="gave up"):
            store.reach(1, digest_of(shelf, 1), give_up=lambda: next(asked))
        require_old_policy_in_place(store, shelf)
