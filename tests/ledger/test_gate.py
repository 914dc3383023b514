"""A gate that believes one attester: who joins, until when, and once per person."""

from dataclasses import replace
from typing import Any

import pytest

from protocol.canonical import keccak256
from tests.ledger.gate_claims import Claim, deploy_gate
from tests.stage.terms import key
from tests.stage.world import BUDGET, RATE, WINDOW, World, refused

KIND = keccak256(b"adult, not sanctioned")
PERSON = keccak256(b"whoever alice is")
ATTESTER = key("attester")


class Gated:
    """A run behind an `AttesterGate`."""

    def __init__(self, world: World, *, is_one_per_person: bool = True) -> None:
        self.world = world
        self.address = deploy_gate(
            world.node,
            world.people["deployer"],
            world.deployment,
            attester=ATTESTER.address,
            kind=KIND,
            is_one_per_person=is_one_per_person,
        )
        self.contract = world.w3.eth.contract(
            address=self.address,
            abi=world.by("bob").node.contract("AttesterGate", self.address).abi,
        )
        params = world.params(gate=self.address)
        world.run_id = world.by("operator").create_run(params, BUDGET, "")

    def claim(self, name: str, **changes: Any) -> Claim:
        until = self.world.by(name).block_time() + 1_000
        claim = Claim(self.world.run_id, self.world.address(name), KIND, PERSON, until)
        return replace(claim, **changes)

    def evidence(self, claim: Claim, by: Any = ATTESTER) -> bytes:
        return claim.evidence(by, self.world.deployment.chain_id, self.address)

    def join(self, name: str, evidence: bytes) -> None:
        self.world.by(name).join_run(self.world.run_id, evidence)


@pytest.fixture
def gated(world: World) -> Gated:
    return Gated(world)


def test_an_attested_worker_joins_and_nobody_else(gated: Gated) -> None:
    claim = gated.claim("alice")
    found = gated.contract.functions.claimDigest(
        claim.run_id, claim.worker, claim.nullifier, claim.expires_at
    ).call()
    assert bytes(found) == claim.digest(gated.world.deployment.chain_id, gated.address)
    for evidence in (b"", b"junk", bytes(96)):
        with refused("NotEligible", worker=gated.world.address("alice")):
            gated.join("alice", evidence)
    gated.join("alice", gated.evidence(claim))
    assert gated.world.by("bob").is_joined(gated.world.run_id, gated.world.address("alice"))


def test_every_field_of_a_claim_is_attested(gated: Gated) -> None:
    claim, other = gated.claim("alice"), keccak256(b"other")
    lies = {
        "run": replace(claim, run_id=1),
        "worker": replace(claim, worker=gated.world.address("bob")),
        "kind": replace(claim, kind=other),
    }
    for what, lie in lies.items():
        with refused("NotEligible"):
            gated.join("alice", gated.evidence(lie))
            pytest.fail(f"a claim of another {what} was taken")
    honest = gated.evidence(claim)
    longer = honest[:32] + (claim.expires_at + 1).to_bytes(32, "big") + honest[64:]
    for bent in (other + honest[32:], longer, gated.evidence(claim, by=key("stranger"))):
        with refused("NotEligible"):
            gated.join("alice", bent)
    elsewhere = claim.evidence(
        ATTESTER, gated.world.deployment.chain_id, gated.world.address("bob")
    )
    with refused("NotEligible"):
        gated.join("alice", elsewhere)
    gated.join("alice", honest)


def test_a_revoked_claim_admits_nobody_more_and_expels_nobody(gated: Gated) -> None:
    world, evidence = gated.world, gated.evidence(gated.claim("alice"))
    digest = gated.claim("alice").digest(world.deployment.chain_id, gated.address)
    revoke = gated.contract.functions.revoke(digest)
    with refused("NotAttester", caller=world.address("stranger")):
        world.transact(revoke)
    with world.undone():
        _revoke(gated, digest)
        with refused("NotEligible"):
            gated.join("alice", evidence)
    gated.join("alice", evidence)
    _revoke(gated, digest)
    assert world.by("bob").is_joined(world.run_id, world.address("alice"))
    accounts = world.settle(alice=100)
    assert world.claim("alice", 0, accounts) == 100 * RATE


def _revoke(gated: Gated, digest: bytes) -> None:
    """Revoke as the attester, which has no gas of its own: some is sent to it first."""
    world = gated.world
    funding = {"to": ATTESTER.address, "value": 10**18, "gas": 21_000, "chainId": 31337}
    payer = world.people["deployer"]
    fees = {"maxFeePerGas": 10**10, "maxPriorityFeePerGas": 0}
    nonce = world.w3.eth.get_transaction_count(payer.address)
    signed = payer.sign_transaction({**funding, **fees, "nonce": nonce})
    world.w3.eth.send_raw_transaction(signed.raw_transaction)
    world.people["attester"] = ATTESTER
    world.transact(gated.contract.functions.revoke(digest), "attester")


def test_one_person_has_one_account_however_many_keys_it_has(gated: Gated) -> None:
    gated.join("alice", gated.evidence(gated.claim("alice")))
    with refused("NotEligible", worker=gated.world.address("bob")):
        gated.join("bob", gated.evidence(gated.claim("bob")))
    someone_else = gated.claim("bob", nullifier=keccak256(b"whoever bob is"))
    gated.join("bob", gated.evidence(someone_else))


def test_without_nullifiers_one_person_joins_twice(world: World) -> None:
    """The attack on the test above, with that defence off."""
    gated = Gated(world, is_one_per_person=False)
    gated.join("alice", gated.evidence(gated.claim("alice")))
    gated.join("bob", gated.evidence(gated.claim("bob")))


def test_a_nullifier_is_spent_per_run(gated: Gated) -> None:
    world = gated.world
    gated.join("alice", gated.evidence(gated.claim("alice")))
    params = world.params(gate=gated.address)
    world.run_id = world.by("operator").create_run(params, BUDGET, "")
    gated.join("bob", gated.evidence(gated.claim("bob")))


def test_a_refusal_spends_nothing(gated: Gated) -> None:
    gated.world.by("stranger").register(
        0, gated.world.address("stranger"), gated.world.address("stranger")
    )
    with refused("StakeTooLow"):
        gated.join("stranger", gated.evidence(gated.claim("stranger")))
    gated.join("alice", gated.evidence(gated.claim("alice")))


def test_the_gate_says_why_it_would_refuse(gated: Gated) -> None:
    world, ask = gated.world, gated.contract.functions.refusalOf
    who, claim = world.address("alice"), gated.claim("alice")
    evidence = gated.evidence(claim)
    stranger = gated.evidence(claim, by=key("stranger"))
    assert ask(world.run_id, who, evidence).call() == 0
    assert ask(world.run_id, who, stranger).call() == 1
    world.clock.now = claim.expires_at + 1
    assert ask(world.run_id, who, evidence).call() == 2
    world.clock.now = claim.expires_at - WINDOW
    gated.join("alice", evidence)
    assert ask(world.run_id, who, evidence).call() == 4
