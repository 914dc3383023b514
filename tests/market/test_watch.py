"""`rollcall watch` as a process of its own: it has two addresses and a key with gas, and needs no more."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from audit.history import Fate, History
from tests.orchestrator.test_settling import earn
from tests.stage.epochs import padded
from tests.stage.front import serving
from tests.stage.ground import STAKE
from tests.stage.lying import post, proposed, stake_again
from tests.stage.place import Place
from tests.stage.waiting import require_alive, started, wait_until


@contextmanager
def watch(
    place: Place, url: str, rpc: str, folder: Path, *options: str
) -> "Iterator[subprocess.Popen[str]]":
    place.ground.deployment.save(folder / "deployment.json")
    key = bytes(place.ground.people["stranger"].key).hex()
    words = [
        *(sys.executable, "-m", "rollcall", "watch", url, "--rpc", rpc),
        *("--deployment", str(folder / "deployment.json"), "--state", str(folder / "watch")),
        *("--run", str(place.run_id), *options),
    ]
    environment = {**os.environ, "ROLLCALL_KEY": f"0x{key}"}
    log = folder / "said.txt"
    with (
        log.open("w") as said,
        started(words, env=environment, stdout=said, stderr=said) as process,
    ):
        yield process


def fate(place: Place) -> Fate:
    history = History.of(place.ground.by("alice").events().poll())
    mine = [p for p in history.postings.values() if p.run_id == place.run_id]
    return mine[-1].fate


def lie(place: Place) -> None:
    earn(place, count=2)
    place.tick(seconds=11)
    place.tick()
    post(place, padded(proposed(place, 0)), "v0")


def test_a_padded_epoch_is_voided_by_the_process_and_its_signer_slashed(
    place: Place, tmp_path: Path
) -> None:
    lie(place)
    ledger, v0 = place.ground.by("alice"), place.ground.address("v0")
    before = ledger.stake_of(v0)
    with serving(place) as (front, chain), watch(place, front.url, chain.url, tmp_path) as process:
        alive = partial(require_alive, process, tmp_path / "said.txt")
        wait_until(lambda: fate(place) is Fate.VOIDED, check=alive)
        process.send_signal(signal.SIGTERM)
        process.wait()
    said = (tmp_path / "said.txt").read_text()
    assert process.returncode == 0, said
    assert "proof sent" in said
    assert ledger.stake_of(v0) == before - STAKE
    bounty = ledger.stake_credit(place.ground.address("stranger"))
    assert bounty >= STAKE // 4
    stake_again(place, "v0")


def test_one_dry_round_tells_the_call_and_sends_nothing(place: Place, tmp_path: Path) -> None:
    lie(place)
    once = ("--once", "--dry-run")
    with (
        serving(place) as (front, chain),
        watch(place, front.url, chain.url, tmp_path, *once) as process,
    ):
        process.wait()
    said = (tmp_path / "said.txt").read_text()
    assert process.returncode == 0, said
    assert "would send proof" in said
    assert "prove_bad_leaf" in said
    assert fate(place) is Fate.PENDING
