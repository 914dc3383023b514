"""The README's commands, run as they stand there: a market started by hand, party by party.

Only what a person would fill in is filled in: keys, ports, fewer steps, and the transformers engine in
place of vLLM (`test_demo.py` has that).
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from protocol.signing import address_of
from rollcall.embedded import free_port, redis_command
from rollcall.keys import new_key

ROOT = Path(__file__).parents[2]
PARTIES = ("OPERATOR", "TRAINER", "VERIFIER", "WORKER")
SECONDS = 90.0


def blocks() -> dict[str, str]:
    """Return the README's command blocks by the party named in their first line."""
    text = (ROOT / "README.md").read_text().split("<!-- commands:", 1)[1]
    found = re.findall(r"```bash\n# (\w+)(.*?)```", text, re.DOTALL)
    return {party: body.split("\n", 1)[1] for party, body in found}


class ByHand:
    """One shell per party, in one folder, as one person with five terminals would do it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {"8545": free_port(), "8100": free_port(), "6379": free_port()}
        self.market = f"http://127.0.0.1:{self.ports['8100']}"
        keys = {party: new_key() for party in PARTIES}
        self.worker = address_of(keys["WORKER"])
        self.environment = {
            **os.environ,
            **{party: address_of(key) for party, key in keys.items()},
            **{f"{party}_KEY": "0x" + key.hex() for party, key in keys.items()},
            "RPC": f"http://127.0.0.1:{self.ports['8545']}",
            "MARKET": self.market,
            "PATH": f"{folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
        }
        self._put_redis_on_the_path()
        (folder / "models").symlink_to(ROOT / "models")
        self._shells: list[subprocess.Popen[str]] = []

    def _put_redis_on_the_path(self) -> None:
        (self.folder / "bin").mkdir()
        binary = redis_command(self.folder / "unused", 1).argv[0]
        (self.folder / "bin" / "redis-server").symlink_to(binary)

    def start(self, party: str, commands: str) -> Path:
        """Run a block in a shell of its own, and return its log."""
        for usual, free in self.ports.items():
            commands = re.sub(rf"\b{usual}\b", str(free), commands)
        commands = commands.replace("steps=60", "steps=2 --set evaluate_every=0")
        commands = commands.replace("engine.name=vllm", "engine.name=transformers")
        log = self.folder / f"{party}.log"
        with log.open("w") as output:
            shell = subprocess.Popen(
                ["bash", "-c", commands + "\nwait"],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self._shells.append(shell)
        return log

    def stop(self) -> None:
        for shell in self._shells:
            os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()

    def logs(self) -> str:
        return "\n".join(
            f"== {log.name}\n{log.read_text()[-1500:]}" for log in self.folder.glob("*.log")
        )


@pytest.fixture
def by_hand(tmp_path: Path) -> Iterator[ByHand]:
    market = ByHand(tmp_path)
    yield market
    market.stop()


def test_the_readme_starts_a_market_that_pays(by_hand: ByHand) -> None:
    commands = blocks()
    assert list(commands) == ["chain", "operator", "trainer", "verifier", "worker"]
    by_hand.start("chain", commands["chain"])
    by_hand.start("operator", commands["operator"])
    wait_for(by_hand, "run 1 is served", lambda: bool(runs(by_hand)))
    by_hand.start("trainer", commands["trainer"])
    by_hand.start("verifier", commands["verifier"])
    work, claim = commands["worker"].split("rollcall claim")
    log = by_hand.start("worker", work)
    wait_for(by_hand, "an epoch with the worker's earnings is final", lambda: earned(by_hand) > 0)
    assert "is ready" in log.read_text()  # rollcall doctor
    assert "arithmetic" in log.read_text()  # rollcall status
    export = "export ROLLCALL_KEY=$WORKER_KEY\n"
    claimed = by_hand.start("claim", export + "rollcall claim" + claim)
    wait_for(by_hand, "the claim is paid", lambda: "run 1: paid 0.0" in claimed.read_text())
    wait_for(
        by_hand,
        "the trainer ends",
        lambda: "complete" in (by_hand.folder / "trainer.log").read_text(),
    )


def runs(by_hand: ByHand) -> list[object]:
    try:
        found: list[object] = httpx.get(f"{by_hand.market}/v1/runs").json()["runs"]
    except (httpx.HTTPError, ValueError):
        return []
    return found


def earned(by_hand: ByHand) -> int:
    standing = httpx.get(f"{by_hand.market}/v1/workers/{by_hand.worker}").json()["runs"]
    return int(standing[0]["earned"]) if standing else 0


def wait_for(by_hand: ByHand, what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"not seen: {what}\n{by_hand.logs()}"
        time.sleep(0.3)
