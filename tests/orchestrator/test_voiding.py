"""Settlement after an epoch was voided, retracted or replaced: the same work again, paid once."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ledger.errors import ContractError
from orchestrator.chain import Chain
from orchestrator.store.queue import Queue
from protocol.errors import NotFound
from protocol.messages import EpochFile, EpochStage
from protocol.verdict import Outcome
from tests.stage.epochs import PADDING, padded, without
from tests.stage.ground import STAKE, Ground
from tests.stage.lying import post, proposed, prove_first_leaf_false, retract, stake_again
from tests.stage.place import Place, opened

LIARS = ("v0", "v1")
ALL = ("v0", "v1", "v2")


@pytest.fixture
def disputed(ground: Ground, redis_url: str, tmp_path: Path) -> Iterator[Place]:
    """A run with three verifiers of which two suffice, and time to dispute an epoch."""
    params = {"challenge_window": 30}
    with opened(ground, redis_url, tmp_path, num_verifiers=3, threshold=2, params=params) as place:
        try:
            yield place
        finally:
            stake_again(place, *ALL)


def earn(place: Place, worker: str, count: int = 1) -> int:
    """Have groups accepted by two verifiers; return their tokens."""
    party, tokens = place.party(worker), 0
    for signed in party.leases(count):
        receipt = party.deliver(signed.lease)
        for verifier in LIARS:
            place.party(verifier).decide(receipt.work_digest, Outcome.ACCEPTED)
        tokens += sum(len(r.tokens) // 4 for r in place.rollouts(signed.lease))
    return tokens


def freeze(place: Place, epoch: int) -> None:
    for _ in range(4):
        place.tick(seconds=11 if place.epoch(epoch).stage is EpochStage.OPEN else 0)
    assert place.epoch(epoch).stage is EpochStage.SIGNING


def settle(place: Place, epoch: int, signers: tuple[str, ...] = LIARS) -> None:
    """Have an epoch posted."""
    freeze(place, epoch)
    for signer in signers:
        assert place.sign_epoch(epoch, signer).status_code == 204
    place.tick()
    assert place.epoch(epoch).stage is EpochStage.POSTED


def finish(place: Place, *, signers: tuple[str, ...] = ALL) -> None:
    """Let honest verifiers sign whatever is proposed until all work is in final epochs."""
    for _ in range(16):
        place.tick(seconds=12)
        if not any(unsettled(place).values()):
            break
        epoch = place.ground.by("stranger").run(place.run_id).num_posted
        if place.epoch(epoch).stage is EpochStage.SIGNING:
            for signer in signers:
                place.sign_epoch(epoch, signer)


def paid(place: Place, worker: str) -> int:
    """Return the units of final epochs that a worker may claim, by the last file."""
    run = place.ground.by("stranger").run(place.run_id)
    file = proposed(place, run.num_final - 1)
    earned = {account.worker: account.earned for account in file.accounts}
    return earned.get(place.ground.address(worker), 0)


def unsettled(place: Place) -> dict[str, int]:
    names = ("unsettled", "posted")
    key = f"rollcall:{{{place.run_id}}}:state"
    values = place.call(place.services.store.queue.call, "HMGET", key, *names)
    return dict(zip(names, (int(value or 0) for value in values), strict=True))


def test_two_retracted_epochs_are_settled_again_and_paid_once(disputed: Place) -> None:
    place = disputed
    alice = earn(place, "alice", 2)
    settle(place, 0)
    alice += earn(place, "alice")
    bob = earn(place, "bob")
    settle(place, 1)
    assert unsettled(place) == {"unsettled": 0, "posted": alice + bob}
    retract(place, 0, *LIARS)
    place.tick()
    assert unsettled(place) == {"unsettled": alice + bob, "posted": 0}
    finish(place)
    run = place.ground.by("stranger").run(place.run_id)
    assert run.generation == 1
    assert run.finalised == (alice + bob) * place.spec.rate == run.committed
    assert (paid(place, "alice"), paid(place, "bob")) == (alice, bob)
    assert unsettled(place) == {"unsettled": 0, "posted": 0}


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("lost", ["restore_epoch", "freeze_epoch", "settle_epoch", "credit_epoch"])
def test_a_crash_at_any_step_after_a_void_pays_once(
    disputed: Place, lost: str, is_done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = disputed
    units = earn(place, "alice", 2)
    settle(place, 0)
    units += earn(place, "alice")
    settle(place, 1)
    retract(place, 0, *LIARS)
    real, crashes = Queue.script, [0]

    async def lost_twice(queue: Queue, name: str, *arguments: object, **also: object) -> object:
        if name != lost or crashes[0] == 2:
            return await real(queue, name, *arguments, **also)  # type: ignore[arg-type]
        crashes[0] += 1
        if is_done:
            await real(queue, name, *arguments, **also)  # type: ignore[arg-type]
        raise ConnectionAbortedError(name)

    monkeypatch.setattr(Queue, "script", lost_twice)
    for _ in range(8):
        try:
            finish(place)
        except ConnectionAbortedError:
            continue
        break
    assert crashes == [2]
    run = place.ground.by("stranger").run(place.run_id)
    assert run.finalised == units * place.spec.rate == run.committed
    assert paid(place, "alice") == units
    assert unsettled(place) == {"unsettled": 0, "posted": 0}


def test_a_padded_epoch_is_not_taken_for_ours_and_ours_is_paid_when_it_is_voided(
    disputed: Place,
) -> None:
    place, ledger = disputed, disputed.ground.by("stranger")
    alice, bob = earn(place, "alice", 2), earn(place, "bob")
    freeze(place, 0)
    false = padded(proposed(place, 0))
    post(place, false, *LIARS)
    for _ in range(3):
        place.tick(seconds=2)
    assert unsettled(place) == {"unsettled": alice + bob, "posted": 0}
    assert place.epoch(0).stage is EpochStage.OPEN, "the padded header is nobody's to sign on"
    before = [ledger.stake_of(place.ground.address(name)) for name in ALL]
    prove_first_leaf_false(place, false)
    after = [ledger.stake_of(place.ground.address(name)) for name in ALL]
    assert [x - y for x, y in zip(before, after, strict=True)] == [STAKE, STAKE, 0]
    finish(place)
    assert (paid(place, "alice"), paid(place, "bob")) == (alice, bob)
    assert ledger.run(place.run_id).finalised == (alice + bob) * place.spec.rate


def test_work_that_others_post_in_the_middle_of_a_round_is_not_proposed_again(
    disputed: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = disputed
    alice = earn(place, "alice", 2)
    freeze(place, 0)
    ours, real = proposed(place, 0), Chain.open_epoch

    async def posted_meanwhile(chain: Chain, run_id: int, secret_hash: bytes) -> int:
        monkeypatch.setattr(Chain, "open_epoch", real)
        post(place, ours, *LIARS, publish=False)
        return await chain.open_epoch(run_id, secret_hash)

    bob = earn(place, "bob")
    monkeypatch.setattr(Chain, "open_epoch", posted_meanwhile)
    place.tick(seconds=11)
    assert (
        Chain.open_epoch is real and place.ground.by("stranger").run(place.run_id).num_posted == 1
    )
    assert unsettled(place) == {"unsettled": alice + bob, "posted": 0}, "not marked before a round"
    assert place.epoch(1).stage is EpochStage.OPEN
    place.tick()
    assert [item.worker for item in proposed(place, 1).contributions] == [
        place.party("bob").address
    ]
    finish(place)
    assert (paid(place, "alice"), paid(place, "bob")) == (alice, bob)


def test_settlement_goes_on_from_a_strange_epoch_that_nobody_disputed(disputed: Place) -> None:
    """Two verifiers leave bob out. That is no fault of the header: what stands is built upon."""
    place = disputed
    alice, bob = earn(place, "alice", 2), earn(place, "bob")
    freeze(place, 0)
    post(place, without(proposed(place, 0), place.ground.address("bob")), *LIARS)
    place.tick(seconds=2)
    assert unsettled(place) == {"unsettled": alice + bob, "posted": 0}
    place.tick(seconds=31)
    place.tick()
    assert unsettled(place) == {"unsettled": bob, "posted": 0}
    alice += earn(place, "alice")
    finish(place)
    assert (paid(place, "alice"), paid(place, "bob")) == (alice, bob)
    run = place.ground.by("stranger").run(place.run_id)
    assert run.finalised == (alice + bob) * place.spec.rate


def test_a_padded_epoch_that_nobody_disputed_pays_its_padding_once(disputed: Place) -> None:
    """With no watcher the lie becomes money; the honest work in it is not paid a second time."""
    place = disputed
    alice = earn(place, "alice", 2)
    freeze(place, 0)
    post(place, padded(proposed(place, 0)), *LIARS)
    place.tick(seconds=32)
    place.tick()
    later = earn(place, "alice")
    finish(place)
    assert paid(place, "alice") == alice + PADDING + later


def test_a_strange_epoch_whose_file_is_withheld_stops_leasing_once_it_is_final(
    disputed: Place,
) -> None:
    place = disputed
    earn(place, "alice", 2)
    freeze(place, 0)
    file = padded(proposed(place, 0))
    post(place, file, *LIARS, publish=False)
    place.tick(seconds=2)
    assert place.party("bob").lease().status_code == 200
    with pytest.raises(NotFound, match="not ours"):
        place.tick(seconds=32)
    assert "cannot settle" in place.party("alice").lease().json()["message"]
    data = file.canonical()
    place.upload(data)
    place.tick()
    assert place.party("alice").lease().status_code == 200
    assert EpochFile.from_canonical(data) == proposed(place, 0)


def test_no_lease_is_drawn_from_a_secret_that_was_in_a_file(disputed: Place) -> None:
    """A posted and voided epoch's seeds and tasks are known to all: a worker would know its own."""
    place = disputed
    earn(place, "alice")
    freeze(place, 0)
    run = place.services.runs[place.run_id]
    assert run.num_revealed == 1
    assert place.party("bob").leases()[0].lease.epoch == 1
    settle(place, 0)
    earn(place, "alice")
    settle(place, 1)
    retract(place, 0, *LIARS)
    place.tick()
    assert place.party("bob").leases()[0].lease.epoch == 2


def test_an_epoch_lost_to_a_reorganisation_is_posted_again_as_it_was(disputed: Place) -> None:
    place, ledger = disputed, disputed.ground.by("stranger")
    units = earn(place, "alice", 2)
    freeze(place, 0)
    height = place.ground.w3.eth.block_number
    settle(place, 0)
    header_hash = ledger.epoch(place.run_id, 0).header_hash
    place.ground.chain.rewind(height)
    assert ledger.run(place.run_id).num_posted == 0
    with suppress(ContractError):
        place.tick()  # the sender may have had the lost transaction mined again by itself
    place.tick()
    assert (ledger.run(place.run_id).num_posted, ledger.run(place.run_id).generation) == (1, 0)
    assert ledger.epoch(place.run_id, 0).header_hash == header_hash
    assert unsettled(place) == {"unsettled": 0, "posted": units}
