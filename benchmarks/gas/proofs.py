"""Lies in an epoch of many leaves, each posted, proven and taken back; and disputes under a bond."""

from collections.abc import Callable, Iterator
from dataclasses import astuple, replace
from functools import partial
from typing import Any

from web3.logs import DISCARD

from benchmarks.gas.life import Life
from benchmarks.gas.market import STAKE, TOKENS, Posted, person
from benchmarks.gas.rows import Row
from protocol.canonical import keccak256
from protocol.epoch import EpochHeader
from protocol.rollout import Receipt
from protocol.signing import sign
from tests.stage.epochs import Epoch, work_of

DEAREST_PROOF = 244_000
"""Of the design's: its proofs used 143,000 to 244,000."""

NUM_DEMANDED = 100

Shown = Callable[[EpochHeader], Any]


class Proofs:
    """Everything that can be said against the epoch a `Life` ends with."""

    def __init__(self, life: Life) -> None:
        self.life, self.market = life, life.market
        self.big, self.last = life.big, life.line.last
        self.prove = life.market.disputes.functions
        self.middle = len(self.big.leaves) // 2

    def rows(self) -> Iterator[Row]:
        """Yield what each proof uses, then what each dispute does."""
        yield from self.leaves()
        yield from self.sums()
        yield from self.replays()
        yield from self.accounts()
        yield from self.demands()
        yield from self.omission()
        yield from self.escalation()

    # ------------------------------------------------------------ proofs

    def leaves(self) -> Iterator[Row]:
        at = self.middle
        foreign = self.big.with_leaf(at, sign(b"\1" * 32, keccak256(b"another text")))
        doubled = self.big.with_leaf(at, tokens=2 * TOKENS)
        yield self.proven(
            "proveBadLeaf, signature",
            foreign,
            lambda h: self.prove.proveBadLeaf(astuple(h), foreign.work(at), foreign.signature(at)),
        )
        yield self.proven(
            "proveBadLeaf, units",
            doubled,
            lambda h: self.prove.proveBadLeaf(astuple(h), doubled.work(at), b""),
        )

    def sums(self) -> Iterator[Row]:
        at, end = self.middle, len(self.big.leaves) - 1
        summed = self.big.with_leaf(at, epoch_sum=self.big.leaves[at].epoch_sum + 1)
        yield self.proven(
            "proveBadPair",
            summed,
            lambda h: self.prove.proveBadPair(astuple(h), summed.work(at - 1), summed.work(at)),
        )
        yield self.proven(
            "proveBadEdge",
            self.big,
            lambda h: self.prove.proveBadEdge(astuple(h), self.big.work(end)),
            total=self.big.leaves[end].epoch_sum + 1,
        )

    def replays(self) -> Iterator[Row]:
        """Prove that an epoch pays once more what the one before it paid."""
        work = self.big.work(self.middle)
        paid = self.big.account(self._account_index(self.big.leaves[self.middle].worker))
        with self.market.undone():
            first, _ = self.market.posted(self.big, self.last)
            self.market.open(self.life.line.run_id)
            again, _ = self.market.posted(self.big, first)
            header, other = astuple(again.header), astuple(first.header)
            duplicate = self.prove.proveDuplicate(header, work, other, work)
            yield self._weighed("proveDuplicate, across epochs", duplicate)
            stale = self.prove.proveStaleNonce(header, work, paid)
            yield self._weighed("proveStaleNonce", stale)

    def accounts(self) -> Iterator[Row]:
        accounts = list(self.big.accounts)
        swapped = self.big.bend(accounts=[accounts[1], accounts[0], *accounts[2:]])
        yield self.proven(
            "proveAccountOrder",
            swapped,
            lambda h: self.prove.proveAccountOrder(
                astuple(h), swapped.account(0), swapped.account(1)
            ),
        )
        worker = self.big.leaves[self.middle].worker
        index = self._account_index(worker)
        accounts[index] = replace(accounts[index], earned=accounts[index].earned + 1)
        padded = self.big.bend(accounts=accounts)
        yield self.proven("proveBadAccount", padded, partial(self._bad_account, padded, worker))

    def _bad_account(self, padded: Epoch, worker: str, header: EpochHeader) -> Any:
        assert self.last is not None
        index = self._account_index(worker)
        last = max(n for n, leaf in enumerate(padded.leaves) if leaf.worker == worker)
        return self.prove.proveBadAccount(
            astuple(header),
            worker,
            [self.last.epoch.account(index)],
            [padded.work(last), padded.work(last + 1)],
            [padded.account(index)],
        )

    # ------------------------------------------------------------ disputes

    def demands(self) -> Iterator[Row]:
        """Ask for a hundred leaves all over the tree, and open them."""
        step = len(self.big.leaves) // NUM_DEMANDED
        indices = list(range(0, step * NUM_DEMANDED, step))
        with self.market.undone():
            posted, _ = self.market.posted(self.big, self.last)
            header = astuple(posted.header)
            receipt = self._bonded(self.prove.demand(header, 1, indices))
            yield Row(f"demand of {NUM_DEMANDED} leaves", int(receipt["gasUsed"]))
            answer = self.prove.answerWork(
                self._dispute_id(receipt),
                header,
                indices,
                list(range(NUM_DEMANDED)),
                [self.big.work(index) for index in indices],
                [self.big.signature(index) for index in indices],
            )
            gas = self.market.gas(answer, self.market.operator)
            yield Row(f"answer to {NUM_DEMANDED} leaves", gas)
            yield Row("answer, for each leaf", gas // NUM_DEMANDED)

    def omission(self) -> Iterator[Row]:
        """Show a receipt for the nonce that every worker's last leaf skips."""
        after = next(n for n in range(self.middle, len(self.big.leaves)) if self._skips_before(n))
        with self.market.undone():
            # The operator's stake is what an omission costs.
            self.market.join_registry(self.market.operator)
            self.market.join_run(self.big.leaves[after].worker, self.life.line.run_id)
            posted, _ = self.market.posted(self.big, self.last)
            receipt = self._bonded(self._omitted(posted, after))
            yield Row("proveOmission", int(receipt["gasUsed"]))
            self.market.wait(int(self.prove.responseWindow().call()))
            expire = self.prove.expire(self._dispute_id(receipt))
            yield Row("expire: void, operator pays", self.market.gas(expire, self.market.finder))

    def _omitted(self, posted: Posted, after: int) -> Any:
        assert self.last is not None
        left, right = self.big.leaves[after - 1 : after + 1]
        work = work_of(replace(left, nonce=left.nonce + 1))
        receipt = Receipt.model_construct(
            run_id=work.run_id,
            worker=work.worker,
            nonce=work.nonce,
            work_digest=self.market.domain.digest(work),
            received_at=left.submitted_at,
            rejection="",
        )
        signature = sign(bytes(person("operator").key), self.market.domain.digest(receipt))
        return self.prove.proveOmission(
            astuple(posted.header),
            (tuple(work.__dict__.values()), receipt.received_at),
            signature,
            [self.big.work(after - 1), self.big.work(after)],
            [self.last.epoch.account(self._account_index(right.worker))],
        )

    def escalation(self) -> Iterator[Row]:
        with self.market.undone():
            posted, _ = self.market.posted(self.big, self.last)
            receipt = self._bonded(self.prove.escalate(astuple(posted.header), keccak256(b"why")))
            yield Row("escalate", int(receipt["gasUsed"]))
            ruling = self.prove.rule(self._dispute_id(receipt), True)
            gas = self.market.gas(ruling, person("deployer").address)
            yield Row("rule: void, signers slashed", gas)

    # ------------------------------------------------------------ inner

    def proven(self, name: str, epoch: Epoch, shown: Shown, **lie: Any) -> Row:
        """Post a lie, prove it, and take both back."""
        with self.market.undone():
            posted, _ = self.market.posted(epoch, self.last, **lie)
            return self._weighed(name, shown(posted.header))

    def _weighed(self, name: str, call: Any) -> Row:
        with self.market.undone():
            return Row(name, self.market.gas(call, self.market.finder), DEAREST_PROOF)

    def _bonded(self, call: Any) -> Any:
        """Send a call that pulls a bond of at most one stake."""
        self.market.mint(self.market.finder, STAKE, self.market.registry)
        return self.market.send(call, self.market.finder)

    def _dispute_id(self, receipt: Any) -> bytes:
        [event] = self.market.disputes.events.Disputed().process_receipt(receipt, errors=DISCARD)
        return bytes(event["args"]["disputeId"])

    def _skips_before(self, index: int) -> bool:
        left, right = self.big.leaves[index - 1 : index + 1]
        return left.worker == right.worker and right.nonce == left.nonce + 2

    def _account_index(self, worker: str) -> int:
        return next(n for n, leaf in enumerate(self.big.accounts) if leaf.worker == worker)
