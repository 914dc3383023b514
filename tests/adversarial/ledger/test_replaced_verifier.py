"""An operator that wants another verifier than the one its workers agreed to."""

from dataclasses import astuple

from protocol.epoch import EpochHeader
from tests.stage.ledger_lab import Lab
from tests.stage.world import STAKE, WINDOW, refused


def test_an_operator_that_may_swap_verifiers_commits_what_it_likes(lab: Lab) -> None:
    weak = lab.weak("SwapsVerifiers", lab.address("v0"), by="operator")
    lab.send(weak.functions.replaceVerifier(lab.address("operator")), "operator")
    lab.send(weak.functions.post(10**6), "operator")
    assert weak.functions.committed().call() == 10**6


def test_a_verifier_that_keeps_its_stake_keeps_its_place(lab: Lab) -> None:
    propose = lab.ledger.functions.proposeReplacement(lab.world.run_id, 0, lab.address("bob"))
    with refused("VerifierStillStaked", verifier=lab.address("v0"), have=STAKE, need=STAKE):
        lab.send(propose, "operator")
    with refused("NotOperator"):
        lab.send(propose, "bob")


def test_one_that_falls_short_has_a_window_to_stake_again(lab: Lab) -> None:
    propose = lab.ledger.functions.proposeReplacement(lab.world.run_id, 0, lab.address("bob"))
    replace = lab.ledger.functions.replaceVerifier(lab.world.run_id)
    lab.world.by("v0").unbond(1)
    lab.send(propose, "operator")
    with refused("TooEarly"):
        lab.send(replace, "operator")
    lab.world.by("v0").stake(1)
    lab.world.wait(WINDOW)
    with refused("VerifierStillStaked"):
        lab.send(replace, "operator")
    lab.post(lab.epoch(alice=100), "v0", "v1")


def test_a_slashed_one_is_replaced_and_signs_no_more_even_with_stake(lab: Lab) -> None:
    epoch, header = lab.padded()
    lab.send(lab.bad_edge(epoch, header))
    run_id = lab.world.run_id
    lab.send(lab.ledger.functions.proposeReplacement(run_id, 0, lab.address("bob")), "operator")
    lab.world.wait(WINDOW)
    lab.send(lab.ledger.functions.replaceVerifier(run_id))
    for name in ("v0", "v1"):
        lab.world.by(name).stake(STAKE)
    with refused("VerifierReplaced", index=0, verifier=lab.address("v0")):
        lab.post(lab.epoch(alice=100), "v0", "v1")


def test_pending_epochs_keep_their_signers_when_one_is_replaced(lab: Lab) -> None:
    epoch, header = lab.padded()
    lab.world.by("v0").unbond(1)
    run_id = lab.world.run_id
    lab.send(lab.ledger.functions.proposeReplacement(run_id, 0, lab.address("bob")), "operator")
    # The lie waits for a ruling, so that it is still pending when its signer is replaced.
    lab.world.wait(WINDOW // 2)
    hold(lab, header)
    lab.world.wait(WINDOW)
    lab.send(lab.ledger.functions.replaceVerifier(run_id))
    lab.send(lab.bad_edge(epoch, header))
    assert [lab.stake(name) for name in ("v0", "v1", "bob")] == [0, 0, STAKE]


def hold(lab: Lab, header: EpochHeader) -> None:
    lab.allow("stranger", lab.registry, STAKE)
    lab.send(lab.disputes.functions.escalate(astuple(header), b"\1" * 32))
