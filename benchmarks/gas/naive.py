"""The ledgers one would write first, weighed for each contribution: no trees, no signatures, no disputes."""

from typing import Any

from benchmarks.gas.market import NUM_PARAMETERS, RATE, TOKENS, Market, person
from benchmarks.gas.rows import Design
from protocol.canonical import keccak256
from tests.stage.epochs import gflops_of

NUM_EACH = 10
NUM_BATCHED = 200
BUDGET = 10**24


def naive_designs(market: Market, paid_every: int) -> list[Design]:
    """Return both designs, a worker being paid once for `paid_every` contributions."""
    return [_each_on_chain(market, paid_every), _batched(market, paid_every)]


def _each_on_chain(market: Market, paid_every: int) -> Design:
    ledger = market.deployed("EachOnChain", market.token.address, RATE)
    _fund(market, ledger)
    worker = person("contributor").address
    market.fund(worker)
    used = []
    for nonce in range(1, NUM_EACH + 1):
        digest = keccak256(nonce.to_bytes(8, "big"))
        call = ledger.functions.contribute(
            digest, nonce, 1, TOKENS, gflops_of(TOKENS, NUM_PARAMETERS)
        )
        used.append(market.gas(call, worker))
    # The first contribution also makes the worker's account: it is not the price of one more.
    each = sum(used[1:]) / (NUM_EACH - 1)
    paid = market.gas(ledger.functions.withdraw(), worker)
    return Design("a transaction for each contribution", each, each + paid / paid_every)


def _batched(market: Market, paid_every: int) -> Design:
    ledger = market.deployed("BatchedCredits", market.token.address, RATE)
    _fund(market, ledger)
    workers = [person(f"worker {n}").address for n in range(NUM_BATCHED)]
    used = []
    for nonce in (1, 2):
        credits = [
            (worker, nonce, TOKENS, keccak256(bytes.fromhex(worker[2:]) + bytes([nonce])))
            for worker in workers
        ]
        used.append(market.gas(ledger.functions.credit(credits), market.operator))
    market.fund(workers[0])
    paid = market.gas(ledger.functions.withdraw(), workers[0])
    each = used[1] / NUM_BATCHED
    return Design(f"credits in batches of {NUM_BATCHED}", each, each + paid / paid_every)


def _fund(market: Market, ledger: Any) -> None:
    market.mint(market.operator, BUDGET, ledger)
    market.send(ledger.functions.fund(BUDGET), market.operator)
