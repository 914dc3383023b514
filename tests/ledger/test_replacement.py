"""Replacing a verifier that is short of stake: a run cannot stall, nor an honest one be thrown out."""

import pytest

from ledger.errors import LedgerError
from tests.stage.world import RATE, SECRET, STAKE, WINDOW, World, refused


def fall_short(world: World, *names: str) -> None:
    for name in names:
        world.by(name).unbond(1)


def propose(world: World, index: int, name: str) -> int:
    world.by("operator").propose_replacement(1, index, world.address(name))
    found = world.by("bob").replacement(1)
    assert found is not None
    assert (found.index, found.next) == (index, world.address(name))
    return found.earliest


def replace(world: World, index: int, name: str) -> None:
    world.clock.now = propose(world, index, name)
    world.by("stranger").replace_verifier(1)


def test_a_run_whose_quorum_has_gone_goes_on_with_successors(world: World) -> None:
    fall_short(world, "v0", "v1")
    world.open()
    header = world.header(world.accounts(alice=100))
    for names in (("v0", "v2"), ("v1", "v2")):  # the attack: nothing can be posted any more
        with refused("StakeTooLow"):
            world.post(header, *names)
    replace(world, 0, "bob")
    run = world.by("alice").run(1)
    assert run.roster == (*world.params().verifiers, world.address("bob"))
    assert run.verifiers == (world.address("v1"), world.address("v2"), world.address("bob"))
    world.post(header, "bob", "v2")
    assert world.by("alice").epoch(1, 0).signer_bitmap == 0b1100
    world.wait(WINDOW)
    assert world.claim("alice", 0, world.accounts(alice=100)) == 100 * RATE
    assert world.by("alice").replacement(1) is None


def test_a_replaced_verifier_signs_nothing_more_though_its_stake_is_back(world: World) -> None:
    fall_short(world, "v1")
    replace(world, 1, "bob")
    world.by("v1").stake(1)
    world.open()
    header = world.header(world.accounts(alice=100))
    with pytest.raises(LedgerError, match="has no verifier"):
        world.post(header, "v0", "v1")
    words = tuple(getattr(header, name) for name in header.__dataclass_fields__)
    signatures = list(world.signed(header.struct_hash(), "v0", "v1").values())
    post = world.by("v0")._ledger.functions.postEpoch(words, SECRET, 0b11, signatures, "")
    with refused("VerifierReplaced", index=1, verifier=world.address("v1")):
        world.transact(post)
    with refused("VerifierReplaced", index=1):
        world.by("operator").propose_replacement(1, 1, world.address("alice"))


def test_pending_epochs_keep_their_signers(world: World) -> None:
    world.open()
    header = world.header(world.accounts(alice=100))
    world.post(header, "v0", "v1")
    fall_short(world, "v1")
    earliest = propose(world, 1, "bob")
    world.wait(WINDOW - 1)
    _, before = world.by("bob").posting(1, 0, header.struct_hash())
    world.clock.now = earliest
    world.by("stranger").replace_verifier(1)
    _, after = world.by("bob").posting(1, 0, header.struct_hash())
    assert before == after == 0b11
    assert world.by("bob").verifier_at(1, 1) == world.address("v1")


def test_who_may_be_named(world: World) -> None:
    operator = world.by("operator")
    fall_short(world, "v1")
    with refused("NotOperator", caller=world.address("v0")):
        world.by("v0").propose_replacement(1, 1, world.address("bob"))
    with refused("AlreadyVerifier", verifier=world.address("v0")):
        operator.propose_replacement(1, 1, world.address("v0"))
    with refused("AlreadyVerifier", verifier=world.address("v1")):
        operator.propose_replacement(1, 1, world.address("v1"))
    with refused("ZeroAddress"):
        operator.propose_replacement(1, 1, "0x" + "00" * 20)
    with refused("NoSuchVerifier", index=3):
        operator.propose_replacement(1, 3, world.address("bob"))
    with refused("NoReplacement", runId=1):
        operator.replace_verifier(1)
    world.clock.now = propose(world, 1, "stranger")
    with refused("StakeTooLow", who=world.address("stranger"), have=0, need=STAKE):
        operator.replace_verifier(1)


def test_a_later_proposal_takes_the_earlier_ones_place_and_waits_anew(world: World) -> None:
    fall_short(world, "v1")
    first = propose(world, 1, "bob")
    world.clock.now = first - 1
    second = propose(world, 1, "alice")
    assert second == first - 1 + WINDOW
    world.clock.now = first
    with refused("TooEarly", earliest=second):
        world.by("stranger").replace_verifier(1)


def test_successors_can_be_replaced_and_return_in_a_new_place(world: World) -> None:
    fall_short(world, "v1")
    replace(world, 1, "bob")
    fall_short(world, "bob")
    world.by("v1").stake(1)
    replace(world, 3, "v1")
    run = world.by("bob").run(1)
    assert run.replaced == 0b1010
    assert run.verifiers == (world.address("v0"), world.address("v2"), world.address("v1"))
    world.open()
    world.post(world.header(world.accounts(alice=1)), "v0", "v1")
    assert world.by("bob").epoch(1, 0).signer_bitmap == 0b10001


def test_a_quorum_can_be_asked_about_before_it_is_used(world: World) -> None:
    digest = b"\x07" * 32
    names = ("v0", "v1")
    signatures = {
        world.address(name): bytes(world.people[name].unsafe_sign_hash(digest).signature)
        for name in names
    }
    world.by("bob").require_quorum(1, digest, signatures)
    fall_short(world, "v1")
    with refused("StakeTooLow", who=world.address("v1")):
        world.by("bob").require_quorum(1, digest, signatures)
    first = {world.address("v0"): signatures[world.address("v0")]}
    with refused("QuorumTooSmall", signatures=1, threshold=2):
        world.by("bob").require_quorum(1, digest, first)
