"""The leaves of an epoch's two trees that can be opened on chain: all of them, or only some.

Pure. A published file gives every leaf; answered demands give some. Proofs of fraud (`fraud.py`),
answers (`watcher.py`) and claims use the same openings, which are made here once. Leaves are not
judged here.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ledger.state import AccountOpening, WorkOpening
from protocol.epoch import AccountLeaf, EpochHeader, WorkLeaf, accounts_of, header_over, leaves_of
from protocol.merkle import Tree
from protocol.messages import EpochFile

Leaf = TypeVar("Leaf", bound=WorkLeaf | AccountLeaf)
Key = tuple[int, int]
ProofOf = Callable[[int], Sequence[bytes]]

PAST_EVERY_NONCE = 1 << 64


class Openable(Generic[Leaf]):
    """The leaves of one tree of `count` that can be opened, by index.

    Example: `Openable({0: leaf}, count=1, proof_of=tree.proof)`
    """

    def __init__(self, leaves: Mapping[int, Leaf], *, count: int, proof_of: ProofOf) -> None:
        self.count = count
        self._leaves = leaves
        self._proof_of = proof_of
        self._places = sorted(leaves)
        self._keys = [key_of(leaves[place]) for place in self._places]

    @classmethod
    def whole(cls, leaves: Sequence[Leaf], tree: Tree) -> "Openable[Leaf]":
        """Return a tree with every leaf known."""
        return cls(dict(enumerate(leaves)), count=len(leaves), proof_of=tree.proof)

    def items(self) -> Iterator[tuple[int, Leaf]]:
        """Yield the known leaves by ascending index."""
        return ((place, self._leaves[place]) for place in self._places)

    def get(self, place: int) -> Leaf | None:
        return self._leaves.get(place)

    def proof(self, place: int) -> tuple[bytes, ...]:
        return tuple(self._proof_of(place))

    def place_of(self, key: Key) -> int | None:
        """Return the index of the leaf with this key, None if none is known."""
        at = bisect_left(self._keys, key)
        is_there = at < len(self._keys) and self._keys[at] == key
        return self._places[at] if is_there else None

    def around(self, key: Key) -> tuple[int, ...] | None:
        """Return the neighbours on both sides of the place that a leaf of this key would take.

        One at either end of the tree, none in an empty tree; None if a neighbour is unknown.
        The last leaf before `key` may be the witness itself. The known leaves must ascend by key.
        """
        at = bisect_left(self._keys, key)
        left = self._places[at - 1] if at else -1
        right = self._places[at] if at < len(self._places) else self.count
        if right != left + 1:
            return None
        return tuple(place for place in (left, right) if 0 <= place < self.count)


def key_of(leaf: WorkLeaf | AccountLeaf) -> Key:
    """Return what a tree is sorted by: (worker, nonce), or the worker alone."""
    return int(leaf.worker, 16), leaf.nonce if isinstance(leaf, WorkLeaf) else 0


@dataclass(frozen=True, slots=True)
class Opened:
    """What can be opened under one header. `signatures` are by index of the work tree."""

    header: EpochHeader
    work: Openable[WorkLeaf]
    signatures: Mapping[int, bytes]
    accounts: Openable[AccountLeaf]

    def work_at(self, place: int) -> WorkOpening:
        leaf = self.work.get(place)
        if leaf is None:
            raise KeyError(f"work leaf {place} is not known")
        return WorkOpening(leaf, place, self.work.proof(place))

    def account_at(self, place: int) -> AccountOpening:
        return _account_at(self.accounts, place)

    def work_witness(self, worker: str) -> tuple[WorkOpening, ...] | None:
        """Open a worker's last leaf and the next one, or the gap where its work would stand."""
        return self.work_around(worker, PAST_EVERY_NONCE)

    def work_around(self, worker: str, nonce: int) -> tuple[WorkOpening, ...] | None:
        """Open the leaves on both sides of (worker, nonce)."""
        places = self.work.around((int(worker, 16), nonce))
        return None if places is None else tuple(self.work_at(place) for place in places)

    def account_witness(self, worker: str) -> tuple[AccountOpening, ...] | None:
        """Open a worker's account, or the gap where it would stand."""
        return account_witness(self.accounts, worker)


def account_of(accounts: Openable[AccountLeaf], worker: str) -> AccountOpening | None:
    """Return the opening of a worker's account, None if it is not known to have one."""
    place = accounts.place_of((int(worker, 16), 0))
    return None if place is None else _account_at(accounts, place)


def account_witness(
    accounts: Openable[AccountLeaf], worker: str
) -> tuple[AccountOpening, ...] | None:
    """Return the opening of a worker's account, or of the neighbours that show its absence.

    None if the known leaves show neither.
    """
    own = account_of(accounts, worker)
    if own is not None:
        return (own,)
    places = accounts.around((int(worker, 16), 0))
    return None if places is None else tuple(_account_at(accounts, place) for place in places)


@dataclass(frozen=True, slots=True)
class Published:
    """An epoch as its file tells it: every leaf, with running sums formed from the contributions.

    A poster may publish anything: `opens_work` and `opens_accounts` compare it with a header.
    """

    file: EpochFile
    work: tuple[WorkLeaf, ...]
    accounts: tuple[AccountLeaf, ...]
    work_tree: Tree
    account_tree: Tree

    @classmethod
    def of(cls, file: EpochFile) -> "Published":
        work, accounts = leaves_of(file), accounts_of(file)
        trees = (Tree([leaf.digest() for leaf in leaves]) for leaves in (work, accounts))
        return cls(file, work, accounts, *trees)

    @property
    def signatures(self) -> dict[int, bytes]:
        return {place: item.signature for place, item in enumerate(self.file.contributions)}

    def header(self, data_hash: bytes) -> EpochHeader:
        """Return the header that an honest quorum signs for this file."""
        roots = self.work_tree.root, self.account_tree.root
        return header_over(self.file, *roots, data_hash=data_hash)

    def opens_work(self, header: EpochHeader) -> bool:
        return (self.work_tree.root, len(self.work)) == (header.work_root, header.work_count)

    def opens_accounts(self, header: EpochHeader) -> bool:
        ours = (self.account_tree.root, len(self.accounts))
        return ours == (header.account_root, header.account_count)

    def under(self, header: EpochHeader) -> Opened:
        """Return what this file can open under a header: nothing of a tree with another root."""
        work = self.opens_work(header)
        return Opened(
            header=header,
            work=Openable.whole(self.work, self.work_tree) if work else unknown(header.work_count),
            signatures=self.signatures if work else {},
            accounts=Openable.whole(self.accounts, self.account_tree)
            if self.opens_accounts(header)
            else unknown(header.account_count),
        )


def unknown(count: int) -> Openable[Leaf]:
    """Return a tree of `count` leaves, none of them known."""
    return Openable({}, count=count, proof_of=lambda _place: ())


def _account_at(accounts: Openable[AccountLeaf], place: int) -> AccountOpening:
    leaf = accounts.get(place)
    if leaf is None:
        raise KeyError(f"account leaf {place} is not known")
    return AccountOpening(leaf, place, accounts.proof(place))
