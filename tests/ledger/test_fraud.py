"""Every false field of an epoch is found with the call that proves it; honest epochs yield nothing."""

import math
from dataclasses import fields, replace
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.fraud import Paid, find
from audit.hidden.search import MAX_INDICES, Demand, Exhausted, Revealed, next_step
from ledger.state import Fault
from protocol.canonical import keccak256
from protocol.epoch import AccountLeaf, WorkLeaf
from protocol.merkle import Tree
from protocol.messages import Contribution, EpochFile
from protocol.rollout import Work
from protocol.signing import Domain, sign
from tests.stage.books import (
    Book,
    account_leaves,
    accounts_of,
    gflops,
    header_of,
    opened,
    with_accounts,
    with_work,
    work_leaves,
)

NAMES = ("alice", "bob", "carol", "dave", "erin", "frank")
BOOK = Book(
    Domain(31337, "0x5FbDB2315678afecb367f032d93F642f64180aa3"),
    run_id=1,
    keys={name: keccak256(name.encode()) for name in NAMES},
    at=1_800_000_000,
)


WORD = keccak256(b"another")


def two_epochs() -> tuple[EpochFile, EpochFile]:
    first = BOOK.file(0, [BOOK.work("alice", 1), BOOK.work("bob", 1), BOOK.work("carol", 2)])
    work = [BOOK.work("alice", 2), BOOK.work("alice", 4, 9), BOOK.work("bob", 3)]
    return first, BOOK.file(1, [*work, BOOK.work("dave", 1, 7)], first)


@st.composite
def histories(draw: st.DrawFn) -> list[EpochFile]:
    """Draw a run's honest epochs: 1 to 3 of them, up to 6 workers, up to 5 groups each."""
    nonces = {name: count(draw(st.integers(1, 3))) for name in NAMES}
    files: list[EpochFile] = []
    for epoch in range(draw(st.integers(1, 3))):
        names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=6))
        work: list[Contribution] = []
        for name in names:
            sizes = draw(st.lists(st.integers(0, 3000), min_size=1, max_size=5))
            work += [BOOK.work(name, next(nonces[name]), size) for size in sizes]
        files.append(BOOK.file(epoch, work, files[-1] if files else None))
    return files


@settings(max_examples=60, deadline=None)
@given(histories())
def test_an_honest_epoch_yields_nothing(files: list[EpochFile]) -> None:
    for before, file in zip([None, *files], files, strict=False):
        assert not list(find(opened(file), BOOK.facts(), before=accounts_of(before)))


# Every single field of a leaf, by what it becomes; the tree is rebuilt over the change.
@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("name", [field.name for field in fields(WorkLeaf)])
def test_every_single_field_change_of_a_work_leaf_is_found(name: str, place: int) -> None:
    before, file = two_epochs()
    honest = opened(file)
    leaves = work_leaves(honest)
    old = getattr(leaves[place], name)
    new = old + 1 if isinstance(old, int) else BOOK.address("frank") if name == "worker" else WORD
    change: dict[str, Any] = {name: new}
    leaves[place] = replace(leaves[place], **change)
    false = with_work(honest, leaves)
    if name == "signature_hash":
        # Nothing published hashes to it: only a demand, which asks for the signature, shows that.
        assert not list(find(false, BOOK.facts(), before=accounts_of(before)))
        return
    assert list(find(false, BOOK.facts(), before=accounts_of(before)))


@pytest.mark.parametrize("name", ["total", "tokens", "gflops"])
def test_every_false_total_of_a_header_is_found(name: str) -> None:
    before, file = two_epochs()
    false = opened(file, **{name: getattr(header_of(file), name) + 1})
    [finding] = find(false, BOOK.facts(), before=accounts_of(before))
    assert (finding.fault, finding.method) == (Fault.BAD_EDGE, "prove_bad_edge")


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("change", ["worker", "earned", "last_nonce", "missing", "made up"])
def test_every_change_of_an_account_is_found(change: str, place: int) -> None:
    before, file = two_epochs()
    honest = opened(file)
    leaves = account_leaves(honest)
    if change == "missing":
        del leaves[place]
    elif change == "made up":
        leaves[place:place] = [
            AccountLeaf("0x" + f"{int(leaves[place].worker, 16) - 1:040x}", 9, 1)
        ]
    elif change == "worker":
        leaves[place] = replace(leaves[place], worker=BOOK.address("frank"))
    else:
        leaves[place] = replace(leaves[place], **{change: getattr(leaves[place], change) + 1})
    found = list(find(with_accounts(honest, leaves), BOOK.facts(), before=accounts_of(before)))
    assert found
    assert {f.fault for f in found} <= {Fault.BAD_ACCOUNT, Fault.ACCOUNT_ORDER}


def test_dates_outside_what_is_owed_are_found() -> None:
    file = BOOK.file(0, [BOOK.work("alice", 1)])
    late = BOOK.facts(posted_at=BOOK.at - 1)
    [finding] = find(opened(file), late, before=accounts_of(None))
    assert "after its posting" in finding.what
    halted = BOOK.facts(owed=lambda at: at < BOOK.at)
    [finding] = find(opened(file), halted, before=accounts_of(None))
    assert "owed nothing" in finding.what


def test_a_strangers_signature_is_found_and_a_hot_keys_is_not() -> None:
    item = BOOK.work("alice", 1)
    other = Book(BOOK.domain, 1, {"alice": BOOK.keys["bob"]}, BOOK.at).work("alice", 1)
    forged = item.model_copy(update={"signature": other.signature})
    false = opened(BOOK.file(0, [forged]))
    [finding] = find(false, BOOK.facts(), before=accounts_of(None))
    assert finding.arguments[2] == forged.signature
    digest = BOOK.domain.digest(_work(item))
    hot = item.model_copy(update={"signature": sign(BOOK.keys["bob"], digest)})
    facts = BOOK.facts(spoke_for=lambda signer, _worker, _at: signer == BOOK.address("bob"))
    assert not list(find(opened(BOOK.file(0, [hot])), facts, before=accounts_of(None)))


def _work(item: Contribution) -> Work:
    kept = item.model_dump()
    del kept["units"], kept["signature"]
    return Work(run_id=1, **kept)


def test_work_paid_twice_is_found_within_and_across_epochs() -> None:
    same = keccak256(b"alice 1")
    first = BOOK.file(0, [BOOK.work("alice", 1), BOOK.work("bob", 1, payload_digest=same)])
    [finding] = find(opened(first), BOOK.facts(), before=accounts_of(None))
    assert finding.fault is Fault.DUPLICATE
    first = BOOK.file(0, [BOOK.work("alice", 1)])
    again = BOOK.file(1, [BOOK.work("alice", 1)], first)
    [finding] = find(opened(again), BOOK.facts(), before=accounts_of(first))
    assert finding.fault is Fault.STALE_NONCE
    renamed = BOOK.file(1, [BOOK.work("bob", 1, payload_digest=same)], first)
    paid = Paid(header_of(first), opened(first).work_at(0))
    [finding] = find(
        opened(renamed), BOOK.facts(), before=accounts_of(first), paid_before=lambda _leaf: paid
    )
    assert finding.fault is Fault.DUPLICATE


# ------------------------------------------------------------------ the search


def search(
    truth: list[WorkLeaf], shown: list[WorkLeaf]
) -> tuple[int, Exhausted, Revealed[WorkLeaf]]:
    """Play demands against a poster that answers all of them; return the rounds it took."""
    tree = Tree([leaf.digest() for leaf in truth])
    revealed: Revealed[WorkLeaf] = Revealed(tree.root, len(truth), shown)
    for rounds in range(20):
        step = next_step(revealed)
        if isinstance(step, Exhausted):
            return rounds, step, revealed
        assert isinstance(step, Demand)
        assert 0 < len(step.indices) <= MAX_INDICES
        for place in step.indices:
            assert revealed.learn(place, truth[place], tree.proof(place))
    raise AssertionError("the search does not end")


def long(size: int, *, lie: int | None = None, by: int = 1) -> list[WorkLeaf]:
    """Return the leaves of one worker's epoch, unsigned, padded from `lie` on."""
    leaves, sums = [], [0, 0, 0]
    for place in range(size):
        units = 2 + (by if place == lie else 0)
        sums = [sums[0] + units, sums[1] + 2, sums[2] + gflops(2)]
        leaf = WorkLeaf(
            *(1, BOOK.address("alice"), place + 1, place.to_bytes(32, "big"), 1, BOOK.at, 2),
            *(gflops(2), bytes(32), 2, sums[0], sums[0], sums[1], sums[2]),
        )
        leaves.append(leaf)
    return leaves


@pytest.mark.parametrize("size", [1, 2, 99, 100, 101, 1000, 10_000])
def test_a_false_sum_is_found_in_as_many_rounds_as_promised(size: int) -> None:
    honest = long(size)
    edges = {0, size - 1} if size <= 1000 else set()  # ten thousand leaves take seconds each time
    for lie in sorted({size // 3} | edges):
        truth = long(size, lie=lie)
        rounds, end, revealed = search(truth, honest)
        assert end == Exhausted(lie)
        assert rounds <= max(1, math.ceil(math.log(size, MAX_INDICES) - 1e-9))
        known = revealed.openable()
        tree = Tree([leaf.digest() for leaf in truth])
        places = {lie - 1, lie} & set(range(size))
        assert all(known.get(p) == truth[p] for p in places), "the neighbours can be shown"
        assert all(list(known.proof(p)) == tree.proof(p) for p in places)


def test_a_count_beyond_the_leaves_is_asked_for_its_last_leaf() -> None:
    honest = long(5)
    tree = Tree([leaf.digest() for leaf in honest])
    revealed: Revealed[WorkLeaf] = Revealed(tree.root, 6, honest)
    assert next_step(revealed) == Demand((5,))


def test_without_a_file_the_leaves_on_both_edges_and_between_are_asked_for_once() -> None:
    rounds, end, _ = search(long(1000), [])
    assert (rounds, end) == (1, Exhausted(0))


def test_an_answer_that_does_not_lead_to_the_root_teaches_nothing() -> None:
    truth, other = long(8, lie=3), long(8)
    tree = Tree([leaf.digest() for leaf in other])
    revealed: Revealed[WorkLeaf] = Revealed(Tree([x.digest() for x in truth]).root, 8, other)
    assert not revealed.learn(3, other[3], tree.proof(3))
    assert revealed.first_difference() == (3, 0)
