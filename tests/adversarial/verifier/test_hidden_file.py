"""An orchestrator hides an epoch's file once verifiers have signed it, and a friend demands its leaves.

What nobody opens counts as withheld, and every signer's stake is taken; the friend has the finder's part.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.epoch import read_file
from ledger.state import DisputeKind, DisputeStatus
from protocol.canonical import keccak256
from protocol.epoch import EpochHeader
from protocol.user_error import UserError
from rollout_worker.verify.epochs import EpochSigner
from rollout_worker.verify.kept import KeptFiles, answering
from tests.orchestrator.test_settling import earn
from tests.stage.ground import STAKE, TERMS, Ground
from tests.stage.place import Place, opened
from tests.stage.signer import at_the_runs_time, signer_of
from tests.stage.waiting import wait_until

__all__ = ["at_the_runs_time"]


@pytest.fixture
def place(ground: Ground, redis_url: str, tmp_path: Path) -> Iterator[Place]:
    """A run whose epochs can be disputed for a minute."""
    with opened(ground, redis_url, tmp_path / "blobs", params={"challenge_window": 60}) as place:
        yield place


def signed(place: Place, folder: Path) -> tuple[EpochSigner, EpochHeader]:
    """Have an honest verifier sign an honest epoch; once it is posted, hide its file from everybody."""
    earn(place, count=2)
    place.tick(seconds=11)
    place.tick()
    signer = signer_of(place, folder)
    signer.step()
    place.tick()
    file = place.epoch(0).file
    data = place.get(f"/v1/blobs/0x{file.hex()}").content
    place.call(place.services.blobs.remove, file)
    assert place.get(f"/v1/blobs/0x{file.hex()}").status_code == 404
    return signer, read_file(data).header(keccak256(data))


def demand(place: Place, header: EpochHeader) -> bytes:
    stranger = place.ground.by("stranger")
    stranger.mint(place.ground.address("stranger"), STAKE)
    return stranger.demand(header, DisputeKind.WORK, (0, 1))


def test_a_signer_that_has_no_file_loses_its_stake(place: Place, tmp_path: Path) -> None:
    """The defence off: the verifier keeps nothing, as if its program left files to the orchestrator."""
    verifier, stranger = place.ground.by("v0"), place.ground.by("stranger")
    before = verifier.stake_of(place.ground.address("v0"))
    _, header = signed(place, tmp_path)
    dispute = demand(place, header)
    place.wait(TERMS.response_seconds + 1)
    stranger.expire(dispute)
    assert before - verifier.stake_of(place.ground.address("v0")) == STAKE
    verifier.stake(STAKE)


def test_a_verifier_opens_the_leaves_that_it_signed(place: Place, tmp_path: Path) -> None:
    before = place.ground.by("v0").stake_of(place.ground.address("v0"))
    signer, header = signed(place, tmp_path)
    dispute = demand(place, header)
    signer._verifier.kept.step()
    assert place.ground.by("stranger").dispute(dispute).status is DisputeStatus.ANSWERED
    assert place.ground.by("v0").stake_of(place.ground.address("v0")) == before
    place.wait(61)
    place.ground.by("stranger").advance(place.run_id)
    signer._verifier.kept.step()
    assert not list((tmp_path / "signed").glob("*.epoch")), (
        "nothing can be demanded of what is final"
    )


def test_it_answers_after_a_restart_though_the_market_is_gone(place: Place, tmp_path: Path) -> None:
    _, header = signed(place, tmp_path)
    dispute = demand(place, header)
    ledger = place.ground.by("v0")
    kept = KeptFiles(ledger, tmp_path / "signed", address=place.ground.address("v0"))
    with pytest.raises(UserError), answering(kept, seconds=60):
        raise UserError("what answers at the market's address is no orchestrator")
    assert ledger.dispute(dispute).status is DisputeStatus.ANSWERED


def test_whatever_is_raised_is_tried_again() -> None:
    tries: list[int] = []

    class Failing(KeptFiles):
        def __init__(self) -> None: ...

        def step(self) -> None:
            tries.append(1)
            raise RuntimeError("a library's")

    with answering(Failing(), seconds=0.01):
        wait_until(lambda: len(tries) > 1)
