"""A worker revokes the key that signed its own accepted work, to void the epoch that pays for it."""

from dataclasses import astuple
from typing import Any

from eth_account.signers.local import LocalAccount

from protocol.epoch import EpochHeader
from protocol.signing import sign
from tests.stage.epochs import Epoch, work_of
from tests.stage.ledger_lab import QUORUM, Lab
from tests.stage.terms import key
from tests.stage.world import REVOKE, STAKE, refused


def test_judged_by_todays_keys_honest_work_becomes_a_forgery(lab: Lab) -> None:
    hot = key("bob hot").address
    weak = lab.weak("ForgetsKeys")
    lab.send(weak.functions.addSigner(hot), "bob")
    submitted_at = int(lab.world.chain.head.header.timestamp)
    spoke = weak.functions.spokeFor(hot, lab.address("bob"), submitted_at)
    assert spoke.call()
    lab.send(weak.functions.revokeSigner(hot), "bob")
    assert not spoke.call(), "what bob signed then is unsigned now"


def test_a_key_revoked_after_the_work_still_spoke_for_it(lab: Lab) -> None:
    hot = delegated(lab)
    epoch, header = posted_by(lab, hot)
    lab.world.by("bob").revoke_signer(hot.address)
    lab.world.wait(REVOKE + 1)
    assert lab.world.by("bob").owner_of(hot.address) is None
    with refused("NoFault"):
        lab.send(forged(lab, epoch, header), "bob")
    lab.finalise()
    assert [lab.stake(name) for name in QUORUM] == [STAKE, STAKE]


def test_work_dated_after_the_key_had_ended_is_forged_and_costs_its_signers(lab: Lab) -> None:
    # What the attacker is after: an epoch with a signature that does not count.
    hot = delegated(lab)
    lab.world.by("bob").revoke_signer(hot.address)
    lab.world.wait(REVOKE + 1)
    epoch, header = posted_by(lab, hot)
    lab.send(forged(lab, epoch, header), "bob")
    assert [lab.stake(name) for name in QUORUM] == [0, 0]
    assert lab.credit("bob") == 2 * STAKE // 4


def delegated(lab: Lab) -> LocalAccount:
    """Give bob a hot key."""
    hot, bob = key("bob hot"), lab.world.by("bob")
    bob.add_signer(hot.address, bob.sign_consent(hot, lab.address("bob")))
    return hot


def posted_by(lab: Lab, hot: LocalAccount) -> tuple[Epoch, EpochHeader]:
    """Post an epoch whose work of bob is signed by the hot key."""
    # The chain's newest block stands at the time that the clock shows.
    lab.send(lab.token.functions.mint(lab.address("bob"), 1))
    epoch = lab.epoch(bob=100)
    signature = sign(bytes(hot.key), lab.domain.digest(work_of(epoch.leaves[0])))
    epoch = epoch.with_leaf(0, signature)
    return epoch, lab.post(epoch)


def forged(lab: Lab, epoch: Epoch, header: EpochHeader) -> Any:
    return lab.disputes.functions.proveBadLeaf(astuple(header), epoch.work(0), epoch.signature(0))
