"""Find a fault in a tree that differs from its published file, by demanding few leaves at a time.

Pure. An opened leaf reveals its siblings on the way to the root. Compared with the file's tree, they
show which blocks differ, so each round of at most 100 leaves narrows the first
difference a hundredfold: ceil(log100(count)) rounds end at one leaf, shown beside its neighbours.
If that leaf is well signed and follows from the one before, the tree holds work that the file does not
show. No proof shows that, and `Exhausted` says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from audit.published import Leaf, Openable
from protocol import merkle
from protocol.canonical import keccak256
from protocol.merkle import ZERO_WORD, Tree

MAX_INDICES = 100
"""Leaves that one demand may name, the ledger's own bound."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Leaves to ask for, ascending."""

    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Nothing more can be learned: `place` is the first leaf that is not the file's, if any is."""

    place: int | None


class Padded:
    """A tree of few leaves, padded to the depth of many with zero leaves that are never stored.

    A header may claim any count that fits its field, with no leaf to show for it.

    Example: `Padded([digest], depth=32).root`
    """

    def __init__(self, leaves: Sequence[bytes], depth: int) -> None:
        self._tree = Tree(leaves)
        self._height = merkle.depth(len(leaves))
        self._zeros = [ZERO_WORD]
        for _ in range(depth):
            self._zeros.append(keccak256(self._zeros[-1] * 2))
        # The tree's root, then the first node of every level above it.
        self._above = {self._height: self._tree.root}
        for height in range(self._height, depth):
            self._above[height + 1] = keccak256(self._above[height] + self._zeros[height])

    @property
    def root(self) -> bytes:
        return self._above[len(self._zeros) - 1]

    def node(self, height: int, position: int) -> bytes:
        """Return the root of the block of 2**height leaves that stands at `position`."""
        if height < self._height:
            return self._tree.node(height, position)
        return self._zeros[height] if position else self._above[height]


class Revealed(Generic[Leaf]):
    """What is known of a posted tree: the file's leaves that agree with it, and the answered ones.

    Example:
        tree = Revealed(header.work_root, header.work_count, published.work)
        step = next_step(tree)  # Demand((0, 1024, …)), then tree.learn(…) for each answer
    """

    def __init__(self, root: bytes, count: int, published: Sequence[Leaf]) -> None:
        self.count = count
        self._root = root
        self._published = published
        self._depth = merkle.depth(count)
        # A file that is too short differs there: no leaf hashes to zero.
        self._ours = Padded([leaf.digest() for leaf in published[:count]], self._depth)
        self._nodes = {(self._depth, 0): root}
        self._answered: dict[int, Leaf] = {}

    def learn(self, place: int, leaf: Leaf, proof: Sequence[bytes]) -> bool:
        """Take an answered leaf and its siblings; False if they do not lead to the root."""
        node = leaf.digest()
        if not merkle.verify(self._root, node, place, self.count, proof):
            return False
        self._answered[place] = leaf
        at = place
        for height, sibling in enumerate(proof):
            self._nodes[height, at] = node
            self._nodes[height, at ^ 1] = sibling
            node = keccak256(sibling + node) if at & 1 else keccak256(node + sibling)
            at >>= 1
        return True

    @property
    def is_short(self) -> bool:
        """Whether the file has fewer leaves than the header counts."""
        return len(self._published) < self.count

    @property
    def answered(self) -> Mapping[int, Leaf]:
        return self._answered

    def openable(self) -> Openable[Leaf]:
        """Return every leaf that can be opened: the answered ones, and the file's that agree."""
        agreed = {
            place: leaf
            for place, leaf in enumerate(self._published[: self.count])
            if self.node(0, place) == self._ours.node(0, place)
        }
        known = agreed | self._answered
        return Openable(known, count=self.count, proof_of=self._proof)

    def node(self, height: int, at: int) -> bytes | None:
        """Return a node of the posted tree, None if it is unknown."""
        known = self._nodes.get((height, at))
        up, over = height, at
        while known is None and up < self._depth:
            up, over = up + 1, over >> 1
            above = self._nodes.get((up, over))
            if above is not None:
                return self._ours.node(height, at) if above == self._ours.node(up, over) else None
        return known

    def first_difference(self) -> tuple[int, int] | None:
        """Return (height, position) of the smallest block known to differ from the file's, or None.

        Every leaf before it agrees.
        """
        height, at = self._depth, 0
        if self._root == self._ours.root:
            return None
        while height:
            left = self.node(height - 1, 2 * at)
            if left is None:
                break
            agrees = left == self._ours.node(height - 1, 2 * at)
            height, at = height - 1, 2 * at + (1 if agrees else 0)
        return height, at

    def _proof(self, place: int) -> list[bytes]:
        siblings = [self.node(height, (place >> height) ^ 1) for height in range(self._depth)]
        if None in siblings:
            raise KeyError(f"leaf {place} cannot be opened yet")
        return [sibling for sibling in siblings if sibling is not None]


def next_step(tree: Revealed[Leaf]) -> Demand | Exhausted:
    """Return what to ask for next."""
    if tree.count == 0:
        return Exhausted(None)
    last = tree.count - 1
    difference = tree.first_difference()
    if difference is None:
        # The roots agree. A count that claims more leaves than there are has no last leaf to show.
        return Demand((last,)) if tree.is_short else Exhausted(None)
    height, at = difference
    first, end = at << height, min((at + 1) << height, tree.count)
    if first >= tree.count:
        return Exhausted(None)
    if height == 0 and first in tree.answered:
        return Exhausted(first)
    wanted = set(_spread(first, end, MAX_INDICES))
    if not tree.answered and last not in wanted:
        wanted = {*_spread(first, end, MAX_INDICES - 1), last}
    return Demand(tuple(sorted(wanted - tree.answered.keys())))


def _spread(first: int, end: int, most: int) -> range:
    """Return at most `most` indices at equal distances of a power of two, from `first` on."""
    step = 1
    while -(-(end - first) // step) > most:
        step *= 2
    return range(first, end, step)
