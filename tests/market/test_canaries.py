"""Three verifiers with a real model, one of which replays nothing, and a worker that makes false groups.

The two that replay find every false group; the lazy one fails two, loses its vote and then its stake, by
signatures that each of the others gave after a replay of its own.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from client.public import Reader
from protocol.messages import CanaryInfos, VerifierInfo
from protocol.signing import address_of
from rollcall.demo.processes import Command
from rollcall.frame.settings import to_toml
from rollout_worker.config import VerifierConfig, WorkerConfig
from tests.stage.light import verifying
from tests.stage.live import MODEL, STAKE, LiveMarket, key_of, live_market
from tests.stage.waiting import wait_until

HONEST, LAZY, FALSE, WORKER = ("v1", "v2"), "v0", ("false", "false2"), "worker"


def address(name: str) -> str:
    return address_of(key_of(name))


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveMarket]:
    verifiers = tuple(sorted(map(address, (LAZY, *HONEST)), key=str.lower))
    with live_market(
        tmp_path,
        workers=(WORKER, *FALSE, *HONEST),
        verifier=LAZY,
        orchestrator_settings={"canaries.share": 0.4, "canaries.false": [*map(address, FALSE)]},
        plan={"thresholds": MODEL / "thresholds.json"},
        verifiers=verifiers,
        threshold=2,
    ) as market:
        yield market


def start(live: LiveMarket, name: str, *, verifies: bool, seed_shift: int = 0) -> None:
    """Start a worker's or a verifier's program; the market ends it."""
    if verifies:
        config: WorkerConfig | VerifierConfig = live.verifier(name)
    else:
        engine = {"name": "transformers", "seed_shift": seed_shift}
        config = live.worker(name, engine=engine, prove_omissions=False)
    path = live.folder / f"{name}.toml"
    path.write_text(to_toml(config))
    role = "verify" if verifies else "join"
    argv = (sys.executable, "-m", "rollcall", role, "--config", str(path))
    live.processes.start(Command(name, argv, {"ROLLCALL_KEY": "0x" + key_of(name).hex()}))


def found(live: LiveMarket, name: str) -> VerifierInfo:
    infos = Reader(live.url).verifiers(live.run_id)
    return next(info for info in infos if info.verifier == address(name))


@pytest.mark.slow
def test_a_lazy_verifier_loses_its_vote_and_its_stake_to_real_replays(live: LiveMarket) -> None:
    with verifying(live, LAZY):
        ledger = live.ledger(LAZY)
        ledger.join_run(live.run_id)
        for name in HONEST:
            start(live, name, verifies=True)
        start(live, WORKER, verifies=False)
        wait_until(lambda: found(live, LAZY).num_accepted >= 4)
        assert found(live, LAZY).has_vote, "right as often as who replays, while all work is honest"
        for name in FALSE:
            start(live, name, verifies=False, seed_shift=1)
        wait_until(lambda: not found(live, LAZY).has_vote)
        wait_until(lambda: ledger.stake_of(address(LAZY)) == 0)
        for name in HONEST:
            assert found(live, name).has_vote
            assert found(live, name).canaries_failed == 0
            assert live.ledger(name).stake_of(address(name)) == STAKE
        for name in FALSE:
            assert live.ledger(name).stake_of(address(name)) == STAKE, (
                "no canary is held against it"
            )
        shown = httpx.get(f"{live.url}/v1/runs/{live.run_id}/canaries").content
    openings = [i for i in CanaryInfos.from_json(shown).canaries if i.opening is not None]
    assert openings
    assert all(i.opening.commitment(live.run_id) == i.commitment for i in openings if i.opening)
