"""Tokens that deliver less than asked, or nothing while saying nothing about it."""

from typing import Any

import pytest

from tests.stage.ledger_lab import Lab
from tests.stage.world import BUDGET, refused


def test_a_book_that_believes_deposits_cannot_pay_the_last_one_out(lab: Lab) -> None:
    fee = lab.weak("FeeToken")
    weak = lab.weak("TakesItsWord", fee.address)
    for name in ("alice", "bob"):
        lab.allow(name, weak, 1_000, fee)
        lab.send(weak.functions.deposit(1_000), name)
    lab.send(weak.functions.withdraw(), "alice")
    # Bob's own money went to alice: what was booked was never there.
    with refused("ERC20InsufficientBalance", balance=998, needed=1_000):
        lab.send(weak.functions.withdraw(), "bob")


def test_a_book_that_does_not_listen_is_filled_with_nothing(lab: Lab) -> None:
    silent = lab.weak("SilentToken")
    weak = lab.weak("IgnoresAnswers", silent.address)
    lab.send(silent.functions.turnOff(True))
    lab.send(weak.functions.deposit(1_000), "alice")
    assert weak.functions.balanceOf(lab.address("alice")).call() == 1_000
    assert silent.functions.balanceOf(weak.address).call() == 0


def test_the_ledger_books_only_what_arrived(lab: Lab) -> None:
    fee = lab.weak("FeeToken")
    lab.allow("operator", lab.ledger, 2 * BUDGET, fee)
    with refused("TransferMismatch", expected=BUDGET, received=BUDGET - 1):
        create(lab, fee.address, BUDGET)
    create(lab, fee.address, 0)
    with refused("TransferMismatch", expected=100, received=99):
        lab.send(lab.ledger.functions.fundRun(2, 100), "operator")
    assert fee.functions.balanceOf(lab.ledger.address).call() == 0


def test_the_ledger_listens_to_a_token_that_says_no(lab: Lab) -> None:
    silent = lab.weak("SilentToken")
    lab.allow("operator", lab.ledger, BUDGET, silent)
    lab.send(silent.functions.turnOff(True))
    with refused("SafeERC20FailedOperation", token=silent.address):
        create(lab, silent.address, BUDGET)


@pytest.mark.parametrize("name", ["SilentToken", "ListToken"])
def test_a_token_that_fails_at_paying_delays_and_loses_nothing(lab: Lab, name: str) -> None:
    token = lab.weak(name)
    lab.allow("operator", lab.ledger, BUDGET, token)
    lab.world.run_id = create(lab, token.address, BUDGET)
    epoch = lab.epoch(alice=100)
    lab.post(epoch)
    lab.finalise()
    switch(lab, token, True)
    claim = lab.ledger.functions.claim(lab.world.run_id, 0, epoch.account(0))
    with refused("ERC20InvalidSender" if name == "ListToken" else "SafeERC20FailedOperation"):
        lab.send(claim)
    assert lab.run().claimed == 0
    switch(lab, token, False)
    lab.send(claim)
    assert token.functions.balanceOf(lab.address("alice")).call() == lab.run().claimed > 0


def create(lab: Lab, token: str, budget: int) -> int:
    params = lab.world.params(token=token).as_struct()
    lab.send(lab.ledger.functions.createRun(params, budget, "spec"), "operator")
    return int(lab.ledger.functions.numRuns().call())


def switch(lab: Lab, token: Any, off: bool) -> None:
    """Make the token fail at paying, or work again."""
    if hasattr(token.functions, "turnOff"):
        lab.send(token.functions.turnOff(off))
    else:
        lab.send(token.functions.setBlocked(lab.ledger.address, off))
