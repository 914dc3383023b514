"""What a verifier does with an epoch that it will not sign now."""

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from client.counters import Counters
from client.public import BlobMismatch
from client.verifier import VerifierRoutes
from ledger.state import EpochState
from protocol.epoch import header_of
from protocol.errors import Busy
from protocol.messages import EpochFile, EpochInfo
from rollout_worker.verify.epochs import FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, EpochSigner
from tests.orchestrator.test_settling import earn, final
from tests.stage.place import Place
from tests.stage.signer import at_the_runs_time, signer_of

__all__ = ["at_the_runs_time"]


@dataclass
class Desk:
    """A signer with one epoch to sign, a node that may lag, and a clock in hand."""

    place: Place
    counters: Counters
    folder: Path
    lag: int = 0
    now: float = 0.0
    signer: EpochSigner = field(init=False)

    def __post_init__(self) -> None:
        earn(self.place)
        self.place.tick(seconds=11)
        self.place.tick()
        self.signer = signer_of(
            self.place,
            self.folder,
            ledger=Lagging(self.place.ground.by("v0"), self),
            counters=self.counters,
            clock=lambda: self.now,
        )

    @property
    def has_signed(self) -> bool:
        return bool(self.place.epoch(0).signers)


class Lagging:
    """A ledger whose node is `desk.lag` seconds behind."""

    def __init__(self, ledger: Any, desk: Desk) -> None:
        self._ledger, self._desk = ledger, desk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def block_time(self) -> int:
        return int(self._ledger.block_time()) - self._desk.lag


@pytest.fixture
def desk(place: Place, tmp_path: Path) -> Desk:
    return Desk(place, Counters(tmp_path, "verifier"), tmp_path)


def test_a_verifier_that_was_behind_signs_once_it_has_caught_up(desk: Desk) -> None:
    desk.lag = 10_000
    desk.signer.step()
    assert not desk.has_signed
    desk.lag = 0
    desk.signer.step()
    assert not desk.has_signed, "not looked at again at once"
    desk.now += FIRST_WAIT_SECONDS
    desk.signer.step()
    assert desk.has_signed


@pytest.mark.parametrize("failure", [Busy("no", retry_after_seconds=1.0), BlobMismatch("other")])
def test_a_file_that_could_not_be_had_is_asked_for_again(
    desk: Desk, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as cut:

        def fail(*_: Any, **__: Any) -> bytes:
            raise failure

        cut.setattr(VerifierRoutes, "blob", fail)
        desk.signer.step()
    assert not desk.has_signed
    desk.now = FIRST_WAIT_SECONDS
    desk.signer.step()
    assert desk.has_signed


def test_a_file_that_stays_refused_is_looked_at_ever_less_often_and_told_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[object] = []
    real = EpochSigner._check_epoch

    def look(*arguments: Any) -> bytes:
        looks.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(EpochSigner, "_check_epoch", look)
    desk.lag = 10_000
    seconds = 4 * LONGEST_WAIT_SECONDS
    while desk.now < seconds:
        desk.signer.step()
        desk.now += 1.0
    assert not desk.has_signed
    assert len(looks) <= 5 + seconds / LONGEST_WAIT_SECONDS
    assert desk.counters.snapshot()["epochs_refused"] == 1


def test_amounts_that_no_leaf_holds_are_refused_and_end_no_verifier(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = VerifierRoutes.blob

    def large(*arguments: Any, **how: Any) -> bytes:
        file = EpochFile.from_canonical(real(*arguments, **how))
        [item] = file.contributions
        items = (item.model_copy(update={"tokens": (1 << 64) - 1}), item)
        return file.model_copy(update={"contributions": items}).canonical()

    monkeypatch.setattr(VerifierRoutes, "blob", large)
    desk.signer.step()
    assert not desk.has_signed
    assert desk.counters.snapshot()["epochs_refused"] == 1


def test_an_epoch_that_the_chain_takes_back_counts_for_nothing(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a re-organisation another epoch stands in its place, of the same generation."""
    earn(place, "alice", 2)
    final(place, 0)
    earn(place, "bob")
    other = final(place, 1).model_copy(update={"epoch": 0})
    data, ledger = other.canonical(), place.ground.by("v0")
    header_hash, told = header_of(other, data).struct_hash(), place.epoch(0)
    info = told.model_copy(update={"file": place.upload(data).digest})
    asked: list[int] = []

    class Node:
        """A node whose blocks change; it says what it was asked."""

        has_another = False

        def epoch(self, run_id: int, epoch: int) -> EpochState:
            asked.append(epoch)
            found = ledger.epoch(run_id, epoch)
            return replace(found, header_hash=header_hash) if self.has_another else found

    def shown(*_: Any, **__: Any) -> EpochInfo:
        return info if node.has_another else told

    node = Node()
    monkeypatch.setattr(VerifierRoutes, "epoch", shown)
    draws = signer_of(place, tmp_path, ledger=node)._draws
    posted = replace(ledger.run(place.run_id), num_final=0)
    alice, bob = place.ground.address("alice"), place.ground.address("bob")
    assert [epoch.num_groups for epoch in draws._before(1, posted)] == [Counter({alice: 2})]
    node.has_another = True
    [found] = draws._before(1, posted)
    assert (found.num_groups, found.secret) == (Counter({bob: 1}), other.secret)
    assert draws._before(0, posted) == [], "what comes after an epoch does not count for it"
    asked.clear()
    for _ in range(3):
        draws._before(1, replace(posted, num_final=1))
    assert asked == [0], "what stays final is looked at once"
