"""Epochs with every leaf signed, honest or with one chosen lie, as the ledger's functions take them.

Shared by the attacks in this folder and by `benchmarks.gas`. Builds what a quorum signs and what a proof
opens; judges nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_utils import to_checksum_address

from protocol.canonical import keccak256
from protocol.epoch import AccountLeaf, EpochHeader, WorkLeaf
from protocol.merkle import Tree
from protocol.rollout import Work
from protocol.signing import Domain, sign

NUM_PARAMETERS = 494_032_768
"""Of the model these epochs are about: gflops follow from tokens by it."""


def gflops_of(tokens: int, num_parameters: int = NUM_PARAMETERS) -> int:
    """Return ceil(2 * parameters * tokens / 1e9), as the ledger does."""
    return -(-2 * num_parameters * tokens // 10**9)


@dataclass(frozen=True)
class Epoch:
    """One epoch's leaves, the accounts after it, and the signatures its leaves name."""

    run_id: int
    work: tuple[WorkLeaf, ...]
    accounts: tuple[AccountLeaf, ...]
    signatures: tuple[bytes, ...]

    @cached_property
    def work_digests(self) -> list[bytes]:
        return [leaf.digest() for leaf in self.work]

    @cached_property
    def work_tree(self) -> Tree:
        return Tree(self.work_digests)

    @cached_property
    def account_tree(self) -> Tree:
        return Tree([account.digest() for account in self.accounts])

    def header(
        self, epoch: int, generation: int, prev_account_root: bytes, **lie: Any
    ) -> EpochHeader:
        """Return the header over these trees, with totals from the last leaf unless told otherwise."""
        last = self.work[-1] if self.work else None
        header = EpochHeader(
            run_id=self.run_id,
            epoch=epoch,
            generation=generation,
            prev_account_root=prev_account_root,
            work_root=self.work_tree.root,
            account_root=self.account_tree.root,
            work_count=len(self.work),
            account_count=len(self.accounts),
            total=last.epoch_sum if last else 0,
            tokens=last.token_sum if last else 0,
            gflops=last.gflop_sum if last else 0,
            data_hash=keccak256(b"data"),
        )
        return replace(header, **lie)

    def work_proof(self, index: int) -> tuple[Any, int, list[bytes]]:
        """Return the contract's `WorkProof` of one leaf."""
        leaf = self.work[index]
        words = astuple(replace(leaf, worker=to_checksum_address(leaf.worker)))
        return words, index, self.work_tree.proof(index)

    def account_proof(self, index: int) -> tuple[str, int, int, int, list[bytes]]:
        """Return the contract's `AccountProof` of one account."""
        leaf = self.accounts[index]
        worker = to_checksum_address(leaf.worker)
        return worker, leaf.earned, leaf.last_nonce, index, self.account_tree.proof(index)

    def with_leaf(self, index: int, **changes: Any) -> "Epoch":
        """Return the epoch with one leaf changed and nothing else made to follow."""
        lying = replace(self.work[index], **changes)
        changed = replace(self, work=(*self.work[:index], lying, *self.work[index + 1 :]))
        digests = list(self.work_digests)
        digests[index] = lying.digest()
        changed.__dict__["work_digests"] = digests
        return changed

    def with_signature(self, index: int, signature: bytes) -> "Epoch":
        """Return the epoch with one leaf naming another signature."""
        signatures = (*self.signatures[:index], signature, *self.signatures[index + 1 :])
        named = self.with_leaf(index, signature_hash=keccak256(signature))
        changed = replace(named, signatures=signatures)
        changed.__dict__["work_digests"] = named.work_digests
        return changed

    def with_accounts(self, accounts: Iterable[AccountLeaf]) -> "Epoch":
        """Return the epoch with other accounts after it."""
        changed = replace(self, accounts=tuple(accounts))
        changed.__dict__["work_digests"] = self.work_digests
        return changed


def epoch_of(
    domain: Domain,
    run_id: int,
    works: Iterable[tuple[LocalAccount, int, int]],
    *,
    at: int,
    before: Sequence[AccountLeaf] = (),
    salt: bytes = b"",
    num_parameters: int = NUM_PARAMETERS,
) -> Epoch:
    """Return an honest epoch of (worker, nonce, tokens), each signed by its worker and dated `at`."""
    ordered = sorted(works, key=lambda item: (int(item[0].address, 16), item[1]))
    leaves, signatures = [], []
    for worker, nonce, tokens in ordered:
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
        signature = sign(bytes(worker.key), domain.digest(work))
        signatures.append(signature)
        leaves.append(_unsummed(work, signature))
    summed = with_sums(leaves)
    return Epoch(run_id, summed, _credited(before, summed), tuple(signatures))


def work_of(leaf: WorkLeaf) -> Work:
    """Return what a leaf's worker signed."""
    return Work.model_construct(**{name: getattr(leaf, name) for name in Work.model_fields})


def with_sums(leaves: Iterable[WorkLeaf]) -> tuple[WorkLeaf, ...]:
    """Return the leaves with the running sums that follow from their order."""
    of_worker: dict[str, int] = defaultdict(int)
    units = tokens = gflops = 0
    summed = []
    for leaf in leaves:
        of_worker[leaf.worker] += leaf.units
        units, tokens, gflops = units + leaf.units, tokens + leaf.tokens, gflops + leaf.gflops
        summed.append(
            replace(
                leaf,
                worker_sum=of_worker[leaf.worker],
                epoch_sum=units,
                token_sum=tokens,
                gflop_sum=gflops,
            )
        )
    return tuple(summed)


def _unsummed(work: Work, signature: bytes) -> WorkLeaf:
    return WorkLeaf(
        run_id=work.run_id,
        worker=work.worker,
        nonce=work.nonce,
        payload_digest=work.payload_digest,
        policy_version=work.policy_version,
        submitted_at=work.submitted_at,
        tokens=work.tokens,
        gflops=work.gflops,
        signature_hash=keccak256(signature),
        units=work.tokens,
        worker_sum=0,
        epoch_sum=0,
        token_sum=0,
        gflop_sum=0,
    )


def _credited(before: Iterable[AccountLeaf], work: Iterable[WorkLeaf]) -> tuple[AccountLeaf, ...]:
    earned = {account.worker: account.earned for account in before}
    last = {account.worker: account.last_nonce for account in before}
    for leaf in work:
        earned[leaf.worker] = earned.get(leaf.worker, 0) + leaf.units
        last[leaf.worker] = leaf.nonce
    ordered = sorted(earned, key=lambda worker: int(worker, 16))
    return tuple(AccountLeaf(worker, earned[worker], last[worker]) for worker in ordered)
