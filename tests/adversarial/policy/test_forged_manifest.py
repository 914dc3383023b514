"""Attack: whoever serves manifests serves one of their own making, or another version's."""

from dataclasses import replace

import pytest

from client.policies import PolicyUnreachable
from protocol.errors import Malformed, MarketError
from protocol.policies.manifest import policy_digest
from protocol.policies.publication import check_manifest
from tests.rollout_worker.test_weights import Direct, digest_of, same, store_of
from tests.stage.policies import DOMAIN, RUN, Shelf, first_weights, shelf_of, stepped

THIEF = bytes([66]) * 32


def test_a_stranger_s_policy_is_taken_only_where_the_signature_is_not_checked() -> None:
    """With the trainer's address set to the thief's, the same bytes are a good policy."""
    evil = stepped(first_weights(), seed=666)
    forged = Shelf(shelf_of(1).spec, key=THIEF)
    forged.publish(0, first_weights())
    forged.publish(1, evil, bases=(0,))
    store = store_of(Direct(forged))
    with pytest.raises(PolicyUnreachable, match="signed by"):
        store.reach(1, digest_of(forged, 1))

    from protocol.signing import address_of

    unchecked = replace(forged, spec=forged.spec.model_copy(update={"trainer": address_of(THIEF)}))
    assert same(store_of(Direct(unchecked)).reach(1, digest_of(forged, 1)).weights, evil)


def test_an_older_version_served_as_the_newest_is_refused() -> None:
    shelf = shelf_of(3)
    old = shelf.manifests[1]
    shelf.manifests[2] = old
    with pytest.raises(PolicyUnreachable, match="version 1, not of run 1, version 2"):
        store_of(Direct(shelf)).reach(2, old.manifest.policy_digest)


def test_a_manifest_of_another_chain_is_refused() -> None:
    shelf = shelf_of(1)
    other = replace(DOMAIN, chain_id=1)
    with pytest.raises(MarketError, match="signed by"):
        check_manifest(shelf.manifests[0], run_id=RUN, version=0, spec=shelf.spec, domain=other)


def test_a_digest_that_is_not_the_root_over_its_tensors_is_refused() -> None:
    shelf = shelf_of(2)
    manifest = shelf.manifests[1].manifest
    shelf.sign(manifest.model_copy(update={"policy_digest": bytes(32)}))
    with pytest.raises(Malformed, match="it says 0x00"):
        check_manifest(shelf.manifests[1], run_id=RUN, version=1, spec=shelf.spec, domain=DOMAIN)


def test_version_0_is_the_agreed_model_or_nothing() -> None:
    agreed = shelf_of(1)
    other = Shelf(agreed.spec)
    other.publish(0, stepped(first_weights(), seed=666))
    with pytest.raises(Malformed, match="not the model that the run agreed on"):
        check_manifest(other.manifests[0], run_id=RUN, version=0, spec=other.spec, domain=DOMAIN)


def test_a_policy_larger_than_agreed_is_refused_before_it_is_downloaded() -> None:
    shelf = shelf_of(2)
    manifest = shelf.manifests[1].manifest
    huge = manifest.tensors[0].model_copy(update={"shape": (1 << 40, 1 << 20)})
    tensors = (huge, *manifest.tensors[1:])
    shelf.sign(
        manifest.model_copy(update={"tensors": tensors, "policy_digest": policy_digest(tensors)})
    )
    source = Direct(shelf)
    with pytest.raises(PolicyUnreachable, match="parameters"):
        store_of(source).reach(1, digest_of(shelf, 1))
    assert source.kinds == []
