"""The development chain: it survives `kill -9`, keeps the wall clock, and refuses nonsense."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from eth_account import Account
from web3 import Web3

from devchain.__main__ import development_address, development_key
from devchain.chain import DevChain
from devchain.journal import FILE_NAME, ChainFile, JournalMismatch
from devchain.rpc import Rpc
from devchain.server import DevChainServer
from ledger.deployment import LedgerTerms, deploy
from ledger.ledger import Ledger
from ledger.node import Node
from tests.stage.waiting import started
from tests.stage.world import InProcess

FUNDED = [development_address(0)]
TERMS = LedgerTerms(
    unbond_seconds=60,
    revoke_seconds=1,
    min_window_seconds=2,
    response_seconds=2,
    appeal_seconds=2,
    ruling_seconds=2,
)


@contextmanager
def served(state: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "devchain", "--port", "0", "--state", str(state)]
    with started([*command, *options], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(3)]
        yield process, lines[-1]


def test_kill_9_and_restart_lose_nothing(tmp_path: Path) -> None:
    account = Account.from_key(development_key(0))
    poor = Account.from_key(b"\7" * 32)
    with served(tmp_path, "--fund", poor.address) as (process, url):
        w3 = Node.at(url).w3
        assert w3.eth.get_balance(poor.address) > 0
        deployment = deploy(Node.at(url), account, TERMS)
        ledger = Ledger.connect(url, deployment, account)
        ledger.mint(account.address, 1_000)
        ledger.register(600, account.address, account.address)
        head = w3.eth.get_block("latest")
        process.send_signal(signal.SIGKILL)
        process.wait()
    with served(tmp_path, "--fund", poor.address) as (process, url):
        w3 = Node.at(url).w3
        assert w3.eth.get_block(head["number"])["hash"] == head["hash"]
        ledger = Ledger.connect(url, deployment, account)
        assert ledger.stake_of(account.address) == 600
        assert [event.name for event in ledger.events().poll()] == [
            *("RoleGranted", "RoleGranted", "RoleGranted"),  # the council's three offices
            *("SignerAdded", "Registered", "Staked"),
        ]
        ledger.stake(400)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


@pytest.fixture(scope="module")
def nonsense_url() -> Iterator[str]:
    server = DevChainServer(Rpc(DevChain([], genesis_time=1_000)), 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.url
    server.shutdown()
    server.server_close()


def journalled(folder: Path) -> tuple[DevChain, Ledger]:
    journal = ChainFile(folder)
    chain = journal.open(FUNDED, now=1_000)
    node = Node(InProcess(Rpc(chain, journal, clock=lambda: 2_000)))
    account = Account.from_key(development_key(0))
    ledger = Ledger(node, deploy(node, account, TERMS), account)
    journal.close()
    return chain, ledger


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    chain, _ = journalled(tmp_path)
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[-1][:40])
    again = ChainFile(tmp_path).open(FUNDED, now=9_000)
    assert again.head.header.hash == chain.head.header.hash
    assert path.read_bytes() == whole


def test_a_journal_that_was_tampered_with_is_refused(tmp_path: Path) -> None:
    journalled(tmp_path)
    path = tmp_path / FILE_NAME
    lines = path.read_bytes().splitlines()
    entry = json.loads(lines[1])
    lines[1] = json.dumps({**entry, "t": entry["t"] + 1}).encode()
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(JournalMismatch, match="block 1 is not the recorded one"):
        ChainFile(tmp_path).open(FUNDED, now=9_000)


@pytest.mark.parametrize(("line", "left"), [(0, b""), (0, b"{}"), (1, b"{"), (1, b'{"t": 1}')])
def test_a_damaged_journal_is_named_with_what_to_do(tmp_path: Path, line: int, left: bytes) -> None:
    journalled(tmp_path)
    path = tmp_path / FILE_NAME
    lines = path.read_bytes().splitlines()
    lines[line] = left
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(JournalMismatch, match=r"chain.jsonl is damaged .*: restore the file, or"):
        ChainFile(tmp_path).open(FUNDED, now=9_000)


def test_a_chain_made_for_others_is_not_taken_over_in_silence(tmp_path: Path) -> None:
    ChainFile(tmp_path).open(FUNDED, now=1_000)
    assert ChainFile(tmp_path).open([FUNDED[0].lower()], now=1_000)
    with pytest.raises(JournalMismatch, match="does not fund"):
        ChainFile(tmp_path).open([development_address(1)], now=1_000)


def test_time_passes_for_readers_while_nothing_is_sent() -> None:
    now = [1_000.0]
    rpc = Rpc(DevChain([], genesis_time=1_000), clock=lambda: now[0])
    w3 = Web3(InProcess(rpc))
    now[0] = 1_050.0
    assert w3.eth.get_block("latest")["timestamp"] == 1_050
    height = w3.eth.block_number
    assert w3.eth.get_block("latest")["timestamp"] == 1_050
    assert w3.eth.block_number == height, "reading twice in a second mines once"


def test_calls_see_the_wall_clock_without_a_new_block() -> None:
    now = [1_000.0]
    account = Account.from_key(development_key(0))
    chain = DevChain([bytes.fromhex(account.address[2:])], genesis_time=1_000)
    node = Node(InProcess(Rpc(chain, clock=lambda: now[0])))
    ledger = Ledger(node, deploy(node, account, replace(TERMS, revoke_seconds=50)), account)
    ledger.register(0, account.address, account.address)
    ledger.revoke_signer(account.address)
    height, revoked_at = chain.head.number, int(chain.head.header.timestamp)
    now[0] = revoked_at + 49
    assert ledger.owner_of(account.address) == account.address
    now[0] = revoked_at + 50
    assert ledger.owner_of(account.address) is None
    assert chain.head.number == height


def test_block_times_always_rise_however_fast_blocks_come() -> None:
    chain = DevChain([], genesis_time=1_000)
    times = [chain.mine_empty(now=1_000).header.timestamp for _ in range(5)]
    assert times == [1_001, 1_002, 1_003, 1_004, 1_005]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"not json", -32700),
        (b"3", -32600),
        (b'{"method": 3}', -32600),
        (b'{"id": 1, "method": "eth_nope"}', -32601),
        (b'{"id": 1, "method": "eth_call", "params": {"a": 1}}', -32602),
        (b'{"id": 1, "method": "eth_sendRawTransaction", "params": ["0x02ff"]}', -32000),
        (b'{"id": 1, "method": "eth_getBalance", "params": ["0x01"]}', -32602),
    ],
)
def test_nonsense_gets_an_error_and_the_next_request_an_answer(
    body: bytes, code: int, nonsense_url: str
) -> None:
    answer = requests.post(nonsense_url, data=body, timeout=5).json()
    assert answer["error"]["code"] == code
    assert Node.at(nonsense_url).w3.eth.chain_id == 31_337


def test_a_body_beyond_the_limit_is_refused_unread(nonsense_url: str) -> None:
    assert requests.post(nonsense_url, data=b" " * 4_000_001, timeout=5).status_code == 413


def test_a_hundred_requests_take_no_delayed_acknowledgements(tmp_path: Path) -> None:
    with served(tmp_path) as (_, url):
        w3 = Node.at(url).w3
        assert w3.eth.chain_id == 31_337
        start = time.monotonic()
        for _ in range(100):
            _ = w3.eth.block_number
        # With Nagle's algorithm each would wait 40 ms: four seconds.
        assert time.monotonic() - start < 2.0
