"""Epochs whose leaves are really signed, as their files tell them and as the contracts take them; and how they are bent.

Sums, order, accounts and header follow by `protocol/epoch.py`. Nothing here judges: `audit/fraud.py` and the EVM do.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from eth_account.signers.local import LocalAccount

from protocol.canonical import keccak256
from protocol.epoch import AccountLeaf, EpochHeader, WorkLeaf, accounts_of, header_over, leaves_of
from protocol.merkle import Tree
from protocol.messages import Account, Contribution, EpochFile
from protocol.rollout import Work
from protocol.signing import Domain, sign

PADDING = 1_000_000
DATA_HASH = keccak256(b"data")
Call = tuple[str, tuple[Any, ...]]


def gflops_of(tokens: int, num_parameters: int) -> int:
    """Return ceil(2 * parameters * tokens / 1e9), as the ledger does."""
    return -(-2 * num_parameters * tokens // 10**9)


# ---------------------------------------------------------------- what a file says


def contribution(work: Work, signature: bytes, *, units: int | None = None) -> Contribution:
    """Return work as an epoch pays it: a unit a token, unless told otherwise."""
    fields = {name: value for name, value in work.__dict__.items() if name != "run_id"}
    paid = work.tokens if units is None else units
    return Contribution.model_construct(**fields, units=paid, signature=signature)


def signed(work: Work, key: bytes, domain: Domain, *, units: int | None = None) -> Contribution:
    return contribution(work, sign(key, domain.digest(work)), units=units)


def file_of(
    run_id: int,
    work: Iterable[Contribution],
    before: Iterable[Account | AccountLeaf] = (),
    *,
    epoch: int = 0,
    generation: int = 0,
    prev_account_root: bytes = bytes(32),
    secret: bytes = bytes(32),
) -> EpochFile:
    """Return the file that follows from the work and the accounts before."""
    ordered = sorted(work, key=lambda item: (int(item.worker, 16), item.nonce))
    earned = Counter({account.worker: account.earned for account in before})
    last = {account.worker: account.last_nonce for account in before}
    for item in ordered:
        earned[item.worker] += item.units
        last[item.worker] = item.nonce
    return EpochFile(
        run_id=run_id,
        epoch=epoch,
        generation=generation,
        prev_account_root=prev_account_root,
        secret=secret,
        contributions=tuple(ordered),
        accounts=tuple(
            Account.model_construct(worker=worker, earned=earned[worker], last_nonce=last[worker])
            for worker in sorted(last, key=lambda worker: int(worker, 16))
        ),
    )


# ---------------------------------------------------------------- lies of a file


def retold(file: EpochFile, contributions: Sequence[Contribution]) -> EpochFile:
    """Return the file with other work, in sums that agree; whom no epoch pays then has no account."""
    earned = Counter({account.worker: account.earned for account in file.accounts})
    for item in file.contributions:
        earned[item.worker] -= item.units
    for item in contributions:
        earned[item.worker] += item.units
    accounts = tuple(
        account.model_copy(update={"earned": earned[account.worker]})
        for account in file.accounts
        if earned[account.worker]
    )
    return file.model_copy(update={"contributions": tuple(contributions), "accounts": accounts})


def padded(file: EpochFile) -> EpochFile:
    """Return the file with its first group paid a million units more."""
    first, *rest = file.contributions
    return retold(file, [first.model_copy(update={"units": first.units + PADDING}), *rest])


def without(file: EpochFile, worker: str) -> EpochFile:
    """Return the file as if a worker had done nothing."""
    return retold(file, [item for item in file.contributions if item.worker != worker])


# ---------------------------------------------------------------- what the contracts take


@dataclass
class Epoch:
    """An epoch as a quorum tells it: its header, its trees, and every signature by its hash."""

    header: EpochHeader
    leaves: tuple[WorkLeaf, ...]
    accounts: tuple[AccountLeaf, ...]
    before: tuple[AccountLeaf, ...]
    signatures: Mapping[bytes, bytes]

    @classmethod
    def of(cls, file: EpochFile, before: Sequence[AccountLeaf] = ()) -> "Epoch":
        signatures = {keccak256(item.signature): item.signature for item in file.contributions}
        header = header_over(file, bytes(32), bytes(32), data_hash=DATA_HASH)
        told = cls(header, (), (), tuple(before), signatures)
        return told.bend(leaves=leaves_of(file), accounts=accounts_of(file))

    @cached_property
    def work_tree(self) -> Tree:
        return Tree([_digest(leaf) for leaf in self.leaves])

    @cached_property
    def account_tree(self) -> Tree:
        return Tree([_digest(leaf) for leaf in self.accounts])

    @cached_property
    def tree_before(self) -> Tree:
        return Tree([_digest(leaf) for leaf in self.before])

    @property
    def stated(self) -> tuple[Any, ...]:
        return astuple(self.header)

    def work(self, index: int) -> tuple[Any, ...]:
        """Return the contract's `WorkProof` of one leaf."""
        return astuple(self.leaves[index]), index, self.work_tree.proof(index)

    def account(self, index: int) -> tuple[Any, ...]:
        """Return the contract's `AccountProof` of one account."""
        return *astuple(self.accounts[index]), index, self.account_tree.proof(index)

    def account_before(self, index: int) -> tuple[Any, ...]:
        return *astuple(self.before[index]), index, self.tree_before.proof(index)

    def signature(self, index: int) -> bytes:
        """Return the leaf's signature; for a leaf whose hash names none, one of nobody."""
        return self.signatures.get(self.leaves[index].signature_hash, b"\1" * 65)

    # ------------------------------------------------------------ lying

    def bend(
        self,
        *,
        leaves: Iterable[WorkLeaf] | None = None,
        accounts: Iterable[AccountLeaf] | None = None,
        **header: Any,
    ) -> "Epoch":
        """Return the epoch over other leaves or accounts: the header names their trees, and `header` besides."""
        bent, named = replace(self), dict[str, Any]()
        if leaves is not None:
            bent.leaves = tuple(leaves)
            named |= {"work_root": bent.work_tree.root, "work_count": len(bent.leaves)}
        if accounts is not None:
            bent.accounts = tuple(accounts)
            named |= {"account_root": bent.account_tree.root, "account_count": len(bent.accounts)}
        bent.header = replace(self.header, **named | header)
        return bent

    def with_leaf(self, index: int, signature: bytes = b"", **changes: Any) -> "Epoch":
        """Return the epoch with one leaf bent, or naming another signature."""
        if signature:
            changes["signature_hash"] = keccak256(signature)
        lying = replace(self.leaves[index], **changes)
        bent = self.bend(leaves=(*self.leaves[:index], lying, *self.leaves[index + 1 :]))
        bent.signatures = {**self.signatures, keccak256(signature): signature}
        return bent

    # ------------------------------------------------------------ witnesses

    def account_witness(self, worker: str) -> list[tuple[Any, ...]]:
        known = self.accounts[: self.header.account_count]
        return [self.account(index) for index in _around(_workers(known), worker)]

    def before_witness(self, worker: str) -> list[tuple[Any, ...]]:
        return [self.account_before(index) for index in _around(_workers(self.before), worker)]

    def work_witness(self, worker: str) -> list[tuple[Any, ...]]:
        """Return the worker's last leaf with the next one, or the gap where its leaves would be."""
        workers = _workers(self.leaves[: self.header.work_count])
        mine = [index for index, other in enumerate(workers) if other == int(worker, 16)]
        if not mine:
            return [self.work(index) for index in _around(workers, worker)]
        return [self.work(i) for i in (mine[-1], mine[-1] + 1) if i < len(workers)]

    def work_around(self, worker: str, nonce: int) -> list[tuple[Any, ...]]:
        """Return the neighbours between which this work would stand."""
        keys = [(int(leaf.worker, 16), leaf.nonce) for leaf in self.leaves]
        at = sum(other < (int(worker, 16), nonce) for other in keys)
        return [self.work(index) for index in (at - 1, at) if 0 <= index < len(keys)]

    def bad_account(self, worker: str) -> Call:
        """Return the proof that a worker's account is wrong, with the witnesses that fit."""
        witnesses = (
            self.before_witness(worker),
            self.work_witness(worker),
            self.account_witness(worker),
        )
        return "proveBadAccount", (self.stated, worker, *witnesses)


def epoch_of(
    domain: Domain,
    run_id: int,
    works: Iterable[tuple[LocalAccount, int, int]],
    *,
    at: int,
    num_parameters: int,
    before: Sequence[AccountLeaf] = (),
    salt: bytes = b"",
) -> Epoch:
    """Return an honest epoch of (worker, nonce, tokens), each signed by its worker and dated `at`."""
    done = []
    for worker, nonce, tokens in works:
        work = Work.model_construct(
            run_id=run_id,
            worker=worker.address,
            nonce=nonce,
            payload_digest=keccak256(salt + bytes(worker.key) + nonce.to_bytes(8, "big")),
            policy_version=1,
            submitted_at=at,
            tokens=tokens,
            gflops=gflops_of(tokens, num_parameters),
        )
        done.append(signed(work, bytes(worker.key), domain))
    return Epoch.of(file_of(run_id, done, before), before)


def work_of(leaf: WorkLeaf) -> Work:
    """Return what a leaf's worker signed."""
    return Work.model_construct(**{name: getattr(leaf, name) for name in Work.model_fields})


@lru_cache(maxsize=1 << 17)
def _digest(leaf: WorkLeaf | AccountLeaf) -> bytes:
    """A leaf that a lie leaves as it was is not hashed again."""
    return leaf.digest()


def _workers(leaves: Sequence[WorkLeaf] | Sequence[AccountLeaf]) -> list[int]:
    return [int(leaf.worker, 16) for leaf in leaves]


def _around(workers: Sequence[int], worker: str) -> list[int]:
    """Return where a worker stands, or the neighbours between which it would."""
    sought = int(worker, 16)
    if sought in workers:
        return [workers.index(sought)]
    at = sum(other < sought for other in workers)
    return [index for index in (at - 1, at) if 0 <= index < len(workers)]
