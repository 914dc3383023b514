"""What a verifier does with an epoch that it will not sign now."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from audit.chain_facts import domain_of
from client.counters import Counters
from client.public import BlobMismatch
from protocol.canonical import content_digest
from protocol.errors import Busy
from protocol.messages import EpochInfo, EpochStage
from rollout_worker.verify.epochs import FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, EpochSigner
from tests.audit.test_watch import Stage, staged, work
from tests.stage.books import NUM_PARAMETERS, header_of
from tests.stage.world import World


@dataclass
class Desk:
    """A signer on a real chain, with the one file that a market shows it, and a clock in hand."""

    stage: Stage
    counters: Counters
    lag: int = 0
    failure: Exception | None = None
    now: float = 0.0
    num_looks: int = 0
    signed: list[bytes] = field(default_factory=list)

    def signer(self) -> EpochSigner:
        ledger = self.stage.world.by("v0")
        file = self.stage.file(*work(self.stage))
        self._data = file.canonical()
        domain = domain_of(ledger)
        shown = EpochInfo(
            run_id=self.stage.world.run_id,
            epoch=0,
            stage=EpochStage.SIGNING,
            file=content_digest(self._data),
            header_digest=domain.digest(header_of(file)),
            signers=(),
        )
        routes: Any = SimpleNamespace(
            address="",
            epoch=lambda *_, **__: shown,
            blob=self._blob,
            sign_epoch=lambda _run, _epoch, signature, **_: self.signed.append(signature),
        )
        verifier: Any = SimpleNamespace(
            config=SimpleNamespace(status_checks_per_epoch=0),
            key=bytes(self.stage.world.people["v0"].key),
            identity=self.stage.world.address("v0"),
            domain=domain,
            routes=routes,
            wallet=SimpleNamespace(ledger=Lagging(ledger, self)),
            counters=self.counters,
            stop=threading.Event(),
        )
        spec = SimpleNamespace(gflops=lambda tokens: -(-2 * NUM_PARAMETERS * tokens // 10**9))
        info: Any = SimpleNamespace(run_id=self.stage.world.run_id, spec=spec)
        book: Any = SimpleNamespace(get=lambda _digest: None)
        return EpochSigner(verifier, info, book, clock=lambda: self.now)

    def _blob(self, *_: Any, **__: Any) -> bytes:
        self.num_looks += 1
        if self.failure is not None:
            raise self.failure
        return self._data


class Lagging:
    """A ledger whose node is `desk.lag` seconds behind."""

    def __init__(self, ledger: Any, desk: Desk) -> None:
        self._ledger, self._desk = ledger, desk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def block_time(self) -> int:
        return int(self._ledger.block_time()) - self._desk.lag


@pytest.fixture(scope="module")
def deployed() -> World:
    return World.build()


@pytest.fixture
def desk(deployed: World, tmp_path: Path) -> Iterator[Desk]:
    with deployed.undone():
        stage = staged(deployed, tmp_path)
        deployed.open()
        yield Desk(stage, Counters(tmp_path, "verifier"))


def test_a_verifier_that_was_behind_signs_once_it_has_caught_up(desk: Desk) -> None:
    signer = desk.signer()
    desk.lag = 10_000
    signer.step()
    assert not desk.signed
    desk.lag = 0
    signer.step()
    assert not desk.signed, "not looked at again at once"
    desk.now += FIRST_WAIT_SECONDS
    signer.step()
    assert len(desk.signed) == 1


@pytest.mark.parametrize("failure", [Busy("no", retry_after_seconds=1.0), BlobMismatch("other")])
def test_a_file_that_could_not_be_had_is_asked_for_again(desk: Desk, failure: Exception) -> None:
    signer = desk.signer()
    desk.failure = failure
    signer.step()
    desk.failure, desk.now = None, FIRST_WAIT_SECONDS
    signer.step()
    assert len(desk.signed) == 1


def test_a_file_that_stays_refused_is_looked_at_ever_less_often_and_told_once(desk: Desk) -> None:
    signer = desk.signer()
    desk.lag = 10_000
    for _ in range(600):
        signer.step()
        desk.now += 1.0
    assert not desk.signed
    assert desk.num_looks <= 5 + 600 / LONGEST_WAIT_SECONDS
    assert desk.counters.snapshot()["epochs_refused"] == 1
