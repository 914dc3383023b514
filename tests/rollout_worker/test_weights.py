"""Policies are reached by patch, skip patch and anchor, whichever is cheapest and whole."""

import json
from pathlib import Path

import pytest
from safetensors import deserialize

from client.connection import GiveUp
from client.policies import PolicyCache, PolicyUnreachable, write_model_folder
from protocol.policies.manifest import Blob, SignedManifest, Weights, entries
from protocol.positions import why_too_long
from tests.stage.policies import DOMAIN, RUN, Shelf, first_weights, shelf_of, spec_for


class Direct:
    """Reads a shelf without a network in between, and remembers what kinds were read."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.kinds: list[str] = []

    def manifest(self, _run: int, version: int, *, give_up: GiveUp | None = None) -> SignedManifest:  # noqa: ARG002
        return self.shelf.manifests[version]

    def join(self, chunks: tuple[Blob, ...], *, kind: str, give_up: GiveUp | None = None) -> bytes:  # noqa: ARG002
        self.kinds.append(kind)
        return b"".join(self.shelf.blobs[chunk.digest] for chunk in chunks)


def store_of(source: Direct, *, keep: int = 2) -> PolicyCache:
    return PolicyCache(source, run_id=RUN, spec=source.shelf.spec, domain=DOMAIN, keep=keep)


def digest_of(shelf: Shelf, version: int) -> bytes:
    return shelf.manifests[version].manifest.policy_digest


def same(left: Weights, right: Weights) -> bool:
    return entries(left) == entries(right)


def test_a_newcomer_takes_the_anchor_and_the_next_version_costs_a_patch() -> None:
    source = Direct(shelf_of(3))
    store = store_of(source)
    first = store.reach(0, digest_of(source.shelf, 0))
    second = store.reach(1, digest_of(source.shelf, 1))
    assert source.kinds == ["anchor", "patch"]
    assert same(first.weights, source.shelf.weights[0])
    assert same(second.weights, source.shelf.weights[1])


def test_a_version_in_hand_costs_nothing() -> None:
    source = Direct(shelf_of(2))
    store = store_of(source)
    store.reach(1, digest_of(source.shelf, 1))
    source.kinds.clear()
    store.reach(1, digest_of(source.shelf, 1))
    assert source.kinds == []


def test_a_worker_that_fell_behind_takes_a_skip_patch() -> None:
    source = Direct(shelf_of(9, skips=(2, 4, 8)))
    store = store_of(source)
    store.reach(4, digest_of(source.shelf, 4))
    source.kinds.clear()
    reached = store.reach(8, digest_of(source.shelf, 8))
    assert source.kinds == ["skip_patch"]
    assert same(reached.weights, source.shelf.weights[8])


def test_a_newcomer_combines_the_anchor_with_patches_and_skips() -> None:
    source = Direct(shelf_of(8, anchor_every=5, skips=(2,)))
    reached = store_of(source).reach(7, digest_of(source.shelf, 7))
    assert source.kinds == ["anchor", "skip_patch"]
    assert same(reached.weights, source.shelf.weights[7])


def test_an_older_version_is_reached_again_for_a_late_replay() -> None:
    source = Direct(shelf_of(6, anchor_every=3))
    store = store_of(source, keep=1)
    store.reach(5, digest_of(source.shelf, 5))
    older = store.reach(2, digest_of(source.shelf, 2))
    assert same(older.weights, source.shelf.weights[2])


def test_without_a_whole_way_the_error_says_why_and_the_old_policy_stays() -> None:
    source = Direct(shelf_of(2))
    store = store_of(source)
    held = store.reach(0, digest_of(source.shelf, 0))
    with pytest.raises(PolicyUnreachable, match="the lease"):
        store.reach(1, bytes(32))
    assert store.held() == (0,)
    assert store.reach(0, digest_of(source.shelf, 0)) is held


def test_a_model_folder_holds_the_exact_weights(tmp_path: Path) -> None:
    weights = first_weights()
    write_model_folder(tmp_path / "model", b"{}", weights)
    read = dict(deserialize((tmp_path / "model" / "model.safetensors").read_bytes()))
    assert (tmp_path / "model" / "config.json").read_bytes() == b"{}"
    for name, tensor in weights.items():
        assert bytes(read[name]["data"]) == tensor.bits.tobytes()


def test_a_run_needs_no_more_positions_than_its_model_has() -> None:
    config = json.dumps({"max_position_embeddings": 32}).encode()
    assert (
        why_too_long(config, spec_for(first_weights(), max_prompt_tokens=16, max_tokens=16)) is None
    )
    longer = spec_for(first_weights(), max_prompt_tokens=16, max_tokens=17)
    assert "do not fit the model's 32 positions" in str(why_too_long(config, longer))
    assert why_too_long(b"{}", longer) is None
    assert "cannot be read" in str(why_too_long(b"[]", longer))
