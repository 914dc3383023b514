"""`rollcall doctor` finds what is wrong and says what to do, and ends with 1 only for that."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from protocol.signing import address_of
from rollcall.__main__ import app
from rollcall.demo.services import free_port
from rollcall.machine import doctor
from rollcall.machine.doctor import Check, State
from tests.stage.queue import redis_with


class Peer(BaseHTTPRequestHandler):
    """An orchestrator's probes and a chain with one penniless account, on one port."""

    date = "Thu, 01 Jan 2026 00:00:00 GMT"

    def do_GET(self) -> None:
        self.send_response_only(503 if self.path == "/readyz" else 200)
        self.send_header("Date", self.date)
        self.end_headers()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        block = {"number": "0x10", "hash": "0x12", "timestamp": "0x1", "baseFeePerGas": "0x1"}
        results = {
            **{"eth_chainId": "0x7a69", "eth_blockNumber": "0x10", "eth_getBalance": "0x0"},
            **{"eth_getLogs": [], "eth_getBlockByNumber": block, "eth_maxPriorityFeePerGas": "0x0"},
        }
        result = results[json.loads(body)["method"]]
        answer = json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def peer() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Peer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def failed(check: Check) -> bool:
    return check.state is State.FAIL and bool(check.remedy)


def test_a_machine_that_can_work_passes_with_notes_only() -> None:
    result = CliRunner().invoke(app, ["doctor"], env={"ROLLCALL_KEY": ""})
    assert result.exit_code == 0, result.output
    for name in ("python", "torch", "vllm", "gpu", "memory", "disk", "clock", "chain", "wallet"):
        assert name in result.output


def test_peers_that_do_not_answer_fail_with_a_remedy() -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert failed(doctor.check_orchestrator(nowhere))
    assert failed(doctor.check_chain(nowhere))
    result = CliRunner().invoke(app, ["doctor", "--orchestrator", nowhere, "--rpc", nowhere])
    assert result.exit_code == 1


def test_an_orchestrator_that_is_not_ready_is_not_called_ready(peer: str) -> None:
    assert failed(doctor.check_orchestrator(peer))


def test_a_wrong_clock_is_found(peer: str) -> None:
    check = doctor.check_clock(peer)
    assert failed(check)
    assert "timedatectl" in check.remedy


def test_a_wallet_without_gas_is_found(peer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = bytes([5]) * 32
    monkeypatch.setenv("ROLLCALL_KEY", "0x" + key.hex())
    check = doctor.check_wallet(peer)
    assert failed(check)
    assert address_of(key) in check.found


def test_the_chain_is_named_by_id_and_height(peer: str) -> None:
    check = doctor.check_chain(peer)
    assert (check.state, check.found) == (State.OK, "chain 31337 at block 16")


def test_a_full_disk_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_disk(tmp_path / "not" / "made" / "yet").state is State.OK
    monkeypatch.setattr(doctor, "MIN_DISK_BYTES", 1 << 60)
    assert failed(doctor.check_disk(tmp_path))


@pytest.mark.parametrize(
    ("lines", "marks"),
    [
        (("appendonly yes",), ["✓ redis        a market can be on it"]),
        ((), ["· redis        it keeps nothing on disk"]),
        (
            ("maxmemory 100mb", "maxmemory-policy volatile-lru"),
            [
                "✗ redis        with maxmemory-policy volatile-lru",
                "· redis        it keeps nothing",
            ],
        ),
    ],
)
def test_the_redis_of_an_orchestrator_is_looked_at_as_serve_does(
    tmp_path: Path, lines: tuple[str, ...], marks: list[str]
) -> None:
    with redis_with(tmp_path / "r", *lines) as server:
        result = CliRunner().invoke(app, ["doctor", "--redis", server.url])
    found = [line for line in result.output.splitlines() if " redis " in line]
    assert [line.startswith(mark) for line, mark in zip(found, marks, strict=True)] == [True] * len(
        marks
    )
    assert all("→" in line for line in found if not line.startswith("✓"))
    assert result.exit_code == any(mark.startswith("✗") for mark in marks)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "http://h", "redis://h:x/0"])
def test_a_redis_that_cannot_be_reached_fails_with_a_remedy(url: str) -> None:
    [check] = doctor.check_redis(url)
    assert failed(check)
    assert "\n" not in check.found
