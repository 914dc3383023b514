"""What the long-lived roles say: real processes, whose logs are read line by line."""

import os
import re
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from client.look import probe
from rollcall.demo.processes import Command, Running
from rollcall.demo.services import wait_for_http
from rollcall.frame.settings import to_toml
from tests.stage.live import LiveMarket, key_of, live_market
from tests.stage.waiting import wait_until

OFTEN = {"tell_seconds": 0.3}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveMarket]:
    folder = tmp_path_factory.mktemp("market")
    workers = ("speaker", "stopped", "twin")
    with live_market(folder, workers=workers, verifier="verifier", epoch_seconds=5) as market:
        yield market


def start(live: LiveMarket, role: str, name: str) -> Running:
    """Start a worker or verifier as its command does, which says often how far it is."""
    config = live.worker(name, **OFTEN) if role == "join" else live.verifier(name)
    config = config.model_copy(update=OFTEN)
    file = live.folder / f"{name}.toml"
    file.write_text(to_toml(config))
    words = (*live.orchestrator.argv[:3], role, "--config", str(file))
    key = {"ROLLCALL_KEY": "0x" + key_of(name).hex()}
    return live.processes.start(Command(name, words, key))


def lines(log: Path, *signs: str) -> list[str]:
    return [line for line in log.read_text().splitlines() if all(sign in line for sign in signs)]


def wait_for(live: LiveMarket, log: Path, *signs: str, count: int = 1) -> str:
    """Wait for so many lines with all the signs; return the last of them."""
    check = partial(live.processes.check, may_end=("stopped",))
    wait_until(lambda: len(lines(log, *signs)) >= count, check=check)
    return lines(log, *signs)[count - 1]


def failures(live: LiveMarket) -> float:
    """Return how many background rounds failed at the orchestrator since it was started."""
    counted = probe(f"{live.url}/metrics").content.decode().splitlines()
    found = [line for line in counted if line.startswith("rollcall_background_failures_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in found)


def test_a_server_says_where_it_listens_and_a_second_one_why_it_cannot(live: LiveMarket) -> None:
    log = live.processes["orchestrator"].log
    assert f"at={live.url} " in wait_for(live, log, "event=listening")
    second = subprocess.run(
        live.orchestrator.argv,
        env={**os.environ, **live.orchestrator.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    [line] = second.stderr.splitlines()
    assert line.startswith(f"✗ cannot listen on {live.url}: another program listens there")
    assert second.returncode == 1


def test_an_event_stream_that_is_left_behind_makes_no_lines(live: LiveMarket) -> None:
    """Its connection is reset as soon as it is asked for, with a page of events to send."""
    port = int(live.url.rpartition(":")[2])
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", port)) as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            reader.sendall(
                f"GET /v1/runs/{live.run_id}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            )
    wait_for_http(live.processes, "orchestrator", f"{live.url}/readyz")
    assert not lines(live.processes["orchestrator"].log, "socket.send() raised exception")


def test_workers_and_verifiers_say_what_they_did_what_failed_and_what_is_over(
    live: LiveMarket,
) -> None:
    worker, verifier = start(live, "join", "speaker").log, start(live, "verify", "verifier").log
    sold = wait_for(live, worker, f'event="run {live.run_id}"', "groups=", "claimed=")
    assert re.search(r'accepted="[\d.]+ RTEST"', wait_for(live, worker, "accepted="))
    assert {"in_challenge=", "claimable=", "rejected="} <= set(re.findall(r"\w+=", sold))
    wait_for(live, verifier, "event=verified", "accepted", "tokens=")
    orchestrator = live.processes["orchestrator"].log
    live.kill_orchestrator()
    live.processes.start(Command("orchestrator", ("sleep", "1000")))  # is not missed by a check
    for log in (worker, verifier):
        wait_for(live, log, "orchestrator does not answer: trying again", f"at={live.url} ")
    since = len(lines(worker, f'event="run {live.run_id}"'))
    wait_for(live, worker, f'event="run {live.run_id}"', count=since + 5)
    assert len(lines(worker, "orchestrator does not answer")) < 5  # it tries as often as it tells
    live.processes.kill("orchestrator")
    live.start_orchestrator()
    for log in (worker, verifier):
        wait_for(live, log, "orchestrator answers again", "after=")
    serving = wait_for(live, orchestrator, "event=listening", count=2)
    assert f"serving_runs={live.run_id}" in serving
    chain = live.processes["chain"].command
    live.processes.kill("chain")
    live.processes.start(Command("chain", ("sleep", "1000")))
    wait_for(live, orchestrator, "chain does not answer: trying again", f"at={live.rpc_url}")
    # By its own look, or by the orchestrator's word.
    wait_for(live, verifier, "trying again", "chain does not answer")
    told = len(lines(orchestrator, "chain does not answer"))
    wait_until(lambda: failures(live) >= 10 * told, check=live.processes.check)
    live.processes.kill("chain")
    live.processes.start(chain)
    wait_for(live, orchestrator, "chain answers again")
    wait_for(live, verifier, "answers again", count=2)


def test_ctrl_c_is_answered_at_once_and_ends_with_the_total_and_the_next_command(
    live: LiveMarket,
) -> None:
    running = start(live, "join", "stopped")
    wait_for(live, running.log, "policy loaded")
    running.process.send_signal(signal.SIGINT)
    running.process.wait()
    assert running.process.returncode == 0
    said = running.log.read_text()
    assert "stopping: finishing the groups in hand; again to stop at once" in said
    assert said.index("stopping: ") < said.index(f"run {live.run_id}, in all")
    assert f"rollcall claim --orchestrator {live.url} --rpc {live.rpc_url}" in said
    assert "Traceback" not in said


def test_a_second_process_on_one_folder_is_refused_and_one_on_one_key_is_named(
    live: LiveMarket,
) -> None:
    first = start(live, "join", "twin")
    wait_for(live, first.log, "policy loaded")
    file = live.folder / "twin.toml"
    words = (*live.orchestrator.argv[:3], "join", "--config", str(file))
    key = {"ROLLCALL_KEY": "0x" + key_of("twin").hex()}
    second = subprocess.run(
        words, env={**os.environ, **key}, capture_output=True, text=True, check=False
    )
    [line] = second.stderr.splitlines()
    assert f"twin is in use by process {first.process.pid}: stop that one, or give" in line
    assert second.returncode == 1
    elsewhere = (*words, "--set", f"data_dir={live.folder / 'elsewhere'}")
    live.processes.start(Command("elsewhere", elsewhere, key))
    wait_for(live, first.log, "another program leases with this key", "nonces_elsewhere=")
