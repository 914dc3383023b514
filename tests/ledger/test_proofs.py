"""A walk through the proofs of fraud: what each shows, who pays, and what it costs.

That every lie of one field falls to a proof, and no truth does, is held by Forge's tests.
"""

from collections.abc import Iterator
from dataclasses import astuple, replace
from itertools import pairwise
from typing import Any

import pytest

from ledger.errors import ContractError
from protocol.canonical import keccak256
from protocol.epoch import AccountLeaf
from protocol.merkle import Tree
from tests.stage.court import NONE, Court, address
from tests.stage.epochs import Call, Epoch
from tests.stage.terms import key
from tests.stage.world import World

NOBODY = (
    "0x0000000000000000000000000000000000000001",
    "0xFFfFfFffFFfffFFfFFfFFFFFffFFFffffFfFFFfF",
    address("nobody"),
)


@pytest.fixture
def court(world: World) -> Court:
    court = Court(world)
    court.open()
    court.open()
    court.fund("stranger")
    return court


def proofs(told: Epoch) -> Iterator[Call]:
    """Yield the calls that whoever holds all of an epoch would try, the cheapest first."""
    places = range(len(told.leaves))
    for index in places:
        yield "proveBadLeaf", (told.stated, told.work(index), told.signature(index))
        yield "proveBadEdge", (told.stated, told.work(index))
    for left, right in pairwise(places):
        yield "proveBadPair", (told.stated, told.work(left), told.work(right))
    for left, right in pairwise(range(len(told.accounts))):
        yield "proveAccountOrder", (told.stated, told.account(left), told.account(right))
    for worker in workers_of(told):
        yield told.bad_account(worker)


def workers_of(told: Epoch) -> list[str]:
    accounts = [leaf.worker for leaf in (*told.before, *told.accounts)]
    return sorted({leaf.worker for leaf in told.leaves} | set(accounts))


# ---------------------------------------------------------------- lies of more than one field


def test_padding_becomes_money_unless_it_is_proven(court: Court) -> None:
    world = court.world
    true = court.tell([("alice", 1, 5), ("bob", 1, 7)])
    # All sums and accounts follow; only alice never signed that much.
    work = court.work("alice", 1, 500)
    forged = [(work, true.signature(0)), (court.work("bob", 1, 7), true.signature(1))]
    told = court.post(court.tell_of(forged))
    index = next(i for i, leaf in enumerate(told.leaves) if leaf.worker == address("alice"))
    proof = "proveBadLeaf", (told.stated, told.work(index), told.signature(index))
    claim = court.ledger.functions.claim(1, 0, told.account(index))
    with court.aside():
        world.wait(court.ledger.functions.runOf(1).call()[0].challengeWindow)
        world.transact(claim)
        paid = court.token.functions.balanceOf(address("alice")).call()
        assert court.refusal(proof) == "NotDisputable"
    # The signature is what gives it away: without it the leaf is as it should be.
    assert court.refusal(("proveBadLeaf", (told.stated, told.work(index), b""))) == "NoFault"
    wrong = told.signatures[told.leaves[1 - index].signature_hash]
    assert court.refusal(("proveBadLeaf", (told.stated, told.work(index), wrong))) == (
        "WrongSignature"
    )
    court.do(*proof[:1], *proof[1])
    assert court.stands(told) == NONE
    with pytest.raises(ContractError, match="EpochNotFinal"):
        world.transact(claim)
    assert paid - court.token.functions.balanceOf(address("alice")).call() == 500 * 10
    # Its two signers pay; a quarter goes to the finder and nobody else's stake is touched.
    stake = court.min_stake
    assert [court.stake(name) for name in ("v0", "v1", "v2")] == [0, 0, stake]
    assert (court.credit("stranger"), court.credit("treasury")) == (stake // 2, stake * 3 // 2)
    assert court.refusal(proof) == "NotDisputable"


def test_a_voided_epoch_takes_every_later_one_with_it_and_can_be_told_again(court: Court) -> None:
    first = court.tell([("alice", 1, 5)])
    lie = court.post(first.bend(total=6))
    later = court.post(court.tell([("bob", 1, 5)], lie), "v1", "v2")
    court.do("proveBadEdge", lie.stated, lie.work(0))
    assert (court.stands(lie), court.stands(later)) == (NONE, NONE)
    # The later one's signers are not slashed for it, unless they signed both.
    assert [court.stake(name) for name in ("v0", "v1", "v2")] == [0, 0, court.min_stake]


def test_paying_one_group_twice_is_proven_within_and_across_epochs(court: Court) -> None:
    payload = keccak256(b"one group")
    twice = [court.work("alice", n, 5, payload_digest=payload) for n in (1, 2, 3)]
    signed = [(work, court.signed(work, "alice")) for work in twice]
    within = court.tell_of(signed[:2])
    with court.aside():
        court.post(within)
        arguments = within.stated, within.work(0), within.stated, within.work(1)
        assert court.takes(("proveDuplicate", arguments))
    first = court.post(court.tell_of(signed[:1]))
    second = court.post(court.tell_of(signed[2:], first))
    call = "proveDuplicate", (second.stated, second.work(0), first.stated, first.work(0))
    assert court.takes(call)
    backwards = "proveDuplicate", (first.stated, first.work(0), second.stated, second.work(0))
    assert court.refusal(backwards) == "NotDisputable"
    # The first of the two may be final by then.
    court.world.wait(court.ledger.functions.runOf(1).call()[0].challengeWindow - 1)
    court.world.transact(court.ledger.functions.advance(1))
    assert (court.stands(first), court.stands(second)) == (2, 1)
    assert court.takes(call)


def test_a_nonce_paid_before_is_proven(court: Court) -> None:
    first = court.post(court.tell([("alice", 7, 5)]))
    for nonce in (6, 7):
        with court.aside():
            second = court.post(court.tell([("alice", nonce, 5)], first))
            call = "proveStaleNonce", (second.stated, second.work(0), second.account_before(0))
            assert court.takes(call)
    second = court.post(court.tell([("alice", 8, 5), ("bob", 1, 1)], first))
    mine = next(i for i, leaf in enumerate(second.leaves) if leaf.worker == address("alice"))
    call = "proveStaleNonce", (second.stated, second.work(mine), second.account_before(0))
    assert court.refusal(call) == "NoFault"
    call = "proveStaleNonce", (second.stated, second.work(1 - mine), second.account_before(0))
    assert court.refusal(call) == "BadWitness"


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_an_account_left_out_changed_or_made_up_is_proven(court: Court, name: str) -> None:
    first = court.post(court.tell([("alice", 1, 5), ("bob", 1, 7)]))
    true = court.tell([("alice", 2, 5), ("w3", 1, 1)], first)
    mine = next(i for i, leaf in enumerate(true.accounts) if leaf.worker == address(name))
    rest = [leaf for leaf in true.accounts if leaf.worker != address(name)]
    more = replace(true.accounts[mine], earned=true.accounts[mine].earned + 1)
    changed = [more if leaf.worker == more.worker else leaf for leaf in true.accounts]
    made_up = sorted(
        [*true.accounts, AccountLeaf(address("w5"), 9, 1)], key=lambda leaf: int(leaf.worker, 16)
    )
    for accounts, worker in ((rest, name), (changed, name), (made_up, "w5")):
        with court.aside():
            told = court.post(true.bend(accounts=accounts))
            assert court.takes(told.bad_account(address(worker)))


def test_nobody_is_absent_between_leaves_that_are_not_neighbours(court: Court) -> None:
    plan = [(name, 1, 5) for name in ("alice", "bob", "w2")]
    first = court.post(court.tell(plan))
    second = court.post(court.tell([(name, nonce + 1, 5) for name, nonce, _ in plan], first))
    middle = second.accounts[1].worker
    true = (
        second.before_witness(middle),
        second.work_witness(middle),
        second.account_witness(middle),
    )
    apart = (
        [second.account_before(0), second.account_before(2)],
        [second.work(0), second.work(2)],
        [second.account(0), second.account(2)],
    )
    for place in range(3):
        shown = [apart[n] if n == place else true[n] for n in range(3)]
        call = "proveBadAccount", (second.stated, middle, *shown)
        assert court.refusal(call) == "BadWitness"
    assert court.refusal(second.bad_account(middle)) == "NoFault"


def test_work_dated_when_nothing_was_owed_is_proven(court: Court) -> None:
    world = court.world
    owed = court.tell([("alice", 1, 5)])
    world.transact(court.ledger.functions.haltRun(1, bytes(32)), "operator")
    cutoff = court.now
    for at, refusal in ((cutoff, "NoFault"), (cutoff + 1, None), (cutoff + 60, None)):
        with court.aside():
            work = court.work("alice", 1, 5, submitted_at=at)
            world.clock.now = cutoff + 10
            told = court.post(court.tell_of([(work, court.signed(work, "alice"))]))
            assert court.refusal(("proveBadLeaf", (told.stated, told.work(0), b""))) == refusal
    court.post(owed)
    assert court.refusal(("proveBadLeaf", (owed.stated, owed.work(0), b""))) == "NoFault"


def test_work_dated_after_its_posting_is_proven(court: Court) -> None:
    for late, refusal in ((0, "NoFault"), (1, None)):
        with court.aside():
            posted = court.now + 5
            work = court.work("alice", 1, 5, submitted_at=posted + late)
            court.world.clock.now = posted
            told = court.post(court.tell_of([(work, court.signed(work, "alice"))]))
            court.world.wait(30)
            assert court.refusal(("proveBadLeaf", (told.stated, told.work(0), b""))) == refusal


def test_a_hot_keys_signature_counts_until_it_was_revoked(court: Court) -> None:
    world, me = court.world, address("alice")
    consent = court.registry.functions.consentDigest(me, address("hot")).call()
    signature = bytes(key("hot").unsafe_sign_hash(consent).signature)
    world.transact(court.registry.functions.addSigner(address("hot"), signature), "alice")
    world.transact(court.registry.functions.revokeSigner(address("hot")), "alice")
    _, until = court.registry.functions.signerOf(address("hot")).call()
    for at, refusal in ((until - 1, "NoFault"), (until, None)):
        with court.aside():
            world.clock.now = until + 5
            work = court.work("alice", 1, 5, submitted_at=at)
            told = court.post(court.tell_of([(work, court.signed(work, "hot"))]))
            call = "proveBadLeaf", (told.stated, told.work(0), told.signature(0))
            assert court.refusal(call) == refusal


def test_a_signature_that_is_none_speaks_for_nobody(court: Court) -> None:
    # An epoch that pays the zero address under garbage must not pass for one signed by it.
    for worker, signature in ((NOBODY[0], b""), ("0x" + "00" * 20, b"\0" * 65), (NOBODY[1], b"x")):
        with court.aside():
            work = court.work("alice", 1, 5, worker=worker)
            told = court.post(court.tell_of([(work, signature)]))
            shown = "proveBadLeaf", (told.stated, told.work(0), signature or b"\0")
            expected = None if signature else "WrongSignature"
            assert court.refusal(shown) == expected


# ---------------------------------------------------------------- what was taken back


def test_taking_a_lie_back_does_not_save_its_signers(court: Court) -> None:
    lie = court.post(court.tell([("alice", 1, 5)]).bend(total=6))
    later = court.post(court.tell([("bob", 1, 5)], lie).bend(gflops=9), "v1", "v2")
    proof = "proveBadEdge", (lie.stated, lie.work(0))
    court.retract(lie, "v0", "v1")
    court.world.transact(court.ledger.functions.advance(1))
    with court.aside():
        court.world.wait(court.ledger.functions.runOf(1).call()[0].challengeWindow)
        assert court.refusal(proof) == "NotDisputable"
    court.do("proveBadEdge", later.stated, later.work(0))
    assert [court.stake(name) for name in ("v0", "v1", "v2")] == [court.min_stake, 0, 0]
    court.do(*proof[:1], *proof[1])
    assert court.stake("v0") == 0
    # Each header is answered for once.
    assert court.refusal(proof) == "NotDisputable"


def test_work_that_was_taken_back_and_told_anew_is_no_duplicate(court: Court) -> None:
    first = court.post(court.tell([("alice", 1, 5)]))
    second = court.post(court.tell([("bob", 1, 5)], first))
    court.retract(first, "v0", "v1")
    anew = court.tell([("alice", 1, 5), ("bob", 1, 5)]).bend(generation=1)
    court.post(anew)
    for mine in range(2):
        call = "proveDuplicate", (second.stated, second.work(0), anew.stated, anew.work(mine))
        assert court.refusal(call) == "NotDisputable"
    for call in proofs(second):
        assert not court.takes(call)


def test_an_account_tree_told_anew_cannot_condemn_a_header_that_was_taken_back(
    court: Court,
) -> None:
    first = court.post(court.tell([("alice", 1, 5), ("bob", 1, 5), ("w2", 1, 5), ("w3", 1, 5)]))
    second = court.post(court.tell([], first))
    court.retract(first, "v0", "v1")
    # The same root under a smaller count: the last account would seem never to have been.
    told = first.bend(generation=1, account_count=3)
    court.post(told, "v0", "v1")
    last = second.before[-1].worker
    witness: tuple[list[Any], ...]
    witness = [second.account_before(2)], [], [second.account(3)]
    call = "proveBadAccount", (second.stated, last, *witness)
    assert court.refusal(call) == "NotDisputable"
    assert court.takes(told.bad_account(last))


# ---------------------------------------------------------------- cost

GROUPS, WORKERS = 100_000, 1_000
MOST_GAS = 256_200
"""Five per cent above the dearest proof of the prototype."""


def deep_tree(leaves: dict[int, Any], count: int) -> Tree:
    """Return a tree of so many leaves, of which these are real."""
    digests = [keccak256(place.to_bytes(4, "big")) for place in range(count)]
    for place, leaf in leaves.items():
        digests[place] = leaf.digest()
    return Tree(digests)


def test_a_proof_among_a_hundred_thousand_groups_costs_what_was_promised(court: Court) -> None:
    """Gas of each proof in an epoch of 100,000 groups by 1,000 workers that two verifiers signed."""
    plan = [(name, nonce, 5) for name in ("alice", "bob", "w2", "w3") for nonce in (1, 2)]
    true = court.tell(plan)
    a, b, c, d = true.accounts
    unsigned = replace(true.leaves[0], policy_version=9)
    middle, last = GROUPS // 2, GROUPS - 1
    work = {0: unsigned, middle: true.leaves[3], middle + 1: true.leaves[5], last: true.leaves[7]}
    half, end = WORKERS // 2, WORKERS - 1
    accounts = {0: a, half: a, half + 1: c, end - 1: d, end: a}
    work_tree, account_tree = deep_tree(work, GROUPS), deep_tree(accounts, WORKERS)

    def leaf(place: int) -> Any:
        return astuple(work[place]), place, work_tree.proof(place)

    def account(place: int) -> Any:
        return *astuple(accounts[place]), place, account_tree.proof(place)

    roots: dict[str, Any] = {"work_root": work_tree.root, "account_root": account_tree.root}
    counts: dict[str, Any] = {"work_count": GROUPS, "account_count": WORKERS}
    first = court.post(true.bend(**roots, **counts))
    later: dict[str, Any] = {"epoch": 1, "prev_account_root": account_tree.root, "total": 1}
    told = court.post(first.bend(**later))
    gap = [account(half), account(half + 1)]
    calls: dict[str, tuple[Any, ...]] = {
        "proveBadLeaf": (leaf(0), true.signatures[unsigned.signature_hash]),
        "proveBadPair": (leaf(middle), leaf(middle + 1)),
        "proveBadEdge": (leaf(last),),
        "proveDuplicate": (leaf(0), first.stated, leaf(0)),
        "proveStaleNonce": (leaf(0), account(0)),
        "proveAccountOrder": (account(end - 1), account(end)),
        # The longest witness there is: a worker that had no account, has work, and got none.
        "proveBadAccount": (b.worker, gap, [leaf(middle), leaf(middle + 1)], gap),
    }
    used = {}
    for name, arguments in calls.items():
        with court.aside():
            used[name] = court.do(name, told.stated, *arguments).gas_used
    assert max(used.values()) <= MOST_GAS, used
