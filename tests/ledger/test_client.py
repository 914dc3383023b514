"""The client: refusals by name, nonces under concurrency, lost answers, events once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from requests import ConnectTimeout, Timeout
from web3 import Web3

from devchain.rpc import Rpc, RpcError
from devchain.server import DevChainServer
from ledger.deployment import Deployment, LedgerTerms, deploy
from ledger.errors import (
    ChainUnreachable,
    ContractError,
    LedgerError,
    NotEnoughGas,
    TransactionPending,
    WrongChain,
    decode_error,
)
from ledger.ledger import Ledger
from ledger.node import Node
from ledger.sender import Sender
from ledger.transactions import Waits
from protocol.canonical import keccak256
from tests.stage.terms import key
from tests.stage.world import InProcess, World, refused

WINDOWS = ("challenge_window", "settle_window", "resume_delay")


class Unreliable(InProcess):
    """A transport that loses answers of one method, before or after they took effect."""

    def __init__(self, rpc: Rpc) -> None:
        super().__init__(rpc)
        self.lost_before: dict[str, int] = {}
        self.lost_after: dict[str, int] = {}
        self.asked: list[str] = []

    def make_request(self, method: Any, params: Any) -> Any:
        self.asked.append(method)
        if self._take(self.lost_before, method):
            raise ConnectTimeout("refused")
        answer = super().make_request(method, params)
        if self._take(self.lost_after, method):
            raise Timeout("no answer")
        return answer

    def _take(self, losses: dict[str, int], method: str) -> bool:
        losses[method] = losses.get(method, 0) - 1
        return losses[method] >= 0


def unreliable(world: World) -> Unreliable:
    return Unreliable(Rpc(world.chain, clock=world.clock))


def mint(world: World, amount: int = 1) -> tuple[str, bytes]:
    token = world.by("stranger").node.contract("TestToken", world.deployment.token)
    call = token.functions.mint(world.address("stranger"), amount)
    return call.address, Web3.to_bytes(hexstr=call._encode_transaction_data())


def test_ten_threads_on_one_account_all_get_through(world: World) -> None:
    ledger = world.by("stranger")
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda n: ledger.mint(world.address("bob"), 1 << n), range(40, 50)))
    assert ledger.balance(world.address("bob")) >> 40 == 2**10 - 1


def test_without_an_owner_of_the_nonce_concurrent_sends_collide(world: World) -> None:
    """The attack on the line above: one sender per thread is what it replaces."""
    address, data = mint(world)
    barrier, taken = threading.Barrier(10), []

    def careless(_: int) -> None:
        account = world.people["stranger"]
        nonce = world.w3.eth.get_transaction_count(account.address)
        barrier.wait()
        fields = {"to": address, "data": data, "gas": 100_000, "nonce": nonce, "chainId": 31337}
        fees = {"maxFeePerGas": 10**10, "maxPriorityFeePerGas": 0, "value": 0}
        signed = account.sign_transaction({**fields, **fees})
        try:
            world.w3.eth.send_raw_transaction(signed.raw_transaction)
            taken.append(nonce)
        except Exception as error:  # noqa: BLE001 - counted, whatever web3 calls it
            assert "nonce" in str(error) or "known" in str(error)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(careless, range(10)))
    assert len(taken) == 1


def test_an_answer_lost_after_sending_is_not_sent_twice(world: World) -> None:
    transport = unreliable(world)
    transport.lost_after["eth_sendRawTransaction"] = 3
    sender = Sender(Node(transport), world.people["stranger"])
    before = world.by("stranger").balance(world.address("stranger"))
    sender.send(*mint(world, 5))
    assert transport.asked.count("eth_sendRawTransaction") == 4
    assert world.by("stranger").balance(world.address("stranger")) == before + 5
    sender.send(*mint(world, 5))


@pytest.mark.parametrize(
    "method",
    [
        "eth_estimateGas",
        "eth_getTransactionCount",
        "eth_sendRawTransaction",
        "eth_getTransactionReceipt",
        "eth_gasPrice",
    ],
)
def test_a_node_that_is_away_for_a_moment_is_waited_for(world: World, method: str) -> None:
    transport = unreliable(world)
    transport.lost_before[method] = 4
    Sender(Node(transport), world.people["stranger"], patience=Waits(poll=0.001)).send(*mint(world))


def test_a_node_that_stays_away_is_named_and_the_sender_recovers(world: World) -> None:
    transport = unreliable(world)
    transport.lost_before["eth_sendRawTransaction"] = 10**6
    sender = Sender(Node(transport), world.people["stranger"], timeout_seconds=0.1)
    with pytest.raises(ChainUnreachable, match="no answer to eth_sendRawTransaction from the node"):
        sender.send(*mint(world))
    transport.lost_before.clear()
    sender.send(*mint(world))


def test_a_transaction_without_a_receipt_is_reported_as_pending(world: World) -> None:
    class Forgetful(InProcess):
        def make_request(self, method: Any, params: Any) -> Any:
            if method == "eth_getTransactionReceipt":
                return {"jsonrpc": "2.0", "id": 1, "result": None}
            return super().make_request(method, params)

    node = Node(Forgetful(Rpc(world.chain, clock=world.clock)))
    sender = Sender(node, world.people["stranger"], timeout_seconds=0.2)
    with pytest.raises(TransactionPending, match="may yet be mined"):
        sender.send(*mint(world))


def test_a_second_process_on_the_same_key_is_survived(world: World) -> None:
    first, second = (world.sender("stranger") for _ in range(2))
    for sender in (first, second, first, first, second):
        sender.send(*mint(world))


def test_an_account_without_gas_is_told_so(world: World) -> None:
    with pytest.raises(NotEnoughGas, match=r"send it at least"):
        Sender(world.node, key("pauper")).send(*mint(world))


def test_a_refusal_carries_its_arguments_and_reads_as_a_line(world: World) -> None:
    with pytest.raises(ContractError) as caught:
        world.by("alice").unbond(10**9)
    assert caught.value.name == "NotEnoughStake"
    assert caught.value.values == {"have": 1000, "asked": 10**9}
    assert str(caught.value) == "NotEnoughStake(have=1000, asked=1000000000)"


def test_a_refusal_is_found_before_anything_is_sent(world: World) -> None:
    height = world.chain.head.number
    with refused("NotOperator"):
        world.by("stranger").stop_run(1)
    assert world.chain.head.number == height


def test_errors_of_other_contracts_and_of_solidity_are_read_too(world: World) -> None:
    with refused("ERC20InsufficientBalance", needed=7):
        world.by("stranger").fund_run(1, 7)
    reason = bytes.fromhex("08c379a0") + (32).to_bytes(32, "big") + (2).to_bytes(32, "big")
    assert str(decode_error(reason + b"no".ljust(32, b"\0"))) == "Error(reason=no)"
    assert decode_error(bytes.fromhex("4e487b71") + bytes(31) + b"\x11").values == {"code": 0x11}
    for strange in (b"", b"\1", b"\1\2\3\4\5", keccak256(b"NotOperator(address,address)")[:4]):
        assert decode_error(strange).name == "Unknown"


def test_a_ledger_without_an_account_only_reads(world: World) -> None:
    reader = Ledger(world.node, world.deployment)
    assert reader.run(1).budget > 0
    with pytest.raises(LedgerError, match="can only read"):
        reader.stop_run(1)


def test_addresses_without_contracts_are_named(world: World) -> None:
    nowhere = replace(world.deployment, ledger=world.address("bob"))
    with pytest.raises(LedgerError, match="answers nothing to runOf"):
        Ledger(world.node, nowhere).run(1)


def test_short_words_are_refused_rather_than_padded(world: World) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        world.by("operator").open_epoch(1, b"short")
    with pytest.raises(ValueError, match="32 bytes"):
        world.by("operator").halt_run(1, b"because")


def test_a_cursor_returns_each_event_once(world: World) -> None:
    ledger = world.by("operator")
    everything = [event.name for event in ledger.events().poll()]
    assert everything.count("WorkerJoined") == 2
    assert everything[-1] == "WorkerJoined"
    cursor = ledger.events(next_block=world.chain.head.number + 1)
    assert cursor.poll() == []
    world.open()
    [event] = cursor.poll()
    assert (event.name, event.values["epoch"]) == ("EpochOpened", 0)
    assert cursor.poll() == []
    again = ledger.events(next_block=cursor.next_block)
    assert again.poll() == []


def test_runs_are_listed_from_events_alone_as_the_views_have_them(world: World) -> None:
    operator = world.by("operator")
    model = keccak256(b"another model")
    lapsed = operator.create_run(
        world.params(base_model=model, parent_run=1, permit_period=100, compute_cap=5), 77, "ar://x"
    )
    world.settle(alice=10)
    operator.renew_permit(1)
    halted, closed = (operator.create_run(world.params(), 9, "") for _ in range(2))
    operator.halt_run(halted)
    operator.stop_run(closed)
    world.wait(200)
    world.by("stranger").lapse_run(lapsed)
    operator.close_run(closed)
    world.wait(200)
    operator.resume_run(lapsed)
    world.wait(1000)
    operator.refund_run(closed)
    found = operator.runs()
    assert [run.run_id for run in found] == [1, 2, 3, 4]
    for run in found:
        view = operator.run(run.run_id)
        for name in (
            *("operator", "status", "permit_until", "budget", "num_final", "tokens", "gflops"),
            *("base_model", "token", "spec_hash", "compute_cap"),
        ):
            assert getattr(run, name) == getattr(view, name), (run.run_id, name)
    second = found[1]
    assert (second.parent_run, second.spec_uri, second.licence) == (1, "ar://x", "Apache-2.0")
    assert second.intended_use == "arithmetic"
    assert second.is_live(second.permit_until)
    assert not found[2].is_live(0)


def test_a_cursor_that_fails_half_way_loses_nothing(world: World) -> None:
    transport = unreliable(world)
    cursor = Ledger(Node(transport), world.deployment).events()
    transport.lost_before["eth_getLogs"] = 10**6
    with pytest.raises(ChainUnreachable, match="no answer to eth_getLogs"):
        cursor.poll()
    transport.lost_before.clear()
    assert [e.name for e in cursor.poll()] == [e.name for e in world.by("bob").events().poll()]


def test_a_deployment_survives_its_file_and_the_wrong_chain_is_refused(
    world: World, tmp_path: Path
) -> None:
    path = tmp_path / "deployment.json"
    world.deployment.save(path)
    loaded = Deployment.load(path)
    assert loaded == world.deployment
    server = DevChainServer(Rpc(world.chain, clock=world.clock), 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert Ledger.connect(server.url, loaded).num_runs() == 1
        with pytest.raises(WrongChain, match="serves 31337, not 1"):
            Ledger.connect(server.url, replace(loaded, chain_id=1))
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(ChainUnreachable, match="no chain at"):
        Ledger.connect(server.url, loaded)


def test_a_market_can_be_deployed_on_the_default_terms(world: World) -> None:
    deployment = deploy(
        world.node, world.people["operator"], LedgerTerms(token=world.deployment.token)
    )
    ledger = Ledger(world.node, deployment, world.people["operator"])
    week = ledger.create_run(world.params(**dict.fromkeys(WINDOWS, 86_400)), 0, "")
    assert ledger.run(week).operator == world.address("operator")
    with refused("BadWindow", given=599, least=600):
        ledger.create_run(world.params(**dict.fromkeys(WINDOWS, 599)), 0, "")


def test_rpc_errors_are_not_mistaken_for_answers(world: World) -> None:
    rpc = Rpc(world.chain, clock=world.clock)
    for method, params in (("eth_nope", []), ("eth_call", ["junk"]), ("eth_getBalance", ["0xzz"])):
        with pytest.raises(RpcError):
            rpc.answer(method, params)
