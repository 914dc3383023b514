"""What claims by receipts use: made, answered and paid."""

from collections.abc import Iterator, Sequence
from dataclasses import astuple, replace
from typing import Any

from benchmarks.gas.life import Life
from benchmarks.gas.market import TOKENS, WINDOW, person
from benchmarks.gas.rows import Row
from ledger.owed import work_struct
from ledger.state import Condemnation
from protocol.canonical import keccak256
from protocol.rollout import Receipt, Work
from protocol.signing import sign
from protocol.verdict import NOTHING_MEASURED, Outcome, Rejection, Verdict
from tests.stage.epochs import work_of

NUM_CLAIMED = 50


class Receipts:
    """A worker's receipts beside the epoch that a `Life` ends with."""

    def __init__(self, life: Life) -> None:
        self.life, self.market = life, life.market
        self.big, self.run_id = life.big, life.line.run_id
        self.call = life.market.disputes.functions
        self.paid = len(self.big.leaves) // 2
        self.worker = self.big.leaves[self.paid].worker

    def rows(self) -> Iterator[Row]:
        """Yield what a claim, each answer and the pay use."""
        with self.market.undone():
            self.market.join_run(self.worker, self.run_id)
            posted, _ = self.market.posted(self.big, self.life.line.last)
            self.market.wait(2 * WINDOW)
            promised = [self.work(n) for n in range(NUM_CLAIMED)]
            gas = self.claim(promised)
            yield Row(f"claimOwed, for each of {NUM_CLAIMED} receipts", gas // NUM_CLAIMED)
            leaf = work_of(self.big.leaves[self.paid])
            self.claim([leaf])
            shown = (astuple(posted.header), self.big.work(self.paid))
            yield self.weighed("answerPaid", self.call.answerPaid(work_struct(leaf), *shown))
            verdicts = [self.verdict(promised[0], place) for place in range(3)]
            condemned = self.call.answerCondemned(work_struct(promised[0]), verdicts)
            yield self.weighed("answerCondemned, 3 verdicts", condemned)
            self.market.wait(int(self.call.responseWindow().call()))
            stopping = self.call.stopOverdue(work_struct(promised[1]))
            yield self.weighed("stopOverdue", stopping)
            yield from self.end()

    def end(self) -> Iterator[Row]:
        ledger = self.market.ledger.functions
        self.market.wait(WINDOW + 1)
        yield self.weighed("closeRun", ledger.closeRun(self.run_id))
        _, paid_from = self.call.decidedAt(self.run_id).call()
        self.market.wait(paid_from - self.market.now())
        yield self.weighed("payOwed", self.call.payOwed(self.run_id, self.worker))
        yield self.weighed("refundRun", self.call.refundRun(self.run_id))

    # ------------------------------------------------------------ inner

    def work(self, n: int) -> Work:
        """Return work that no epoch has, dated as the epoch's."""
        leaf = self.big.leaves[self.paid]
        payload = keccak256(b"promised" + n.to_bytes(8, "big"))
        fresh = replace(leaf, nonce=10**6 + n, payload_digest=payload, tokens=TOKENS)
        return work_of(fresh)

    def claim(self, promised: Sequence[Work]) -> int:
        receipts, signatures = [], []
        for work in promised:
            receipt = Receipt.model_construct(
                run_id=work.run_id,
                worker=work.worker,
                nonce=work.nonce,
                work_digest=self.market.domain.digest(work),
                received_at=work.submitted_at,
                rejection="",
            )
            digest = self.market.domain.digest(receipt)
            receipts.append((work_struct(work), receipt.received_at))
            signatures.append(sign(bytes(person("operator").key), digest))
        return self.market.gas(self.call.claimOwed(receipts, signatures), self.worker)

    def verdict(self, work: Work, place: int) -> tuple[Any, ...]:
        verifier = self.market.verifiers[place]
        verdict = Verdict(
            run_id=work.run_id,
            work_digest=self.market.domain.digest(work),
            verifier=verifier.address,
            outcome=Outcome.REJECTED,
            rejection=Rejection.REPLAY_MISMATCH.value,
            detail="",
            rollouts=(0,),
            stats=NOTHING_MEASURED,
            mismatches=(),
            decided_at=work.submitted_at,
            signature=bytes(65),
        )
        signature = sign(bytes(verifier.key), self.market.domain.digest(verdict))
        # What is signed does not hold the signature, so it can be put in afterwards.
        return astuple(Condemnation.of(verdict.model_copy(update={"signature": signature}), place))

    def weighed(self, name: str, call: Any) -> Row:
        return Row(name, self.market.gas(call, self.market.finder))
