"""Merkle trees that authenticate position, with the ledger's leaves and pairs.

A node is `keccak256(left + right)`, never sorted: OpenZeppelin's `MerkleProof` sorts each pair and
so proves membership but not index, and the ledger's disputes are about neighbours. Leaves are
padded with zero words to a power of two, so a tree of `count` leaves has proofs of exactly
`ceil(log2(count))` words. The empty tree has the zero root; the tree of one leaf is that leaf.

`protocol/epoch.py` hashes leaves over at least 128 bytes, so no leaf can pass for a 64-byte node.
Twin of `contracts/src/PositionalMerkle.sol`; held together by shared vectors.
"""

from collections.abc import Sequence

from protocol.canonical import keccak256

WORD = 32
ZERO_WORD = bytes(WORD)


def depth(count: int) -> int:
    """Return the proof length of a tree with `count` leaves: ceil(log2(count)), 0 when empty."""
    if count < 0:
        raise ValueError(f"a tree cannot have {count} leaves")
    return (count - 1).bit_length() if count else 0


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over 32-byte `leaves` in the order given."""
    return Tree(leaves).root


def proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the siblings of leaf `index`, lowest first. For many proofs keep a `Tree`."""
    return Tree(leaves).proof(index)


def verify(root: bytes, leaf: bytes, index: int, count: int, proof: Sequence[bytes]) -> bool:
    """Return whether `leaf` stands at `index` of the tree of `count` leaves under `root`."""
    if not 0 <= index < count or len(proof) != depth(count):
        return False
    if any(len(word) != WORD for word in (root, leaf, *proof)):
        return False
    node = leaf
    for sibling in proof:
        node = keccak256(sibling + node) if index & 1 else keccak256(node + sibling)
        index >>= 1
    return node == root


class Tree:
    """Every level of one tree, so that each further proof costs no hashing.

    Padding is never materialised: a level that ends in an odd node is completed with the root of
    the all-zero subtree of that height, which is the same tree for half the hashing.

    Example:
        tree = Tree([a, b, c]); verify(tree.root, b, 1, 3, tree.proof(1))
    """

    def __init__(self, leaves: Sequence[bytes]) -> None:
        if any(len(leaf) != WORD for leaf in leaves):
            raise ValueError("every leaf is one 32-byte word")
        self.count = len(leaves)
        self._levels = [list(leaves)]
        self._padding = [ZERO_WORD]
        for _ in range(depth(self.count)):
            self._add_level()

    @property
    def root(self) -> bytes:
        """The top node; the zero word for the empty tree."""
        return self._levels[-1][0] if self.count else ZERO_WORD

    def proof(self, index: int) -> list[bytes]:
        """Return the siblings of leaf `index`, lowest first."""
        if not 0 <= index < self.count:
            raise IndexError(f"leaf {index} of a tree with {self.count} leaves")
        siblings = []
        for height in range(len(self._levels) - 1):
            siblings.append(self.node(height, index ^ 1))
            index >>= 1
        return siblings

    def node(self, height: int, position: int) -> bytes:
        """Return the root of the block of 2**height leaves that stands at `position`."""
        level = self._levels[height]
        return level[position] if position < len(level) else self._padding[height]

    def _add_level(self) -> None:
        below, padding = self._levels[-1], self._padding[-1]
        pairs = zip(below[::2], below[1::2], strict=False)
        level = [keccak256(left + right) for left, right in pairs]
        if len(below) % 2:
            level.append(keccak256(below[-1] + padding))
        self._levels.append(level)
        self._padding.append(keccak256(padding + padding))
