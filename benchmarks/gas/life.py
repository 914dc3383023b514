"""A run's own transactions, from registering to a steady epoch of many contributions."""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.gas.market import BUDGET, STAKE, TOKENS, WINDOW, Market, Posted, person
from benchmarks.gas.rows import Row
from protocol.signing import sign
from tests.stage.epochs import Epoch


@dataclass
class Line:
    """One run of one operator, and how far its epochs have come."""

    run_id: int
    operator: str
    last: Posted | None = None
    next_nonce: int = 1


class Life:
    """One run, weighed step by step. Each step leaves what the next one stands on."""

    def __init__(self, market: Market, num_contributions: int, num_workers: int) -> None:
        self.market = market
        self.num_contributions = num_contributions
        named = (person(f"worker {n}") for n in range(num_workers))
        self.workers = sorted(named, key=lambda account: int(account.address, 16))

    def rows(self) -> Iterator[Row]:
        """Yield the figures in the order of a run's life."""
        yield self.register()
        yield self.create_run()
        yield from self.first_meters()
        yield from self.claims()
        yield from self.steady()

    def register(self) -> Row:
        market, worker, hot = self.market, person("seller"), person("hot key")
        market.fund(worker.address)
        market.mint(worker.address, STAKE, market.registry)
        digest = market.registry.functions.consentDigest(worker.address, hot.address).call()
        consent = sign(bytes(hot.key), bytes(digest))
        payout = person("payout").address
        call = market.registry.functions.register(STAKE, hot.address, payout, consent)
        return Row("register: stake, hot key, payout", market.gas(call, worker.address), 119_953)

    def create_run(self) -> Row:
        # Somebody else's run first, with other verifiers: the ledger's own first slots are not this
        # run's cost, and people who were named before are not written again.
        other = person("other operator").address
        run_id, _ = self.market.create_run(BUDGET, by=other, num_verifiers=4)
        self.other = Line(run_id, other)
        run_id, gas = self.market.create_run(BUDGET, by=self.market.operator)
        self.line = Line(run_id, self.market.operator)
        return Row("createRun with escrow, 5 verifiers", gas, 342_073)

    def first_meters(self) -> Iterator[Row]:
        """Weigh the posting that makes the first epoch final, and so begins the meters.

        The reference meters runs and operators. Base models are metered here besides, over all runs that
        begin with one: where this run is the first of those, that is one more slot.
        """
        self.settle(self.other)
        self.finalise(self.other)
        self.settle(self.line)
        name = f"postEpoch, {len(self.workers):,} contributions, first meter slots"
        yield Row(name, self.settle(self.line), 257_973)
        newcomer = person("third operator").address
        run_id, _ = self.market.create_run(BUDGET, by=newcomer, model="new model")
        line = Line(run_id, newcomer)
        self.settle(line)
        yield Row(f"{name}, also of a new base model", self.settle(line))

    def claims(self) -> Iterator[Row]:
        self.settle(self.line)
        self.finalise(self.line)
        self.claim(0)
        first = self.claim(1)
        self.settle(self.line)
        self.finalise(self.line)
        name = f"{len(self.workers):,} accounts"
        yield Row(f"claim, first, {name}", first, 112_987)
        yield Row(f"claim, repeat, {name}", self.claim(1), 78_847)

    def steady(self) -> Iterator[Row]:
        self.settle(self.line)
        yield Row("openEpoch", self.market.open(self.line.run_id))
        self.big = self.honest(self.line, self.num_contributions)
        with self.market.undone():
            _, gas = self.market.posted(self.big, self.line.last)
        name = f"postEpoch, {self.num_contributions:,} contributions, steady state"
        yield Row(name, gas, 206_685)
        # What is proven false below is weighed by itself.
        self.finalise(self.line)

    def settle(self, line: Line) -> int:
        """Open and post an epoch of one contribution by each worker; return the posting's gas."""
        self.market.open(line.run_id, line.operator)
        line.last, gas = self.market.posted(self.honest(line, len(self.workers)), line.last)
        self.market.wait(WINDOW)
        return gas

    def finalise(self, line: Line) -> None:
        self.market.send(self.market.ledger.functions.advance(line.run_id), self.market.finder)

    def claim(self, index: int) -> int:
        """Have one account paid by the newest epoch; return the gas."""
        assert self.line.last is not None
        epoch, header = self.line.last.epoch, self.line.last.header
        claim = self.market.ledger.functions.claim
        return self.market.gas(
            claim(header.run_id, header.epoch, epoch.account(index)), self.market.finder
        )

    def honest(self, line: Line, num_contributions: int) -> Epoch:
        """Return the next epoch. Every worker skips the nonce before its last: it was refused."""
        each = num_contributions // len(self.workers)
        first, line.next_nonce = line.next_nonce, line.next_nonce + each + 1
        works = [
            (worker, first + n + (n == each - 1), TOKENS)
            for worker in self.workers
            for n in range(each)
        ]
        return self.market.epoch(line.run_id, works, line.last)
