"""Taking a lie back in front of the proof that would punish it."""

from dataclasses import astuple
from typing import Any

import pytest

from protocol.epoch import EpochHeader, RetractEpoch
from tests.stage.ledger_lab import QUORUM, Lab
from tests.stage.world import STAKE, WINDOW, refused

LIE = b"\7" * 32


def test_where_a_retracted_header_is_forgotten_lying_is_free(lab: Lab) -> None:
    weak = lab.weak("ForgetsRetracted")
    lab.send(weak.functions.post(LIE), "v0")
    lab.send(weak.functions.retract(), "v0")
    with refused("Error"):
        lab.send(weak.functions.prove(LIE))
    assert weak.functions.stake().call() == STAKE


@pytest.mark.parametrize("waited", [0, WINDOW - 2])
def test_a_retracted_lie_is_still_proven_and_paid_for(lab: Lab, waited: int) -> None:
    epoch, header = lab.padded()
    proof = lab.bad_edge(epoch, header)
    lab.send(retraction(lab, header))
    assert lab.run().committed == 0
    lab.world.wait(waited)
    lab.send(proof, "bob")
    assert [lab.stake(name) for name in QUORUM] == [0, 0]
    assert lab.credit("bob") == 2 * STAKE // 4
    # Once: the header is forgotten with its punishment.
    with refused("NotDisputable"):
        lab.send(proof, "bob")


def test_a_retracted_lie_that_built_on_another_is_paid_for_too(lab: Lab) -> None:
    honest = lab.epoch(alice=100)
    first = lab.post(honest)
    lying = lab.epoch(*honest.accounts, first_nonce=2, alice=30)
    header = lab.post(lying, "v1", "v2", total=31)
    lab.send(retraction(lab, first))
    lab.send(lab.bad_edge(lying, header))
    assert [lab.stake(name) for name in ("v0", "v1", "v2")] == [STAKE, 0, 0]


def test_after_a_window_its_signers_no_longer_answer_for_it(lab: Lab) -> None:
    epoch, header = lab.padded()
    proof = lab.bad_edge(epoch, header)
    lab.send(retraction(lab, header))
    lab.world.wait(WINDOW + 1)
    with refused("NotDisputable"):
        lab.send(proof)


def test_a_retraction_disturbs_no_epoch_posted_since(lab: Lab) -> None:
    epoch, header = lab.padded()
    proof = lab.bad_edge(epoch, header)
    lab.send(retraction(lab, header))
    lab.post(lab.epoch(alice=100), "v1", "v2")
    lab.send(proof)
    assert lab.run().num_posted == 1
    lab.finalise()
    assert lab.run().num_final == 1


def retraction(lab: Lab, header: EpochHeader) -> Any:
    """Return the call by which v0 and v1 take an epoch back."""
    retract = RetractEpoch(header.run_id, header.epoch, header.generation, header.struct_hash())
    bitmap, signatures = lab.signed(retract)
    return lab.ledger.functions.retractEpoch(header.run_id, header.epoch, bitmap, signatures)


def test_a_stranger_cannot_retract(lab: Lab) -> None:
    _, header = lab.padded()
    with refused("QuorumTooSmall"):
        lab.send(lab.ledger.functions.retractEpoch(header.run_id, header.epoch, 0, []))
    assert astuple(header)[0] == lab.world.run_id
