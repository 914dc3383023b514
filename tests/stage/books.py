"""Epochs to lie in: signed work, the file of an honest quorum, and what liars make of it.

Nothing here judges: `audit/fraud.py` and the contracts do.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from audit.fraud import Facts
from audit.published import Openable, Opened, Published
from protocol.canonical import keccak256
from protocol.epoch import AccountLeaf, EpochHeader, WorkLeaf
from protocol.merkle import Tree
from protocol.messages import Contribution, EpochFile
from protocol.rollout import Work
from protocol.signing import Domain, address_of
from tests.stage.epochs import file_of, gflops_of, signed

NUM_PARAMETERS = 2_000_000


@dataclass(frozen=True)
class Book:
    """Who signs, for which ledger and run, and when work is dated."""

    domain: Domain
    run_id: int
    keys: Mapping[str, bytes]
    at: int

    def address(self, name: str) -> str:
        return address_of(self.keys[name])

    def work(self, name: str, nonce: int, tokens: int = 5, **changes: Any) -> Contribution:
        """Return one signed group; `changes` are fields changed *before* signing."""
        fields: dict[str, Any] = {
            "worker": self.address(name),
            "nonce": nonce,
            "payload_digest": keccak256(f"{name} {nonce}".encode()),
            "policy_version": 1,
            "submitted_at": self.at,
            "tokens": tokens,
            "gflops": gflops(tokens),
            **changes,
        }
        units = fields.pop("units", None)
        work = Work.model_validate({"run_id": self.run_id, **fields})
        return signed(work, self.keys[name], self.domain, units=units)

    def file(
        self,
        epoch: int,
        work: Iterable[Contribution],
        before: EpochFile | None = None,
        *,
        secret: bytes = bytes(32),
        generation: int = 0,
    ) -> EpochFile:
        """Return the file that follows from the work and the file before."""
        return file_of(
            self.run_id,
            work,
            before.accounts if before else (),
            epoch=epoch,
            generation=generation,
            prev_account_root=Published.of(before).account_tree.root if before else bytes(32),
            secret=secret,
        )

    def facts(self, owed: Callable[[int], bool] = lambda _at: True, **changes: Any) -> Facts:
        facts = Facts(
            domain=self.domain,
            posted_at=self.at + 10,
            num_parameters=NUM_PARAMETERS,
            is_owed=owed,
            spoke_for=lambda signer, worker, _at: signer == worker,
        )
        return replace(facts, **changes)


def gflops(tokens: int) -> int:
    return gflops_of(tokens, NUM_PARAMETERS)


def header_of(file: EpochFile) -> EpochHeader:
    """Return a header over the file whatever its order: a liar asks nobody."""
    return Published.of(file).header(keccak256(file.canonical()))


def opened(file: EpochFile, **changes: Any) -> Opened:
    """Return all that an honest file opens under its header, or under a changed one."""
    return Published.of(file).under(replace(header_of(file), **changes))


def accounts_of(file: EpochFile | None) -> Openable[AccountLeaf]:
    """Return the accounts before: none before the first epoch."""
    if file is None:
        return Openable({}, count=0, proof_of=lambda _place: ())
    published = Published.of(file)
    return Openable.whole(published.accounts, published.account_tree)


def with_work(honest: Opened, leaves: Sequence[WorkLeaf], **changes: Any) -> Opened:
    """Return the epoch whose signed header names a tree of other leaves."""
    tree = Tree([leaf.digest() for leaf in leaves])
    header = replace(honest.header, work_root=tree.root, work_count=len(leaves))
    return replace(honest, header=replace(header, **changes), work=Openable.whole(leaves, tree))


def with_accounts(honest: Opened, leaves: Sequence[AccountLeaf]) -> Opened:
    """Return the epoch whose signed header names other accounts."""
    tree = Tree([leaf.digest() for leaf in leaves])
    header = replace(honest.header, account_root=tree.root, account_count=len(leaves))
    return replace(honest, header=header, accounts=Openable.whole(leaves, tree))


def work_leaves(of: Opened) -> list[WorkLeaf]:
    return [leaf for _, leaf in of.work.items()]


def account_leaves(of: Opened) -> list[AccountLeaf]:
    return [leaf for _, leaf in of.accounts.items()]
