"""`rollcall serve` with two processes on one port: one orchestrator to all who call, whichever answers them."""

import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from devchain.server import DevChainServer
from orchestrator.config import Limits, OrchestratorConfig
from protocol.messages import GroupState, ReturnedLeases
from protocol.rollout import Receipt
from protocol.verdict import Outcome
from rollcall.demo.processes import Command, Processes, Running
from rollcall.demo.services import free_port, wait_for_http
from rollcall.frame.settings import to_toml
from tests.stage.ground import Ground
from tests.stage.place import Party, Place, opened
from tests.stage.waiting import wait_until
from tests.stage.world import Running as RunningClock

BURST = 60


@dataclass
class Serve:
    """One `rollcall serve` of two processes, on a place's run."""

    place: Place
    running: Running
    port: int

    def pids(self) -> list[int]:
        """Return the processes that serve."""
        found = []
        for child in psutil.Process(self.running.process.pid).children():
            with suppress(psutil.NoSuchProcess):  # it has just ended
                found += [child.pid] * ("spawn_main" in " ".join(child.cmdline()))
        return found

    def line(self, pid: int) -> HTTPConnection:
        """Return a connection that this process took."""
        while True:
            line = HTTPConnection("127.0.0.1", self.port)
            line.request("GET", "/healthz")
            assert line.getresponse().read() == b"ok"
            here = line.sock.getsockname()
            if any(held.raddr == here for held in psutil.Process(pid).net_connections("tcp")):
                return line
            line.close()

    def at(self, pid: int, name: str, token: str = "") -> Party:
        """Return somebody who calls one process."""
        place = self.place
        through = Through(place.ground, place.spec, place.run_id, place.services, place.client)
        through.line, through.num_nonces = (lambda: self.line(pid)), secrets.randbelow(900_000)
        return Party(through, place.ground.people[name], token)

    def counted(self, pid: int, name: str, **labels: str) -> float:
        """Return what a counter says at one process."""
        line = self.line(pid)
        line.request("GET", "/metrics")
        families = text_string_to_metric_families(line.getresponse().read().decode())
        samples = (sample for family in families for sample in family.samples)
        return sum(
            s.value for s in samples if s.name == name and labels.items() <= s.labels.items()
        )


class Through(Place):
    """A place whose requests go over connections of one process."""

    line: Any

    def request(
        self, method: str, path: str, content: bytes = b"", headers: dict[str, str] | None = None
    ) -> httpx.Response:
        line = self.line()
        line.request(method, path, content, {"host": "market.test"} | (headers or {}))
        answer = line.getresponse()
        found = httpx.Response(answer.status, content=answer.read(), headers=dict(answer.headers))
        line.close()
        return found


@contextmanager
def serving(place: Place, redis_url: str, folder: Path) -> Iterator[Serve]:
    """Serve a place's run by two processes, on its chain and with its blobs."""
    chain = DevChainServer(place.ground.w3.provider.rpc, 0)
    Thread(target=chain.serve_forever, args=(0.05,), daemon=True).start()
    place.ground.deployment.save(folder / "deployment.json")
    config = OrchestratorConfig(
        port=free_port(),
        redis_url=redis_url,
        blob_url=f"file://{folder / 'blobs'}",
        rpc_url=chain.url,
        deployment=str(folder / "deployment.json"),
        limits=Limits(requests_per_second=0.1, request_burst=BURST),
    )
    (folder / "orchestrator.toml").write_text(to_toml(config))
    words = ("--config", str(folder / "orchestrator.toml"), "--processes", "2")
    key = "0x" + bytes(place.ground.people["orchestrator"].key).hex()
    command = Command(
        "serve", (sys.executable, "-m", "rollcall", "serve", *words), {"ROLLCALL_KEY": key}
    )
    with Processes(folder / "logs") as processes:
        running = processes.start(command)
        wait_for_http(processes, "serve", f"http://127.0.0.1:{config.port}/readyz")
        found = Serve(place, running, config.port)
        wait_until(lambda: len(found.pids()) == 2, check=processes.check)
        yield found
    chain.shutdown()
    chain.server_close()


@pytest.fixture(scope="module")
def ground() -> Ground:
    """Processes of their own read this machine's clock."""
    return Ground.build(RunningClock())


@pytest.fixture(scope="module")
def place(
    ground: Ground, redis_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("processes")
    with opened(ground, f"{redis_server}?db=5", folder / "blobs", max_worker_leases=8) as place:
        yield place


@pytest.fixture(scope="module")
def serve(
    place: Place, redis_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serve]:
    folder = tmp_path_factory.mktemp("serve")
    (folder / "blobs").symlink_to(str(place.services.config.blob_url.removeprefix("file://")))
    with serving(place, f"{redis_server}?db=5", folder) as serve:
        yield serve


def test_what_one_process_was_told_the_other_knows(serve: Serve) -> None:
    one, other = serve.pids()
    alice = serve.at(one, "alice")
    assert alice.sign_in().status_code == 200
    elsewhere = serve.at(other, "alice", alice.token)
    lease = elsewhere.leases()[0].lease
    body = alice.submission(lease)
    taken = alice.submit(body)
    assert taken.status_code == 200, taken.text
    assert elsewhere.submit(body).content == taken.content, "the same receipt, not a second group"
    verifier = serve.at(other, "v0")
    assert verifier.sign_in().status_code == 200
    digest = Receipt.from_json(taken.content).work_digest
    [task] = serve.at(one, "v0", verifier.token).audits()
    assert task.work_digest == digest
    assert verifier.judge(digest, Outcome.ACCEPTED).status_code == 200
    for pid in (one, other):
        assert serve.at(pid, "alice").place.status(digest).state is GroupState.ACCEPTED


def test_a_sign_in_is_spent_at_all_processes(serve: Serve) -> None:
    for pid, status in zip(serve.pids(), (200, 409), strict=True):
        answer = serve.at(pid, "carol").sign_in(nonce="usedatoneprocess")
        assert answer.status_code == status, answer.text


def test_two_processes_have_one_budget(serve: Serve) -> None:
    """Whoever asks both gets as much as of one: each alone would have admitted as much again."""
    signed_in = serve.at(serve.pids()[0], "bob")
    assert signed_in.sign_in().status_code == 200
    path = serve.place.path("leases/return")
    body, began = ReturnedLeases(lease_ids=()).to_json(), time.monotonic()
    admitted, open_lines = 0, [serve.line(pid) for pid in serve.pids()]
    while open_lines:
        line = open_lines.pop(0)
        headers = {"authorization": f"Bearer {signed_in.token}"}
        line.request("POST", path, body, headers)
        answer = line.getresponse()
        answer.read()
        if answer.status == 204:
            admitted += 1
            open_lines.append(line)
        else:
            assert answer.status == 429
    assert BURST <= admitted <= BURST + 1 + (time.monotonic() - began) / 10


def test_each_process_tells_what_all_have_counted(serve: Serve) -> None:
    asked = {"route": "/v1/workers/{address}", "status": "200"}
    before = serve.counted(serve.pids()[0], "rollcall_requests_total", **asked)
    for pid in serve.pids():
        alice = serve.at(pid, "alice")
        assert alice.place.get(f"/v1/workers/{alice.address}").status_code == 200
    found = [serve.counted(pid, "rollcall_requests_total", **asked) for pid in serve.pids()]
    assert found == [before + 2] * 2


def test_a_killed_process_is_replaced_and_nothing_is_lost(serve: Serve) -> None:
    one, other = serve.pids()
    carol = serve.at(one, "carol")
    assert carol.sign_in().status_code == 200
    signed_in = {"route": "/v1/session", "status": "200"}
    counted = serve.counted(one, "rollcall_requests_total", **signed_in)
    psutil.Process(one).kill()
    found: set[int] = set()

    def are_two() -> bool:
        nonlocal found
        found = set(
            serve.pids()
        )  # read once: a process that begins shows its parent's words at first
        return len(found) == 2 and one not in found

    wait_until(are_two)
    [new] = found - {other}
    answer = serve.at(new, "carol", carol.token).lease()
    assert answer.json()["code"] == "not_joined", "it knows her session and the run"
    assert serve.counted(new, "rollcall_requests_total", **signed_in) == counted


def test_ctrl_c_ends_all_processes(serve: Serve) -> None:
    parent, pids = serve.running.process, serve.pids()
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal tells all that run in it
    assert parent.wait() == 0, serve.running.log.read_text()
    require_gone(serve, pids)


def test_no_process_outlives_the_one_that_watches(
    place: Place, redis_server: str, tmp_path: Path
) -> None:
    with serving(place, f"{redis_server}?db=5", tmp_path) as serve:
        pids = serve.pids()
        serve.running.process.kill()
        serve.running.process.wait()
        require_gone(serve, pids)


def require_gone(serve: Serve, pids: list[int]) -> None:
    """Return once processes have ended; raise where their port is held, or one ended with a trace."""
    wait_until(lambda: not any(map(psutil.pid_exists, pids)))
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", serve.port)) != 0
    assert "Traceback" not in serve.running.log.read_text()
