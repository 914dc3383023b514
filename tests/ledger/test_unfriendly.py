"""A node is any node: one that limits, refuses, lags and answers oddly is used like a kind one.

Each habit is first shown to stop the same question asked without patience.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from threading import Thread
from typing import Any

import pytest
from requests import Timeout
from web3.providers import BaseProvider

from devchain.server import DevChainServer
from ledger.errors import (
    ChainUnreachable,
    ContractError,
    GasTooDear,
    NodeLimits,
    NodeRefused,
    TransactionPending,
)
from ledger.fees import Fees
from ledger.ledger import Ledger
from ledger.node import ONCE, TELL_AFTER, Node, Patience, Traits
from ledger.sender import Sender
from ledger.transactions import Waits
from tests.stage.unfriendly import ALL, LIMITED, TOO_WIDE, Habits, Unfriendly, unfriendly
from tests.stage.whole import WholeLedger
from tests.stage.world import STAKE, InProcess, World

QUICK = Patience(first=0.001, longest=0.01)


@pytest.fixture
def kind(world: World) -> Iterator[str]:
    """The world's chain on a port."""
    server = DevChainServer(world.w3.provider.rpc, 0)
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server.url
    server.shutdown()
    server.server_close()


def quick(proxy: Unfriendly, said: list[str] | None = None) -> Node:
    tell = said.append if said is not None else lambda _: None
    return Node.at(proxy.url, patience=QUICK, tell=tell)


def test_every_way_to_be_limited_is_waited_for_and_told_once(world: World, kind: str) -> None:
    said: list[str] = []
    with unfriendly(kind, Habits(limits_every=2)) as proxy:
        node = quick(proxy, said)
        hasty = Node.at(proxy.url, patience=ONCE, tell=said.append)
        refused = 0
        for _ in range(2 * len(LIMITED)):
            try:
                hasty.height()
            except ChainUnreachable:
                refused += 1
        assert refused == len(LIMITED), (
            "the attack: without patience every other answer is an error"
        )
        assert not said
        ledger = Ledger(node, world.deployment)
        assert [run.run_id for run in ledger.runs()] == [1]
        for _ in range(len(LIMITED)):
            ledger.run(1)
    [line] = said
    assert "limits how often it is asked" in line
    assert "key" not in line
    assert "pass" not in line
    assert "127.0.0.1" in line
    [limits] = node.traits.limits()
    assert limits.startswith("limits how often it is asked")


@pytest.mark.parametrize("kind_of_limit", [0, 1, 2])
def test_a_limit_that_stays_is_named_after_a_bounded_time(kind: str, kind_of_limit: int) -> None:
    with unfriendly(kind, Habits(limits_every=1)) as proxy:
        proxy._limited = iter([LIMITED[kind_of_limit]] * 1000)  # type: ignore[assignment]
        node = Node.at(proxy.url, patience=replace(QUICK, limited=0.1), tell=lambda _: None)
        with pytest.raises(
            NodeLimits, match=r"the node http://127\.0\.0\.1:\d+/… limits how often"
        ):
            node.height()
        assert 5 <= proxy.asked["eth_blockNumber"] < 1000


def test_a_node_that_says_when_to_come_again_is_not_asked_before(kind: str) -> None:
    with unfriendly(kind, Habits(limits_every=1)) as proxy:
        proxy._limited = iter([(429, {"Retry-After": "3600"}, "no")] * 9)  # type: ignore[assignment]
        with pytest.raises(NodeLimits, match="come again in 3600 s"):
            quick(proxy).height()
        assert proxy.asked["eth_blockNumber"] == 1, "an hour is longer than anybody waits"


def test_events_are_read_in_ranges_as_small_as_the_node_wants(world: World, kind: str) -> None:
    for _ in range(60):
        world.chain.mine_empty(now=0)
    wanted = [(e.name, e.block) for e in world.by("bob").events().poll()]
    with unfriendly(kind, Habits(most_blocks=10)) as proxy:
        height = quick(proxy).height()
        for _ in TOO_WIDE:
            with pytest.raises(NodeRefused):
                quick(proxy).ask(
                    "eth_getLogs", {"fromBlock": "0x0", "toBlock": hex(height), "address": []}
                )
        node = quick(proxy)
        ledger = Ledger(node, world.deployment)
        proxy.ranges.clear()
        assert [(e.name, e.block) for e in ledger.events().poll()] == wanted
        first = list(proxy.ranges)
        assert node.traits.span.size <= 20
        assert "blocks at a time" in node.traits.limits()[0]
        proxy.ranges.clear()
        assert [(e.name, e.block) for e in ledger.events().poll()] == wanted
        assert max(first) > 10
        assert max(proxy.ranges) <= 20, "what worked is remembered, and grows slowly"
        refused = sum(span > 10 for span in proxy.ranges)
        assert refused <= 2


def test_a_node_that_gives_no_events_at_all_is_named(world: World, kind: str) -> None:
    with unfriendly(kind, Habits(most_blocks=-1)) as proxy:
        with pytest.raises(NodeRefused, match="refuses eth_getLogs"):
            Ledger(quick(proxy), world.deployment).events().poll()
        assert proxy.ranges[-1] == 1


def mint(world: World, amount: int = 1) -> tuple[str, bytes]:
    draft = world.by("stranger").draft("mint", world.address("stranger"), amount)
    return draft.to, draft.data


def test_a_chain_without_eip_1559_gets_transactions_of_type_0(world: World, kind: str) -> None:
    with unfriendly(kind, Habits(is_legacy=True)) as proxy:
        node = quick(proxy)
        with pytest.raises(NodeRefused, match="eth_maxPriorityFeePerGas"):
            node.number("eth_maxPriorityFeePerGas")
        node.traits.is_legacy = False
        before = world.by("stranger").balance(world.address("stranger"))
        Sender(node, world.people["stranger"]).send(*mint(world, 5))
        assert proxy.refused["eth_sendRawTransaction"] == 1, (
            "type 2 is tried once where it looks possible"
        )
        Sender(quick(proxy), world.people["stranger"]).send(*mint(world, 5))
        assert proxy.refused["eth_sendRawTransaction"] == 1, "and not where it does not"
        assert world.by("stranger").balance(world.address("stranger")) == before + 10
    last = world.w3.eth.get_block("latest", full_transactions=True)["transactions"][0]
    assert int(last["type"]) == 0


def test_a_machine_that_is_behind_is_asked_again(world: World, kind: str) -> None:
    with unfriendly(kind, Habits(lags_every=1)) as proxy, pytest.raises(NodeRefused):
        Ledger(Node.at(proxy.url, patience=ONCE), world.deployment).run(1)
    with unfriendly(kind, Habits(lags_every=2, late_receipts=3)) as proxy:
        ledger = WholeLedger(quick(proxy), world.deployment, world.people["stranger"])
        for _ in range(5):
            assert ledger.run(1).budget > 0
        ledger.mint(world.address("bob"), 1)
        assert proxy.refused["eth_getTransactionReceipt"] == 3


class Behind(InProcess):
    """A balancer that asks a machine without the newest block, `behind` times more, for an estimate."""

    def __init__(self, world: World) -> None:
        super().__init__(world.w3.provider.rpc)
        self.chain, self.behind, self.num_stale = world.chain, 0, 0

    def make_request(self, method: Any, params: Any) -> Any:
        if method == "eth_estimateGas" and len(params) == 1 and self.behind:
            self.behind, self.num_stale = self.behind - 1, self.num_stale + 1
            return super().make_request("eth_call", [params[0], hex(self.chain.head.number - 1)])
        return super().make_request(method, params)


def test_a_refusal_by_a_machine_that_lacks_the_last_transaction_does_not_count(
    world: World,
) -> None:
    who = world.people["stranger"]
    transport = Behind(world)

    def ledger() -> Ledger:
        return Ledger(Node(transport), world.deployment, who)

    first = ledger()
    first.mint(who.address, STAKE)
    transport.behind = 1
    with pytest.raises(ContractError, match="ERC20InsufficientBalance"):
        ledger().register(
            STAKE, who.address, who.address
        )  # the attack: it knows of no block to insist on
    transport.behind = 3
    first.register(STAKE, who.address, who.address)
    assert transport.num_stale == 4
    with pytest.raises(ContractError, match="AlreadyRegistered"):
        first.register(1, who.address, who.address)


ODD = Habits(is_odd=True)


def test_odd_spellings_of_answers_and_of_refusals_are_read(world: World, kind: str) -> None:
    with unfriendly(kind, ODD) as proxy:
        ledger = WholeLedger(quick(proxy), world.deployment, world.people["alice"])
        for _ in range(6):
            with pytest.raises(ContractError) as caught:
                ledger.unbond(10**9)
            assert str(caught.value) == "NotEnoughStake(have=1000, asked=1000000000)"
            with pytest.raises(ContractError, match="NoSuchRun"):
                ledger.run(7)
        assert ledger.coin_balance(world.address("alice")) > 0


def test_everything_at_once_still_sends_and_reads(world: World, kind: str) -> None:
    with unfriendly(kind, ALL) as proxy:
        ledger = WholeLedger(quick(proxy), world.deployment, world.people["stranger"])
        before = ledger.balance(world.address("bob"))
        for _ in range(6):
            ledger.mint(world.address("bob"), 1)
        assert ledger.balance(world.address("bob")) == before + 6
        assert sum(proxy.refused.values()) > 20


# ------------------------------------------------------------ prices


def dear(world: World, gwei: float) -> Node:
    class Dear(InProcess):
        def make_request(self, method: Any, params: Any) -> Any:
            if method == "eth_gasPrice":
                return {"jsonrpc": "2.0", "id": 1, "result": hex(int(gwei * 10**9))}
            return super().make_request(method, params)

    return Node(Dear(world.w3.provider.rpc))


def test_nothing_above_the_cap_is_offered_whatever_a_node_says_gas_costs(world: World) -> None:
    who = world.people["stranger"]
    liar = dear(world, 10_000)
    assert Fees(liar, 10**6).first()["maxFeePerGas"] == 20_000 * 10**9, (
        "the attack: the node names the price"
    )
    with pytest.raises(
        GasTooDear, match="costs 10,000 gwei and at most 500 is offered: wait, or raise"
    ):
        Sender(liar, who).send(*mint(world))
    free = Fees(dear(world, 0), 500).first()["maxFeePerGas"]
    assert free >= 2 * (dear(world, 0).newest().base_fee or 0), "a node that reckons no prices"
    at_cap = Fees(dear(world, 400), 500)
    assert at_cap.first() == {"maxFeePerGas": 500 * 10**9, "maxPriorityFeePerGas": 0}


@pytest.mark.parametrize("is_legacy", [False, True])
def test_a_bump_stops_at_the_cap(world: World, is_legacy: bool) -> None:
    node = dear(world, 10)
    node.traits.is_legacy = is_legacy
    fees, offers = Fees(node, 50), 0
    offered: dict[str, int] | None = fees.first()
    while offered is not None:
        last, offers = offered, offers + 1
        offered = fees.raised(last)
    most = last.get("maxFeePerGas") or last["gasPrice"]
    assert 50 * 10 / 11 <= most / 10**9 <= 50
    assert 3 <= offers < 12


def test_a_nonce_that_another_program_left_waiting_is_named(world: World) -> None:
    class Stuck(InProcess):
        """A pool in which another program's transaction of the same account waits, priced too low."""

        def make_request(self, method: Any, params: Any) -> Any:
            who = world.address("stranger")
            if method == "eth_getTransactionCount" and params[1] == "pending":
                return super().make_request(method, [who, "latest"])
            if method == "eth_sendRawTransaction":
                if self.offered.setdefault(params[0], len(self.offered)) == 0:
                    error = {"code": -32000, "message": "replacement transaction underpriced"}
                    return {"jsonrpc": "2.0", "id": 1, "error": error}
                return {"jsonrpc": "2.0", "id": 1, "result": "0x" + "00" * 32}
            return super().make_request(method, params)

        offered: dict[str, int] = {}

    waits = Waits(look=0.01, poll=0.01)
    node = Node(Stuck(world.w3.provider.rpc), patience=QUICK)
    sender = Sender(node, world.people["stranger"], timeout_seconds=0.5, patience=waits)
    nonce = world.w3.eth.get_transaction_count(world.people["stranger"].address)
    with pytest.raises(TransactionPending, match=f"waits behind nonce {nonce} of the same account"):
        sender.send(*mint(world))


def test_an_event_that_one_machine_has_not_yet_is_not_left_out(world: World, kind: str) -> None:
    """A balancer's machine that is behind gives the events it has, and does not say that there are more."""
    wanted = [(e.name, e.block) for e in world.by("bob").events().poll()]
    assert wanted[-1][1] == world.chain.head.number, "the newest block has an event"
    with unfriendly(kind, Habits(hides_every=1)) as proxy:
        query = {"fromBlock": "0x0", "toBlock": hex(world.chain.head.number), "address": []}
        given = quick(proxy).ask("eth_getLogs", query)
        assert max(int(log["blockNumber"], 16) for log in given) < wanted[-1][1], "the attack"
        with pytest.raises(NodeRefused, match="unknown block"):
            Ledger(quick(proxy), world.deployment).events().poll()
    with unfriendly(kind, Habits(hides_every=2)) as proxy:
        found = Ledger(quick(proxy), world.deployment).events().poll()
        assert [(e.name, e.block) for e in found] == wanted


class Silent(BaseProvider):
    """A node that takes a question and never answers it."""

    def make_request(self, _method: Any, _params: Any) -> Any:
        time.sleep(TELL_AFTER)
        raise Timeout("no answer")


def test_a_silence_is_told_while_it_lasts() -> None:
    said: list[str] = []
    node = Node(Silent(), patience=replace(QUICK, tries=2), traits=Traits("a node", said.append))
    with pytest.raises(ChainUnreachable, match="no answer in time"):
        node.height()
    assert said == ["the node a node does not answer (no answer in time): trying again in 0.0 s"]
