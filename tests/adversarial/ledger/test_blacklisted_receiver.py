"""One worker whom the token refuses, among others who want to be paid."""

from tests.stage.ledger_lab import Lab
from tests.stage.world import BUDGET, RATE, refused


def test_where_all_are_paid_together_one_blocked_account_stops_the_rest(lab: Lab) -> None:
    token = lab.weak("ListToken")
    weak = lab.weak("PaysAll", token.address, [lab.address("alice"), lab.address("bob")])
    lab.give(weak.address, 1_000, token)
    lab.send(token.functions.setBlocked(lab.address("alice"), True))
    with refused("ERC20InvalidReceiver", receiver=lab.address("alice")):
        lab.send(weak.functions.payAll(100))
    assert token.functions.balanceOf(lab.address("bob")).call() == 0


def test_in_the_ledger_it_delays_itself_only_and_names_another_address(lab: Lab) -> None:
    token = lab.weak("ListToken")
    balance = token.functions.balanceOf
    lab.allow("operator", lab.ledger, BUDGET, token)
    params = lab.world.params(token=token.address).as_struct()
    lab.send(lab.ledger.functions.createRun(params, BUDGET, "spec"), "operator")
    lab.world.run_id = 2
    epoch = lab.epoch(alice=100, bob=50)
    lab.post(epoch)
    lab.send(token.functions.setBlocked(lab.address("alice"), True))
    lab.finalise()
    for name in ("alice", "bob"):
        [index] = [n for n, leaf in enumerate(epoch.accounts) if leaf.worker == lab.address(name)]
        call = lab.ledger.functions.claim(2, 0, epoch.account(index))
        if name == "bob":
            lab.send(call)
            continue
        with refused("ERC20InvalidReceiver"):
            lab.send(call)
        alice = call
    assert balance(lab.address("bob")).call() == 50 * RATE
    lab.world.by("alice").set_payout(lab.address("treasury"))
    lab.send(alice)
    assert balance(lab.address("treasury")).call() == 100 * RATE
