"""Attack: whoever serves manifests serves one of their own making, or another version's."""

from dataclasses import replace

import pytest

from client.policies import PolicyUnreachable
from protocol.errors import MarketError
from protocol.policies.manifest import policy_digest
from protocol.policies.publication import check_manifest
from protocol.signing import address_of
from tests.stage.policies import Policies, first_weights, same, stepped

THIEF = bytes([66]) * 32


def test_a_stranger_s_policy_is_taken_only_where_the_signature_is_not_checked(
    policies: Policies,
) -> None:
    """With the trainer's address set to the thief's, the same bytes are a good policy."""
    policies.grow(1)
    evil = stepped(first_weights(), seed=666)
    forged = policies.made(1, evil, bases=(0,)).manifest
    for manifest in (policies.manifests[0].manifest, forged):
        policies.serve(manifest, key=THIEF)
    with pytest.raises(PolicyUnreachable, match="signed by"):
        policies.cache().reach(1, forged.policy_digest)

    unchecked = policies.spec.model_copy(update={"trainer": address_of(THIEF)})
    assert same(policies.cache(spec=unchecked).reach(1, forged.policy_digest).weights, evil)


def test_an_older_version_served_as_the_newest_is_refused(policies: Policies) -> None:
    old = policies.grow(3).manifests[1].manifest
    policies.serve(old, version=2)
    why = f"version 1, not of run {policies.run_id}, version 2"
    with pytest.raises(PolicyUnreachable, match=why):
        policies.cache().reach(2, old.policy_digest)


def test_a_manifest_of_another_chain_is_refused(policies: Policies) -> None:
    signed = policies.grow(1).manifests[0]
    other = replace(policies.domain, chain_id=1)
    with pytest.raises(MarketError, match="signed by"):
        check_manifest(signed, run_id=policies.run_id, version=0, spec=policies.spec, domain=other)


def test_a_digest_that_is_not_the_root_over_its_tensors_is_refused(policies: Policies) -> None:
    manifest = policies.grow(2).manifests[1].manifest
    policies.serve(manifest.model_copy(update={"policy_digest": bytes(32)}))
    with pytest.raises(PolicyUnreachable, match="it says 0x00"):
        policies.cache().reach(1, bytes(32))


def test_version_0_is_the_agreed_model_or_nothing(policies: Policies) -> None:
    policies.grow(1)
    policies.serve(policies.made(0, stepped(first_weights(), seed=666)).manifest)
    with pytest.raises(PolicyUnreachable, match="not the model that the run agreed on"):
        policies.cache().reach(0, policies.digest(0))


def test_a_policy_larger_than_agreed_is_refused_before_it_is_downloaded(
    policies: Policies,
) -> None:
    manifest = policies.grow(2).manifests[1].manifest
    huge = manifest.tensors[0].model_copy(update={"shape": (1 << 40, 1 << 20)})
    tensors = (huge, *manifest.tensors[1:])
    changed = {"tensors": tensors, "policy_digest": policy_digest(tensors)}
    policies.serve(manifest.model_copy(update=changed))
    with pytest.raises(PolicyUnreachable, match="parameters"):
        policies.cache().reach(1, policies.digest(1))
    assert policies.kinds == []
