"""An orchestrator and its worker have honest verifiers sign work that an earlier epoch paid, and then prove it.

A payload names its lease, so the worker signs one payload under a second nonce: not drawn, it is looked at by
nobody before the epoch is signed. Whoever shows both leaves takes the stake of everybody who signed.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from audit.epoch import read_file
from audit.published import Published
from orchestrator import epochs
from orchestrator.rules.settle import OpenEpoch
from protocol.canonical import keccak256
from protocol.epoch import EpochHeader
from protocol.messages import Account, Contribution
from protocol.rollout import Work
from protocol.run import AuditPolicy
from rollout_worker.verify.draws import DrawCheck
from tests.stage.ground import STAKE, Ground
from tests.stage.place import Place, opened
from tests.stage.signer import at_the_runs_time, signer_of

__all__ = ["at_the_runs_time"]

EPOCH_SECONDS = 1_000
"""So long that work of its beginning cannot have been drawn by the next secret."""


@pytest.fixture
def place(ground: Ground, redis_url: str, tmp_path: Path) -> Iterator[Place]:
    """A run that draws next to nothing of its workers."""
    undrawn = AuditPolicy(num_probation_groups=0, rate_millionths=1)
    more: dict[str, Any] = {"audit": undrawn, "epoch_seconds": EPOCH_SECONDS}
    terms = {"challenge_window": 60}
    with opened(ground, redis_url, tmp_path / "blobs", params=terms, **more) as place:
        yield place


def sell(place: Place) -> None:
    [signed] = place.party("alice").leases()
    place.party("alice").deliver(signed.lease)


def propose(place: Place) -> None:
    """Let the newest epoch end and its header be written."""
    place.tick(seconds=EPOCH_SECONDS + 1)
    place.tick()


def repeats(place: Place, payload_digest: bytes) -> pytest.MonkeyPatch:
    """Have the orchestrator write its epochs with that payload in each group, as its worker signs it."""
    lying, real = pytest.MonkeyPatch(), epochs._written

    def again(item: Contribution) -> Contribution:
        told = item.model_copy(update={"payload_digest": payload_digest})
        work = Work(run_id=place.run_id, **told.model_dump(exclude={"units", "signature"}))
        signature = place.party("alice").sign(place.services.chain.domain.digest(work))
        return told.model_copy(update={"signature": signature})

    def written(
        opened: OpenEpoch, work: Iterable[Contribution], accounts: Iterable[Account]
    ) -> tuple[bytes, EpochHeader]:
        return real(opened, [again(item) for item in work], accounts)

    lying.setattr(epochs, "_written", written)
    return lying


def test_no_verifier_signs_what_an_earlier_epoch_paid(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sell(place)
    propose(place)
    signer_of(place, tmp_path).step()
    assert place.epoch(0).signers == (place.ground.address("v0"),), "honest work is signed"
    place.tick()
    first = read(place, 0)
    place.tick(seconds=61)
    sell(place)
    lying = repeats(place, first.work[0].payload_digest)
    propose(place)
    lying.undo()

    signer = signer_of(place, tmp_path)
    signer.step()
    [refused] = signer._refused.values()
    assert refused.reason.endswith("has the payload of work that epoch 0 paid")
    assert not place.epoch(1).signers

    monkeypatch.setattr(DrawCheck, "_require_new", lambda *_: None)
    signer_of(place, tmp_path).step()
    place.tick()
    second, ledger = read(place, 1), place.ground.by("stranger")
    before = ledger.stake_of(place.ground.address("v0"))
    headers = [file.header(keccak256(file.file.canonical())) for file in (first, second)]
    leaves = [file.under(at).work_at(0) for file, at in zip((first, second), headers, strict=True)]
    ledger.prove_duplicate(headers[1], leaves[1], headers[0], leaves[0])
    lost = before - ledger.stake_of(place.ground.address("v0"))
    place.ground.by("v0").stake(lost)
    assert lost == STAKE, "with the defence off"


def read(place: Place, epoch: int) -> Published:
    """Return an epoch's file."""
    return read_file(place.get(f"/v1/blobs/0x{place.epoch(epoch).file.hex()}").content)
