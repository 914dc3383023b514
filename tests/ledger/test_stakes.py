"""Stakes, hot keys, payouts and unbonding."""

import pytest

from tests.stage.terms import key
from tests.stage.world import REVOKE, STAKE, World, refused


def test_registering_stakes_binds_the_key_and_sets_the_payout(world: World) -> None:
    hot, ledger, me = key("hot"), world.by("stranger"), world.address("stranger")
    ledger.mint(me, STAKE)
    consent = ledger.sign_consent(hot, me)
    ledger.register(STAKE, hot.address, world.address("treasury"), consent)
    assert ledger.is_registered(me)
    assert ledger.owner_of(hot.address) == me
    assert ledger.owner_of(me) is None
    assert ledger.stake_of(me) == STAKE
    assert ledger.payout_of(me) == world.address("treasury")
    with refused("AlreadyRegistered", worker=me):
        ledger.register(0, me, me)


def test_a_key_cannot_be_bound_without_its_consent(world: World) -> None:
    hot, thief = key("hot"), world.by("stranger")
    owners = world.by("alice").sign_consent(hot, world.address("alice"))
    with refused("ConsentMissing", signer=hot.address, owner=world.address("stranger")):
        thief.register(0, hot.address, world.address("stranger"))
    with refused("ConsentMissing"):  # overheard: it names alice, not the thief
        thief.register(0, hot.address, world.address("stranger"), owners)
    world.by("alice").add_signer(hot.address, owners)
    with refused("SignerTaken", signer=hot.address, owner=world.address("alice")):
        world.by("bob").add_signer(hot.address, owners)


def test_a_revoked_key_never_comes_back(world: World) -> None:
    alice, me = world.by("alice"), world.address("alice")
    with refused("SignerNotOwned"):
        world.by("bob").revoke_signer(me)
    alice.revoke_signer(me)
    assert alice.owner_of(me) == me
    with refused("SignerAlreadyRevoked"):
        alice.revoke_signer(me)
    world.wait(REVOKE)
    assert alice.owner_of(me) is None
    with refused("SignerTaken"):
        alice.add_signer(me, b"")


@pytest.mark.parametrize("name", ["stranger", "operator"])
def test_who_is_not_registered_has_nothing_to_change(world: World, name: str) -> None:
    ledger, me = world.by(name), world.address(name)
    with refused("NotRegistered", worker=me):
        ledger.set_payout(me)
    with refused("NotRegistered"):
        ledger.add_signer(me, b"")
    ledger.mint(me, 1)
    with refused("NotRegistered"):
        ledger.stake(1)
    assert ledger.payout_of(me) == me
