"""Claims: who is paid what, once, whatever becomes of the run."""

from dataclasses import replace

import pytest

from protocol.epoch import account_tree
from tests.stage.world import BUDGET, RATE, WINDOW, World, refused


def test_a_worker_is_paid_units_times_rate_less_what_it_had(world: World) -> None:
    first = world.settle(alice=100, bob=50)
    alice, worker = world.by("alice"), world.address("alice")
    before = alice.balance(worker)
    assert world.claim("alice", 0, first) == 100 * RATE
    second = world.settle(alice=130, bob=50)
    assert world.claim("alice", 1, second) == 30 * RATE
    assert alice.balance(worker) == before + 130 * RATE
    assert alice.claimed(1, worker) == alice.run(1).claimed == 130 * RATE


def test_anyone_may_send_a_claim_and_the_money_goes_to_the_payout_address(world: World) -> None:
    world.by("alice").set_payout(world.address("treasury"))
    accounts = world.settle(alice=100)
    assert world.claim("alice", 0, accounts, by="stranger") == 1000
    assert world.by("alice").balance(world.address("treasury")) == 1000
    assert world.by("alice").balance(world.address("stranger")) == 0


def test_a_pending_epoch_pays_nothing_until_it_is_final(world: World) -> None:
    accounts = world.accounts(alice=100)
    world.open()
    world.post(world.header(accounts))
    world.wait(WINDOW - 1)
    with refused("EpochNotFinal", epoch=0, numFinal=0):
        world.claim("alice", 0, accounts)
    world.wait(WINDOW)
    # The claim itself finalises: no transaction before it is needed.
    assert world.claim("alice", 0, accounts) == 1000


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_claim_is_exactly_one_leaf_at_its_place(world: World, count: int) -> None:
    names = ["alice", "bob", "v0", "v1", "v2"][:count]
    accounts = world.settle(**{name: 10 + n for n, name in enumerate(names)})
    tree = account_tree(accounts)
    index = [leaf.worker for leaf in accounts].index(world.address("alice"))
    leaf, proof = accounts[index], tree.proof(index)
    send = world.by("alice").claim
    wrong = {
        "more earned": (replace(leaf, earned=leaf.earned + 1), index, proof),
        "another worker": (replace(leaf, worker=world.address("stranger")), index, proof),
        "another nonce": (replace(leaf, last_nonce=2), index, proof),
        "another place": (leaf, (index + 1) % max(count, 2), proof),
        "beyond the count": (leaf, index + (1 << len(proof)), proof),
        "a longer proof": (leaf, index, [*proof, bytes(32)]),
        "a shorter proof": (leaf, index, proof[:-1]) if proof else (leaf, 1, proof),
        "a bent proof": (leaf, index, [bytes(32), *proof[1:]]) if proof else (leaf, 2, proof),
    }
    for bent in wrong.values():
        with refused("BadProof"):
            send(1, 0, *bent)
    assert send(1, 0, leaf, index, proof) == leaf.earned * RATE


def test_a_root_that_promises_more_than_it_committed_is_paid_only_that(world: World) -> None:
    honest = world.settle(bob=100)
    accounts = world.accounts(alice=10_000, bob=100)
    world.open()
    lie = world.header(accounts, total=50)
    world.post(lie)
    world.wait(WINDOW)
    with refused("ClaimExceedsFinal", claimed=100_000, finalised=1500):
        world.claim("alice", 1, accounts)
    assert world.claim("bob", 0, honest) == 1000


def test_one_runs_root_cannot_reach_another_runs_money(world: World) -> None:
    rich, world.run_id = 1, world.by("operator").create_run(world.params(), 10 * RATE, "")
    accounts = world.settle(alice=10)
    with refused("EpochNotFinal", epoch=0, numFinal=0):
        world.by("alice").claim(rich, 0, accounts[0], 0, [])
    assert world.claim("alice", 0, accounts) == 10 * RATE
    assert world.by("alice").run(rich).budget == BUDGET


def test_claims_survive_halt_stop_and_close(world: World) -> None:
    accounts = world.settle(alice=100, bob=50, v0=20)
    operator = world.by("operator")
    operator.halt_run(1)
    assert world.claim("alice", 0, accounts) == 1000
    operator.stop_run(1)
    assert world.claim("bob", 0, accounts) == 500
    world.wait(WINDOW + 1)
    operator.close_run(1)
    world.wait(10**8)
    assert world.claim("v0", 0, accounts) == 200


def test_a_reentrant_token_finds_the_door_shut(world: World) -> None:
    token = world.contract("ReentrantToken")
    world.transact(token.functions.mint(world.address("operator"), BUDGET))
    operator = world.by("operator")
    world.run_id = operator.create_run(world.params(token=token.address), BUDGET, "")
    accounts = world.settle(alice=100, bob=100)
    tree = account_tree(accounts)
    index = [leaf.worker for leaf in accounts].index(world.address("bob"))
    bob = (accounts[index].worker, 100, 1, index, tree.proof(index))
    again = operator._ledger.functions.claim(world.run_id, 0, bob)
    aim = token.functions.aim(world.deployment.ledger, again._encode_transaction_data())
    world.transact(aim)
    # Were it not for the guard, this very call would go through: it does, on its own, below.
    assert world.claim("alice", 0, accounts) == 1000
    assert not token.functions.hasReentered().call()
    assert world.claim("bob", 0, accounts) == 1000


def test_a_token_that_speaks_as_the_ledger_is_not_heard(world: World) -> None:
    token = world.contract("MimicToken")
    world.transact(token.functions.mint(world.address("operator"), BUDGET))
    operator = world.by("operator")
    world.run_id = operator.create_run(world.params(token=token.address), BUDGET, "")
    accounts = world.settle(alice=100)
    assert world.claim("alice", 0, accounts) == 1000
