"""Attack: void one's own hidden lie by an omission of one's own, which spares its signers.

A colluding operator with no stake signs a receipt for work that the lying epoch skips. Its omission
voids the epoch, nobody pays, and whoever had demanded the leaves is left without an epoch to dispute.
"""

from dataclasses import astuple
from typing import Any

from protocol.canonical import keccak256
from protocol.epoch import EpochHeader
from protocol.rollout import Receipt, Work
from protocol.signing import sign
from tests.stage.epochs import Epoch
from tests.stage.ledger_lab import QUORUM, Lab
from tests.stage.world import STAKE, refused

WORK_TREE = 1


def own_receipt(lab: Lab, worker: str, at: int) -> tuple[Any, bytes]:
    """Return a receipt that the operator signs for work nobody did."""
    work = Work.model_construct(
        run_id=lab.world.run_id,
        worker=worker,
        nonce=1,
        payload_digest=keccak256(b"never sent"),
        policy_version=1,
        submitted_at=at,
        tokens=5,
        gflops=-(-2 * lab.run().num_parameters * 5 // 10**9),
    )
    receipt = Receipt.model_construct(
        run_id=work.run_id,
        worker=worker,
        nonce=1,
        work_digest=lab.domain.digest(work),
        received_at=at,
        rejection="",
        detail="",
        signature=bytes(65),
    )
    signature = sign(bytes(lab.person("operator").key), lab.domain.digest(receipt))
    return (tuple(work.__dict__.values()), at), signature


def hidden_lie(lab: Lab) -> tuple[Epoch, EpochHeader, bytes]:
    """Post a padded epoch and open the operator's own omission; return its dispute."""
    at = int(lab.world.chain.head.header.timestamp)
    epoch = lab.epoch(first_nonce=300, alice=100)
    header = lab.post(epoch, total=epoch.leaves[-1].epoch_sum + 50)
    lab.allow("stranger", lab.registry, STAKE)
    receipt, signature = own_receipt(lab, lab.address("alice"), at)
    shown = [epoch.work(0)]
    call = lab.disputes.functions.proveOmission(astuple(header), receipt, signature, shown, [])
    return epoch, header, lab.dispute_id(lab.send(call, "stranger"))


def test_undisputed_it_voids_and_nobody_has_paid_yet(lab: Lab) -> None:
    epoch, header, omission = hidden_lie(lab)
    lab.world.clock.now = lab.disputes.functions.disputeOf(omission).call()[3]
    lab.send(lab.disputes.functions.expire(omission))
    assert [lab.stake(name) for name in QUORUM] == [STAKE] * len(QUORUM)
    # They answer for the lie all the same, for whoever can show it within a challenge window.
    lab.send(lab.bad_edge(epoch, header), "bob")
    assert [lab.stake(name) for name in QUORUM] == [0] * len(QUORUM)


def test_it_waits_for_what_others_demand_and_the_signers_pay(lab: Lab) -> None:
    _, header, omission = hidden_lie(lab)
    lab.allow("bob", lab.registry, STAKE)
    asked = lab.disputes.functions.demand(astuple(header), WORK_TREE, [0])
    demand = lab.dispute_id(lab.send(asked, "bob"))
    lab.world.clock.now = lab.disputes.functions.disputeOf(omission).call()[3]
    with refused("EpochDisputed"):
        lab.send(lab.disputes.functions.expire(omission))
    lab.world.clock.now = lab.disputes.functions.disputeOf(demand).call()[3]
    lab.send(lab.disputes.functions.expire(demand))
    assert [lab.stake(name) for name in QUORUM] == [0] * len(QUORUM)
