"""The position-authenticating tree of `protocol/merkle.py`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.canonical import keccak256
from protocol.merkle import ZERO_WORD, Tree, depth, proof, root, verify


def leaves_of(count: int) -> list[bytes]:
    return [keccak256(i.to_bytes(8, "big")) for i in range(count)]


def reference_root(leaves: list[bytes]) -> bytes:
    """The definition in seven lines: really pad, really hash every node."""
    if not leaves:
        return ZERO_WORD
    level = leaves + [ZERO_WORD] * ((1 << (len(leaves) - 1).bit_length()) - len(leaves))
    while len(level) > 1:
        level = [keccak256(level[i] + level[i + 1]) for i in range(0, len(level), 2)]
    return level[0]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 33])
def test_every_leaf_proves_itself_and_the_root_is_the_padded_one(count: int) -> None:
    leaves = leaves_of(count)
    tree = Tree(leaves)
    assert tree.root == root(leaves) == reference_root(leaves)
    for index, leaf in enumerate(leaves):
        siblings = proof(leaves, index)
        assert len(siblings) == depth(count)
        assert verify(tree.root, leaf, index, count, siblings)


def test_the_empty_tree_has_the_zero_root_and_proves_nothing() -> None:
    assert root([]) == ZERO_WORD
    assert not verify(ZERO_WORD, ZERO_WORD, 0, 0, [])
    with pytest.raises(IndexError):
        proof([], 0)


def test_a_tree_of_one_leaf_is_that_leaf() -> None:
    [leaf] = leaves_of(1)
    assert root([leaf]) == leaf
    assert verify(leaf, leaf, 0, 1, [])
    assert not verify(leaf, leaf, 1, 1, [])


def test_swapping_two_siblings_changes_the_root() -> None:
    first, second = leaves_of(2)
    assert root([first, second]) != root([second, first])


def test_a_sorted_pair_tree_would_let_a_leaf_stand_at_its_neighbours_place() -> None:
    first, second = leaves_of(2)

    def sorted_verify(top: bytes, leaf: bytes, sibling: bytes) -> bool:
        return keccak256(min(leaf, sibling) + max(leaf, sibling)) == top

    sorted_root = keccak256(min(first, second) + max(first, second))
    assert sorted_verify(sorted_root, first, second)  # the attack: no index to lie about
    assert sorted_verify(sorted_root, second, first)
    top = root([first, second])
    assert not verify(top, first, 1, 2, [second])
    assert not verify(top, second, 0, 2, [first])


def test_padding_cannot_be_claimed_as_a_leaf() -> None:
    leaves = leaves_of(3)
    tree = Tree(leaves)
    siblings = [leaves[2], keccak256(leaves[0] + leaves[1])]
    assert verify(tree.root, ZERO_WORD, 3, 4, siblings)  # it is there, were the count believed
    assert not verify(tree.root, ZERO_WORD, 3, 3, siblings)


def test_an_inner_node_cannot_pass_for_a_leaf() -> None:
    leaves = leaves_of(4)
    node = keccak256(leaves[0] + leaves[1])
    other = keccak256(leaves[2] + leaves[3])
    assert verify(root(leaves), node, 0, 2, [other])  # it would, were the count not fixed
    assert not verify(root(leaves), node, 0, 4, [other])


@given(st.integers(2, 40), st.data())
def test_any_changed_proof_word_index_or_leaf_is_refused(count: int, data: st.DataObject) -> None:
    leaves = leaves_of(count)
    tree = Tree(leaves)
    index = data.draw(st.integers(0, count - 1))
    siblings = tree.proof(index)
    place = data.draw(st.integers(0, len(siblings) - 1))
    bent = [*siblings]
    bent[place] = bytes([bent[place][0] ^ 1]) + bent[place][1:]
    assert not verify(tree.root, leaves[index], index, count, bent)
    other = data.draw(st.integers(0, count - 1).filter(lambda i: i != index))
    assert not verify(tree.root, leaves[index], other, count, siblings)
    assert not verify(tree.root, leaves[other], index, count, siblings)
    assert not verify(tree.root, leaves[index], index, count, siblings[:-1])
    assert not verify(tree.root, leaves[index], index, count, [*siblings, ZERO_WORD])


def test_a_word_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32-byte"):
        root([b"short"])
    assert not verify(b"", b"", 0, 1, [])
