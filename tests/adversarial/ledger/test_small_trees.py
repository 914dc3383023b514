"""Trees with no leaf or one, padding that passes for a leaf, and inner nodes that do."""

from dataclasses import astuple, replace

from ledger.state import DisputeKind
from protocol.merkle import ZERO_WORD
from tests.stage.ledger_lab import QUORUM, Lab
from tests.stage.world import RATE, STAKE, refused


def test_without_a_count_padding_and_inner_nodes_are_leaves(lab: Lab) -> None:
    epoch = lab.epoch(alice=[10, 20, 30])
    tree = epoch.work_tree
    weak = lab.weak("AnswersWithPadding", tree.root)
    sibling, uncle = tree.proof(2)
    assert sibling == ZERO_WORD
    lab.send(weak.functions.answer(ZERO_WORD, 3, [epoch.leaves[2].digest(), uncle]))
    assert weak.functions.isAnswered(3).call(), "a leaf that nobody can show was shown"
    lab.send(weak.functions.answer(tree.root, 7, []))
    assert weak.functions.isAnswered(7).call(), "the root is its own leaf"


def test_the_ledgers_paths_have_one_length_and_end_at_the_count(lab: Lab) -> None:
    epoch = lab.epoch(alice=[10, 20, 30])
    root, digests, tree = (
        epoch.work_tree.root,
        [leaf.digest() for leaf in epoch.leaves],
        epoch.work_tree,
    )
    verify = lab.weak("Probe").functions.verify
    for index in range(3):
        assert verify(root, digests[index], index, 3, tree.proof(index)).call()
    _, uncle = tree.proof(2)
    assert not verify(root, ZERO_WORD, 3, 3, [digests[2], uncle]).call()
    assert not verify(root, root, 0, 3, []).call()
    assert not verify(root, tree.proof(2)[1], 0, 3, [tree.proof(0)[1]]).call()
    assert not verify(ZERO_WORD, ZERO_WORD, 0, 0, []).call()


def test_leaves_that_do_not_exist_cannot_be_opened_and_cost_the_stake(lab: Lab) -> None:
    # Three leaves, said to be four: the padding has no preimage.
    epoch = lab.epoch(alice=[10, 20, 30])
    header = lab.post(epoch, work_count=4)
    lab.allow("bob", lab.registry, STAKE)
    demand = lab.disputes.functions.demand(astuple(header), DisputeKind.WORK, [3])
    dispute = lab.dispute_id(lab.send(demand, "bob"))
    forged = (*epoch.work(2)[:1], 3, [epoch.leaves[2].digest(), epoch.work_tree.proof(2)[1]])
    answer = lab.disputes.functions.answerWork(
        dispute, astuple(header), [3], [0], [forged], [epoch.signature(2)]
    )
    with refused("BadOpening", index=3):
        lab.send(answer)
    lab.world.wait(int(lab.disputes.functions.responseWindow().call()) + 1)
    lab.send(lab.disputes.functions.expire(dispute))
    assert lab.run().num_posted == 0
    assert [lab.stake(name) for name in QUORUM] == [0, 0]


def test_an_empty_epoch_says_nothing_and_nothing_can_be_said_against_it(lab: Lab) -> None:
    empty = lab.epoch()
    for lie in (
        {"total": 1},
        {"tokens": 1},
        {"work_root": b"\1" * 32},
        {"account_root": b"\1" * 32},
    ):
        with refused("InconsistentCounts", workCount=0):
            lab.post(empty, **lie)
    header = lab.post(empty)
    lab.allow("bob", lab.registry, STAKE)
    for tree in (DisputeKind.WORK, DisputeKind.ACCOUNTS):
        with refused("BadIndices", most=0):
            lab.send(lab.disputes.functions.demand(astuple(header), tree, [0]), "bob")
    made_up = lab.epoch(alice=1)
    with refused("BadOpening"):
        lab.send(lab.bad_edge(made_up, header))
    prove = lab.disputes.functions.proveBadAccount
    with refused("NoFault"):
        lab.send(prove(astuple(header), lab.address("alice"), [], [], []))
    lab.finalise()
    first = lab.epoch(alice=100)
    lab.post(first)
    lab.finalise()
    assert lab.claim("alice", 1, first) == 100 * RATE


def test_one_honest_leaf_is_its_own_edge_and_no_fault(lab: Lab) -> None:
    epoch = lab.epoch(alice=100)
    header = lab.post(epoch)
    work, account = epoch.work(0), epoch.account(0)
    prove, alice = lab.disputes.functions, lab.address("alice")
    attempts = [
        ("NoFault", prove.proveBadEdge(astuple(header), work)),
        ("NoFault", prove.proveBadLeaf(astuple(header), work, epoch.signature(0))),
        ("NotAdjacent", prove.proveBadPair(astuple(header), work, work)),
        ("NotAdjacent", prove.proveAccountOrder(astuple(header), account, account)),
        ("NoFault", prove.proveDuplicate(astuple(header), work, astuple(header), work)),
        ("BadOpening", prove.proveStaleNonce(astuple(header), work, account)),
        ("NoFault", prove.proveBadAccount(astuple(header), alice, [], [work], [account])),
        ("BadWitness", prove.proveBadAccount(astuple(header), alice, [], [], [account])),
        (
            "NoFault",
            prove.proveBadAccount(astuple(header), lab.address("bob"), [], [work], [account]),
        ),
    ]
    for name, call in attempts:
        with refused(name):
            lab.send(call)


def test_one_false_leaf_is_caught_at_either_edge(lab: Lab) -> None:
    honest = lab.epoch(alice=100)
    lies = {
        "first": honest.with_leaf(0, epoch_sum=honest.leaves[0].epoch_sum - 1),
        "last": honest,
    }
    for edge, epoch in lies.items():
        with lab.world.undone():
            total = {"total": 101} if edge == "last" else {}
            header = lab.post(epoch, **total)
            lab.send(lab.bad_edge(epoch, header))
            assert lab.run().num_posted == 0


def test_one_account_of_somebody_who_did_nothing_is_caught(lab: Lab) -> None:
    honest = lab.epoch(alice=100)
    [alice] = honest.accounts
    stolen = honest.bend(accounts=[replace(alice, worker=lab.address("bob"))])
    header = lab.post(stolen)
    work, account = stolen.work(0), stolen.account(0)
    for name in ("alice", "bob"):
        with lab.world.undone():
            prove = lab.disputes.functions.proveBadAccount
            lab.send(prove(astuple(header), lab.address(name), [], [work], [account]))
            assert [lab.stake(verifier) for verifier in QUORUM] == [0, 0]
