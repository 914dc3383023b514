"""Being paid twice for the same account leaf."""

from tests.stage.ledger_lab import Lab
from tests.stage.world import RATE, refused


def test_without_memory_a_leaf_pays_as_often_as_it_is_shown(lab: Lab) -> None:
    epoch = lab.epoch(alice=100, bob=50)
    weak = lab.weak("PaysAgain", lab.token.address, epoch.account_tree.root, 2)
    lab.give(weak.address, 1_000)
    [index] = [n for n, leaf in enumerate(epoch.accounts) if leaf.worker == lab.address("alice")]
    before = lab.balance("alice")
    for _ in range(3):
        lab.send(weak.functions.claim(epoch.account(index)))
    assert lab.balance("alice") - before == 3 * 100


def test_a_leaf_pays_once_whoever_shows_it(lab: Lab) -> None:
    epoch = lab.epoch(alice=100, bob=50)
    lab.post(epoch)
    lab.finalise()
    assert lab.claim("alice", 0, epoch) == 100 * RATE
    for by in ("alice", "stranger"):
        with refused("NothingToClaim", earned=100 * RATE, claimed=100 * RATE):
            lab.claim("alice", 0, epoch, by=by)


def test_a_later_epoch_pays_only_what_it_adds_and_an_older_leaf_nothing(lab: Lab) -> None:
    first = lab.epoch(alice=100)
    lab.post(first)
    second = lab.epoch(*first.accounts, first_nonce=2, alice=30)
    lab.post(second)
    lab.finalise()
    assert lab.claim("alice", 1, second) == 130 * RATE
    with refused("NothingToClaim", earned=100 * RATE, claimed=130 * RATE):
        lab.claim("alice", 0, first)
    assert lab.run().claimed == 130 * RATE


def test_a_second_place_in_a_false_tree_pays_nothing_more(lab: Lab) -> None:
    # A quorum that lies writes alice down twice. Even where nobody objects, she is paid once.
    honest = lab.epoch(alice=100, bob=50)
    [alice] = [leaf for leaf in honest.accounts if leaf.worker == lab.address("alice")]
    lying = honest.bend(accounts=[alice, alice])
    lab.post(lying)
    lab.finalise()
    proofs = [lying.account(index) for index in (0, 1)]
    lab.send(lab.ledger.functions.claim(lab.world.run_id, 0, proofs[0]))
    with refused("NothingToClaim"):
        lab.send(lab.ledger.functions.claim(lab.world.run_id, 0, proofs[1]))
