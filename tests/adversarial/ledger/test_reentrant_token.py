"""A token that calls back while it pays."""

from typing import Any

from web3 import Web3

from tests.stage.ledger_lab import Lab
from tests.stage.world import BUDGET, RATE

ROUNDS = 3


def test_who_sends_before_it_writes_pays_again_and_again(lab: Lab) -> None:
    token = lab.weak("InsistentToken")
    weak = lab.weak("PaysFirst", token.address)
    lab.give(weak.address, 1_000, token)
    lab.send(weak.functions.owe(lab.address("alice"), 100))
    pay = weak.functions.pay(lab.address("alice"))
    aim(lab, token, pay)
    lab.send(pay, "alice")
    assert token.functions.balanceOf(lab.address("alice")).call() == (1 + ROUNDS) * 100


def test_a_claim_within_a_claim_is_refused(lab: Lab) -> None:
    token = lab.weak("InsistentToken")
    alice = token.functions.balanceOf(lab.address("alice"))
    lab.allow("operator", lab.ledger, BUDGET, token)
    params = lab.world.params(token=token.address).as_struct()
    lab.send(lab.ledger.functions.createRun(params, BUDGET, "spec"), "operator")
    lab.world.run_id = 2
    first = lab.epoch(alice=100)
    lab.post(first)
    second = lab.epoch(*first.accounts, first_nonce=2, alice=30)
    lab.post(second)
    lab.finalise()
    # The inner claim would be good by itself: it is of a later epoch, which pays more.
    inner = lab.ledger.functions.claim(2, 1, second.account(0))
    outer = lab.ledger.functions.claim(2, 0, first.account(0))
    aim(lab, token, inner)
    lab.send(outer)
    assert token.functions.numReentered().call() == 0
    assert token.functions.left().call() < ROUNDS, "it has tried"
    assert alice.call() == lab.run().claimed == 100 * RATE
    lab.send(inner)
    assert alice.call() == lab.run().claimed == 130 * RATE


def aim(lab: Lab, token: Any, call: Any) -> None:
    """Have the token make a call during its next transfers."""
    data = Web3.to_bytes(hexstr=call._encode_transaction_data())
    lab.send(token.functions.aim(call.address, data, ROUNDS))
