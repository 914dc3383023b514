"""Whatever a node answers, what leaves `ledger/` is a value or a `LedgerError` of one line.

Structural: every public function of `Ledger` is called with arguments made by its annotations, so a new one is held
too, and one with a new kind of argument fails here until the kind has a value.
"""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from eth_account.signers.local import LocalAccount
from requests import ConnectionError as NoConnection
from requests import Timeout
from requests.exceptions import ChunkedEncodingError, ContentDecodingError, InvalidURL

from ledger.calls import only
from ledger.deployment import Deployment
from ledger.errors import LedgerError
from ledger.events import decode_events
from ledger.journal import Journal
from ledger.ledger import Ledger
from ledger.node import ONCE, MinedTransaction, Node
from ledger.rules import owed_until
from ledger.sender import Sender
from ledger.state import AccountOpening, Condemnation, DisputeKind, Office, RunParams, WorkOpening
from ledger.transactions import Waits
from protocol.epoch import AccountLeaf, EpochHeader, FraudReport, WorkLeaf
from protocol.rollout import Receipt, Work
from tests.stage.world import InProcess, World

WORD = b"\x07" * 32
ANSWERS: dict[str, Any] = {
    "a list": [],
    "a text": "no",
    "nothing": None,
    "an empty object": {},
    "an error of text": {"error": "no"},
    "an error of a list": {"error": [1]},
    "an error without words": {"error": {"code": "x"}},
    "an error of another shape": {"error": {"message": {"a": 1}, "code": None, "data": [None, {}]}},
    "a revert of half a word": {
        "error": {"code": 3, "message": "execution reverted", "data": "0x08c379a0ff"}
    },
    "a revert of an unknown panic": {
        "error": {"code": 3, "message": "", "data": "0x4e487b71" + "ff" * 32}
    },
    "a revert that asks for a page": {
        "error": {"code": 3, "message": "", "data": "0x556f1830" + "00" * 9}
    },
    "result: a fruit": {"result": "banana"},
    "result: null": {"result": None},
    "result: a number": {"result": 7},
    "result: minus": {"result": "-0x1"},
    "result: empty bytes": {"result": "0x"},
    "result: an object": {"result": {}},
    "result: objects": {"result": [{}]},
    "result: half an object": {
        "result": {"number": "0x1", "hash": "0xzz", "blockNumber": "0x1", "status": None}
    },
    "result: a log without fields": {"result": [{"topics": None}]},
    "result: ones": {"result": "0x" + "ff" * 32 * 40},
    "result: zeros": {"result": "0x" + "00" * 32 * 40},
    "result: sevens": {"result": "0x" + "07" * 32 * 40},
    "raises: no JSON": json.JSONDecodeError("no", "<html>", 0),
    "raises: no UTF-8": UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"),
    "raises: too deep": RecursionError(),
    "raises: cut short": ChunkedEncodingError("cut"),
    "raises: not packed": ContentDecodingError("gzip"),
    "raises: no line": NoConnection("refused"),
    "raises: late": Timeout(),
    "raises: reset": ConnectionResetError(),
    "raises: no address": InvalidURL("no"),
}


class Babbling(InProcess):
    """A node that answers one method, or all, with nonsense."""

    def __init__(self, world: World, answer: Any, only: str = "") -> None:
        super().__init__(world.w3.provider.rpc)
        self.answer, self.only = answer, only
        self.has_babbled = False

    def make_request(self, method: Any, params: Any) -> Any:
        if self.only and method != self.only:
            return super().make_request(method, params)
        self.has_babbled = True
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, dict):
            return {"jsonrpc": "2.0", "id": 1, **self.answer}
        return self.answer


def ledger_at(world: World, transport: InProcess) -> Ledger:
    node = Node(transport, patience=ONCE)
    who = world.people["stranger"]
    ledger = Ledger(node, world.deployment, who)
    waits = Waits(look=0.001, poll=0.001, doubt=0.001)
    ledger._sender = Sender(node, who, timeout_seconds=0.02, patience=waits)
    return ledger


def held(call: Callable[[], object]) -> bool:
    """Call; return whether it raised, which must be a `LedgerError` of one line."""
    try:
        call()
    except LedgerError as error:
        assert str(error), type(error)
        assert "\n" not in str(error)
        assert "Traceback" not in str(error)
        return True
    return False


def made(kind: type, who: str) -> Any:
    """Return an object of plain fields."""
    plain = {int: 1, bytes: WORD, str: who}
    hints = {name: hint for name, hint in get_type_hints(kind).items() if hint in plain}
    return kind(**{name: plain[hint] for name, hint in hints.items()})


class Values:
    """A value for each annotation that a function of the ledger has."""

    def __init__(self, world: World, folder: Path) -> None:
        self._folder = folder
        who = world.address("alice")
        leaf = made(WorkLeaf, who)
        account = AccountLeaf(who, 1, 1)
        header = world.header([account])
        work = made(Work, who)
        receipt = Receipt.model_construct(received_at=1, signature=bytes(65))
        self._values: dict[Any, Any] = {
            int: 1,
            float: 1.0,
            bool: True,
            str: who,
            bytes: WORD,
            Path: folder / "cursor.json",
            EpochHeader: header,
            WorkOpening: WorkOpening(leaf, 0, (WORD,)),
            AccountOpening: AccountOpening(account, 0, (WORD,)),
            AccountLeaf: account,
            Work: work,
            Receipt: receipt,
            Condemnation: Condemnation(0, b"x", WORD, 1, bytes(65)),
            FraudReport: FraudReport(1, who, WORD, WORD, 1, 1),
            RunParams: world.params(),
            DisputeKind: DisputeKind.WORK,
            Office: Office.GUARDIAN,
            LocalAccount: world.people["alice"],
        }

    def of(self, kind: Any) -> Any:
        origin, inner = get_origin(kind), get_args(kind)
        if origin is Sequence:
            return [self.of(inner[0])]
        if origin is tuple:
            return tuple(self.of(item) for item in inner)
        if origin is Mapping:
            return {}
        if origin is UnionType:
            return self.of(next(item for item in inner if item is not NoneType))
        return self._values[kind]

    def arguments(self, function: Callable[..., Any]) -> list[Any]:
        hints = get_type_hints(function)
        names = inspect.signature(function).parameters
        return [self.of(hints[name]) for name in names if name != "self"]


APART = {"connect", "draft", "send", "gas_of"}
"""Called below: they take what other functions give."""
FUNCTIONS = {
    name: function
    for name, function in inspect.getmembers(Ledger, inspect.isfunction)
    if not name.startswith("_") and name not in APART
}


@pytest.mark.parametrize("nonsense", ANSWERS)
def test_no_function_lets_a_librarys_error_out(world: World, tmp_path: Path, nonsense: str) -> None:
    values = Values(world, tmp_path)
    raised = 0
    ledger = ledger_at(world, Babbling(world, ANSWERS[nonsense]))
    for function in FUNCTIONS.values():
        raised += held(partial(function, ledger, *values.arguments(function)))
    assert len(FUNCTIONS) > 80
    assert raised > 40 or nonsense.startswith("result: "), raised


SOME = [ANSWERS[name] for name in ANSWERS if name.startswith("result") or "shape" in name]
METHODS = (
    *("eth_chainId", "eth_call", "eth_estimateGas", "eth_gasPrice", "eth_getBalance"),
    *("eth_getTransactionCount", "eth_getBlockByNumber", "eth_maxPriorityFeePerGas"),
    *("eth_sendRawTransaction", "eth_getTransactionReceipt", "eth_getTransactionByHash"),
    *("eth_blockNumber", "eth_getLogs", "debug_traceTransaction"),
)


@pytest.mark.parametrize("method", METHODS)
def test_nonsense_half_way_is_an_error_of_the_ledger_too(
    world: World, tmp_path: Path, method: str
) -> None:
    who = world.people["stranger"]
    tx = world.by("stranger").mint(world.address("bob"), 1).transaction_hash
    draft = world.by("stranger").draft("mint", who.address, 1)
    halted = replace(world.by("bob").run(1), halted_at=1)
    calls: list[Callable[[Ledger], object]] = [
        lambda at: at.mint(who.address, 1),
        lambda at: at.create_run(world.params(), 0, ""),
        lambda at: at.send(draft),
        lambda at: at.gas_of(draft),
        lambda at: at.draft("create_run", world.params(), 5, ""),
        lambda at: at.runs(),
        lambda at: list(at.node.inputs(tx)),
        lambda at: Journal(at.events(path=tmp_path / "c"), tmp_path / "events").refresh(),
        lambda at: owed_until(at, 1, halted, now=1)(1),
    ]
    transport = Babbling(world, None, method)
    ledger = ledger_at(world, transport)
    for call in calls:
        for transport.answer in SOME:
            transport.has_babbled = False
            held(partial(call, ledger))
            if not transport.has_babbled:
                break  # it does not ask this, and needs no other answer to it


def test_a_receipt_without_its_event_is_named(world: World) -> None:
    mined = MinedTransaction("0x12", 1, 1, None, ())
    assert held(lambda: only(mined, "RunCreated", world.by("bob")._ledger))
    assert decode_events([]) == []


@pytest.mark.parametrize("content", ["", "[]", "7", "{}", '{"chain_id": 1}', "\x00", '"a"', None])
def test_a_file_that_is_no_deployment_is_named_and_other_damage_is_read_over(
    world: World, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(b"\xff\xfe" if content is None else content.encode())
    assert held(lambda: Deployment.load(path))
    held(lambda: world.by("bob").events(path=path))
    path.write_bytes(path.read_bytes() + b"\n")
    held(lambda: Journal(world.by("bob").events(), path))


@pytest.mark.parametrize("name", ["registry", "ledger", "disputes", "council", "timelock", "token"])
@pytest.mark.parametrize("place", ["", "0x12", "nowhere", 7, None])
def test_a_deployment_whose_addresses_are_none_is_named(
    world: World, tmp_path: Path, name: str, place: object
) -> None:
    path = tmp_path / "deployment.json"
    path.write_text(json.dumps({**asdict(world.deployment), name: place}))
    assert held(lambda: Deployment.load(path))


def test_a_node_of_another_kind_is_no_chain(world: World) -> None:
    for url in ("no url", "ftp://host", "http://", "http://[", "http://127.0.0.1:1/a b"):
        assert held(partial(Ledger.connect, url, world.deployment)), url
