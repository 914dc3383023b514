"""The orchestrator's own watcher: it voids what lying verifiers post, and answers for what it wrote."""

from pathlib import Path

import pytest

from audit.history import History
from ledger.state import DisputeKind
from orchestrator.watch import EpochWatch
from protocol.messages import EpochStage
from tests.orchestrator.test_settling import earn
from tests.stage.books import header_of
from tests.stage.epochs import padded
from tests.stage.ground import STAKE
from tests.stage.lying import post, proposed, stake_again
from tests.stage.place import Place


def watch(place: Place, folder: Path) -> None:
    run = place.services.runs[place.run_id]
    place.call(EpochWatch(str(folder)).tick, place.services, run)


def frozen(place: Place, seconds: int = 11) -> None:
    """Drive the open epoch to where its file waits for signatures."""
    place.tick(seconds=seconds)
    place.tick()


def test_a_padded_epoch_is_voided_and_its_work_is_paid_honestly(
    place: Place, tmp_path: Path
) -> None:
    tokens = earn(place, count=2)
    frozen(place)
    post(place, padded(proposed(place, 0)), "v0")
    ledger, v0 = place.ground.by("stranger"), place.ground.address("v0")
    before = ledger.stake_of(v0)
    watch(place, tmp_path / "watch")
    state = ledger.run(place.run_id)
    assert (state.num_posted, state.generation) == (0, 1)
    assert ledger.stake_of(v0) == before - STAKE
    stake_again(place, "v0")
    for _ in range(6):
        place.tick(seconds=3)
        if place.epoch(0).stage is EpochStage.SIGNING:
            assert place.sign_epoch(0).status_code == 204
    assert ledger.run(place.run_id).finalised == tokens * place.spec.rate


@pytest.mark.parametrize("tree", [DisputeKind.WORK, DisputeKind.ACCOUNTS])
def test_a_demand_about_its_own_epoch_is_answered(
    place: Place, tmp_path: Path, tree: DisputeKind
) -> None:
    earn(place, count=2)
    frozen(place)
    file = proposed(place, 0)
    bob, deployment = place.ground.by("bob"), place.ground.deployment
    # Before the posting: each transaction takes a second of the two in which a demand can be made.
    token = bob.node.contract("TestToken", deployment.token)
    bob._send(token.functions.approve(deployment.registry, STAKE))
    assert place.sign_epoch(0).status_code == 204
    place.tick()
    bob.demand(header_of(file), tree, (0,))
    watch(place, tmp_path / "watch")
    history = History.of(bob.events().poll())
    disputes = [d for d in history.disputes.values() if d.run_id == place.run_id]
    assert [(d.is_open, d.answered) for d in disputes] == [(False, {0})]
    assert bob.run(place.run_id).generation == 0
