"""Every single-field lie in a leaf or a header is provable on a real EVM, and no true epoch is."""

from collections.abc import Iterable, Iterator
from dataclasses import astuple, fields, replace
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger.errors import ContractError
from protocol.canonical import keccak256
from protocol.epoch import AccountLeaf, EpochHeader, WorkLeaf
from protocol.merkle import Tree
from tests.contracts.court import ACCOUNTS, NONE, WORK, Call, Court, Told, address
from tests.contracts.world import World, key

DRAWN = settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # shrinking on an EVM takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
NAMES = ["alice", "bob", "w2", "w3", "w4", "w5"]
NOBODY = (
    "0x0000000000000000000000000000000000000001",
    "0xFFfFfFffFFfffFFfFFfFFFFFffFFFffffFfFFFfF",
    address("nobody"),
)
REFUSED_BY_LEDGER = {"run_id", "epoch", "generation", "prev_account_root"}
PLANS = st.dictionaries(
    st.sampled_from(NAMES),
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 150)), min_size=1, max_size=5),
    min_size=1,
)


@pytest.fixture
def court(world: World) -> Court:
    court = Court(world)
    court.open()
    court.open()
    court.fund("stranger")
    return court


def two_epochs(court: Court, drawn: tuple[Any, Any]) -> tuple[Told, Told]:
    """Return two true epochs; each worker's nonces ascend by the drawn steps, across both."""
    last = dict.fromkeys(NAMES, 0)
    told: list[Told] = []
    for work in drawn:
        plan = []
        for name, groups in work.items():
            for step, tokens in groups:
                last[name] += step
                plan.append((name, last[name], tokens))
        told.append(court.tell(plan, told[0] if told else None))
    return told[0], told[1]


# ---------------------------------------------------------------- lies


def proofs(told: Told) -> Iterator[Call]:
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


def workers_of(told: Told) -> list[str]:
    accounts = [leaf.worker for leaf in (*told.before, *told.accounts)]
    return sorted({leaf.worker for leaf in told.leaves} | set(accounts))


def matching(field: str, told: Told, index: int) -> list[Call]:
    """Return the proofs that are meant for a leaf's field; one of them must be taken."""
    if field in ("run_id", "tokens", "gflops", "units"):
        return [("proveBadLeaf", (told.stated, told.work(index), b""))]
    if field.endswith("_sum"):
        pairs = [(i, i + 1) for i in (index - 1, index) if i >= 0 and i + 1 < len(told.leaves)]
        return [("proveBadEdge", (told.stated, told.work(index)))] + [
            ("proveBadPair", (told.stated, told.work(left), told.work(right)))
            for left, right in pairs
        ]
    return [("proveBadLeaf", (told.stated, told.work(index), told.signature(index)))]


def of_header(told: Told) -> Iterator[Call]:
    """Yield the proofs that a header's totals or counts are not its trees'."""
    last = min(told.header.work_count, len(told.leaves)) - 1
    yield "proveBadEdge", (told.stated, told.work(last))
    for worker in workers_of(told):
        yield told.bad_account(worker)


def other_than(value: Any, kind: str, data: st.DataObject) -> Any:
    """Draw another value of the same type, next to the true one or far away."""
    if isinstance(value, bytes):
        return data.draw(st.binary(min_size=32, max_size=32).filter(lambda b: b != value))
    if isinstance(value, str):
        return data.draw(st.sampled_from([a for a in (*NOBODY, address("w3")) if a != value]))
    most = 2 ** {"u32": 32, "u64": 64, "u128": 128, "u256": 256}[kind] - 1
    near = [n for n in (value - 1, value + 1, 0, 1, value * 2, most) if 0 <= n <= most]
    return data.draw(st.sampled_from([n for n in near if n != value]))


LEAF_KINDS = {"run_id": "u256", "units": "u128", "worker_sum": "u128", "epoch_sum": "u128"}
HEADER_KINDS = {"run_id": "u256", "epoch": "u32", "work_count": "u32", "account_count": "u32"}


def is_voided_by_silence(court: Court, told: Told, tree: int, index: int) -> bool:
    """Return whether nobody who has these trees can open the leaf, and the epoch falls for it."""
    with court.aside():
        dispute = court.disputed("demand", told.stated, tree, [index])
        leaves, openings = (
            (told.leaves, told.work) if tree == WORK else (told.accounts, told.account)
        )
        for place in range(len(leaves)):
            opened = openings(place)
            shown = ([opened], [told.signature(place)]) if tree == WORK else ([opened],)
            answer = "answerWork" if tree == WORK else "answerAccounts"
            if court.takes((answer, (dispute, told.stated, [index], [0], *shown))):
                return False
        court.world.wait(court.disputes.functions.responseWindow().call())
        court.do("expire", dispute)
        return court.stands(told) == NONE


def is_provable(court: Court, told: Told, likely: Iterable[Call]) -> bool:
    if any(court.takes(call) for call in likely):
        return True
    # What cannot be opened is what nobody can show: both ends of both trees are asked for.
    header = told.header
    asked = [(WORK, 0), (WORK, header.work_count - 1), (ACCOUNTS, header.account_count - 1)]
    return any(is_voided_by_silence(court, told, *place) for place in asked)


@DRAWN
@given(drawn=st.tuples(PLANS, PLANS), data=st.data())
def test_every_changed_leaf_field_is_provable(
    court: Court, drawn: tuple[Any, Any], data: st.DataObject
) -> None:
    with court.aside():
        first, second = two_epochs(court, drawn)
        court.post(first)
        index = data.draw(st.integers(0, len(second.leaves) - 1))
        for field in fields(WorkLeaf):
            value = getattr(second.leaves[index], field.name)
            lie = other_than(value, LEAF_KINDS.get(field.name, "u64"), data)
            told = second.with_leaf(index, **{field.name: lie})
            with court.aside():
                court.post(told)
                if field.name == "signature_hash":
                    assert is_voided_by_silence(court, told, WORK, index)
                else:
                    likely = matching(field.name, told, index)
                    assert any(court.takes(call) for call in likely), (field.name, value, lie)


@DRAWN
@given(drawn=st.tuples(PLANS, PLANS), data=st.data())
def test_every_changed_header_field_is_refused_or_provable(
    court: Court, drawn: tuple[Any, Any], data: st.DataObject
) -> None:
    with court.aside():
        first, second = two_epochs(court, drawn)
        court.post(first)
        for field in fields(EpochHeader):
            value = getattr(second.header, field.name)
            kind = "u128" if field.name == "total" else HEADER_KINDS.get(field.name, "u64")
            told = second.with_header(**{field.name: other_than(value, kind, data)})
            with court.aside():
                try:
                    court.post(told)
                except ContractError:
                    continue
                assert field.name not in REFUSED_BY_LEDGER
                if field.name == "data_hash":
                    # Only the file could show it: an arbiter is asked, and says so.
                    dispute = court.disputed("escalate", told.stated, keccak256(b"no such file"))
                    court.do("rule", dispute, True, by="arbiter")
                    assert court.stands(told) == NONE
                else:
                    assert is_provable(court, told, of_header(told)), (field.name, told.header)


@settings(DRAWN, max_examples=6)
@given(drawn=st.tuples(PLANS, PLANS), data=st.data())
def test_every_changed_account_is_provable(
    court: Court, drawn: tuple[Any, Any], data: st.DataObject
) -> None:
    with court.aside():
        first, second = two_epochs(court, drawn)
        court.post(first)
        index = data.draw(st.integers(0, len(second.accounts) - 1))
        for field in fields(AccountLeaf):
            value = getattr(second.accounts[index], field.name)
            kind = "u128" if field.name == "earned" else "u64"
            told = second.with_account(index, **{field.name: other_than(value, kind, data)})
            with court.aside():
                court.post(told)
                worker = second.accounts[index].worker
                likely = [told.bad_account(worker), told.bad_account(told.accounts[index].worker)]
                assert is_provable(court, told, likely), field.name


# ---------------------------------------------------------------- truth


@DRAWN
@given(drawn=st.tuples(PLANS, PLANS), data=st.data())
def test_no_true_epoch_falls_to_any_proof_of_its_own_leaves(
    court: Court, drawn: tuple[Any, Any], data: st.DataObject
) -> None:
    with court.aside():
        told = two_epochs(court, drawn)
        for epoch in told:
            court.post(epoch)
        first, second = told
        for call in (*proofs(first), *proofs(second)):
            assert court.refusal(call) == "NoFault", call
        for _ in range(3):
            for call in strange_calls(first, second, data):
                assert not court.takes(call), call


def strange_calls(first: Told, second: Told, data: st.DataObject) -> Iterator[Call]:
    """Yield one call of each kind whose arguments are drawn without any sense."""
    told = data.draw(st.sampled_from([first, second]))

    def work() -> Any:
        return told.work(data.draw(st.integers(0, len(told.leaves) - 1)))

    def account() -> Any:
        return told.account(data.draw(st.integers(0, len(told.accounts) - 1)))

    def before() -> Any:
        if not told.before:
            return account()
        return told.account_before(data.draw(st.integers(0, len(told.before) - 1)))

    def some(thing: Any) -> list[Any]:
        return [thing() for _ in range(data.draw(st.integers(0, 2)))]

    signature = data.draw(st.sampled_from([b"", *told.signatures.values()]))
    worker = data.draw(st.sampled_from([*NOBODY, *(leaf.worker for leaf in told.accounts)]))
    one = data.draw(st.sampled_from([first, second]))
    other_work = one.work(data.draw(st.integers(0, len(one.leaves) - 1)))
    yield "proveBadLeaf", (told.stated, work(), signature)
    yield "proveBadPair", (told.stated, work(), work())
    yield "proveBadEdge", (told.stated, work())
    yield "proveDuplicate", (told.stated, work(), one.stated, other_work)
    yield "proveStaleNonce", (told.stated, work(), before())
    yield "proveAccountOrder", (told.stated, account(), account())
    yield "proveBadAccount", (told.stated, worker, some(before), some(work), some(account))


SMALL = [
    ([("alice", 1, 5)], [("alice", 2, 0)]),
    ([("alice", 1, 0)], [("bob", 1, 3), ("bob", 2, 4)]),
    ([("alice", 1, 5), ("bob", 1, 5)], []),
    ([], [("bob", 3, 1)]),
]


@pytest.mark.parametrize("plans", SMALL, ids=["1+1", "1+2", "2+0", "0+1"])
def test_no_small_true_epoch_falls_to_any_arguments_at_all(court: Court, plans: Any) -> None:
    first = court.post(court.tell(plans[0]))
    second = court.post(court.tell(plans[1], first))
    taken = [call for told in (first, second) for call in all_calls(told, first, second)]
    assert [call for call in taken if court.takes(call)] == []


def all_calls(told: Told, first: Told, second: Told) -> Iterator[Call]:
    """Yield every proof with every choice of places, and indices past the end."""
    work = [told.work(index) for index in range(len(told.leaves))]
    work += [(leaf, index + len(work), proof) for leaf, index, proof in work]
    accounts = [told.account(index) for index in range(len(told.accounts))]
    before = [told.account_before(index) for index in range(len(told.before))]
    for one in work:
        yield "proveBadEdge", (told.stated, one)
        for signature in (b"", b"\0", *told.signatures.values()):
            yield "proveBadLeaf", (told.stated, one, signature)
        for account in before:
            yield "proveStaleNonce", (told.stated, one, account)
        for epoch in (first, second):
            for index in range(len(epoch.leaves)):
                yield "proveDuplicate", (told.stated, one, epoch.stated, epoch.work(index))
    for left, right in product(work, work):
        yield "proveBadPair", (told.stated, left, right)
    for left, right in product(accounts, accounts):
        yield "proveAccountOrder", (told.stated, left, right)
    some = [witnesses(known) for known in (before, work, accounts)]
    for worker, *shown in product([*workers_of(told), *NOBODY], *some):
        yield "proveBadAccount", (told.stated, worker, *shown)


def witnesses(known: list[Any]) -> list[list[Any]]:
    return [[], *([one] for one in known), *([a, b] for a, b in pairwise(known))]


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
    lie = court.post(first.with_header(total=6))
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
            told = court.post(true.with_accounts(accounts))
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


@pytest.mark.parametrize("num_parameters", [1, 1_234_567, 2**48 - 1])
def test_gflops_are_twice_parameters_times_tokens_rounded_up(
    world: World, num_parameters: int
) -> None:
    world.run_id = world.by("operator").create_run(
        world.params(num_parameters=num_parameters), 10**5, "ipfs://other"
    )
    court = Court(world)
    court.open()
    for tokens in (0, 1, 407, 5000):
        true = -(-2 * num_parameters * tokens // 10**9)
        for gflops, refusal in ((true, "NoFault"), (true + 1, None), (true - 1, None)):
            if gflops < 0:
                continue
            with court.aside():
                work = court.work("alice", 1, tokens, gflops=gflops)
                told = court.post(court.tell_of([(work, court.signed(work, "alice"))]))
                call = "proveBadLeaf", (told.stated, told.work(0), told.signature(0))
                assert court.refusal(call) == refusal, (tokens, gflops)


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
    lie = court.post(court.tell([("alice", 1, 5)]).with_header(total=6))
    later = court.post(court.tell([("bob", 1, 5)], lie).with_header(gflops=9), "v1", "v2")
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
    anew = court.tell([("alice", 1, 5), ("bob", 1, 5)]).with_header(generation=1)
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
    told = first.with_header(generation=1, account_count=3)
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

    roots = {"work_root": work_tree.root, "account_root": account_tree.root}
    counts = {"work_count": GROUPS, "account_count": WORKERS}
    first = court.post(true.with_header(**roots, **counts))
    later = {"epoch": 1, "prev_account_root": account_tree.root, "total": 1}
    told = court.post(first.with_header(**later))
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
