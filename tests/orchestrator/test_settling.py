"""Settlement on the real ledger, interrupted wherever it can be."""

import pytest

from orchestrator import epochs
from orchestrator.chain import Chain
from orchestrator.store.keys import run_prefix
from orchestrator.store.queue import Queue
from protocol.epoch import AccountLeaf, account_tree
from protocol.messages import EpochFile, EpochStage
from protocol.verdict import Outcome
from tests.stage.evidence import NAMED
from tests.stage.place import Place


def earn(place: Place, worker: str = "alice", count: int = 1) -> int:
    """Have groups accepted; returns their tokens."""
    party, tokens = place.party(worker), 0
    for signed in party.leases(count):
        receipt = party.deliver(signed.lease)
        assert place.party("v0").decide(receipt.work_digest, Outcome.ACCEPTED) == "accepted"
        tokens += sum(len(r.tokens) // 4 for r in place.rollouts(signed.lease))
    return tokens


def final(place: Place, epoch: int) -> EpochFile:
    """Drive an epoch to its end and return its file."""
    place.tick(seconds=11)
    place.tick()
    assert place.sign_epoch(epoch).status_code == 204
    place.tick()
    place.tick(seconds=3)
    info = place.epoch(epoch)
    assert info.stage is EpochStage.FINAL
    return EpochFile.from_canonical(place.get(f"/v1/blobs/0x{info.file.hex()}").content)


def test_two_epochs_add_up_and_the_worker_is_paid_exactly(place: Place) -> None:
    first = earn(place, count=2)
    final(place, 0)
    second = earn(place, count=2)
    file = final(place, 1)
    assert [item.nonce for item in file.contributions] == [3, 4]
    accounts = [AccountLeaf(a.worker, a.earned, a.last_nonce) for a in file.accounts]
    assert accounts == [AccountLeaf(place.ground.address("alice"), first + second, 4)]
    ledger = place.ground.by("stranger")
    proof = account_tree(accounts).proof(0)
    paid = ledger.claim(place.run_id, 1, accounts[0], 0, proof)
    assert paid == (first + second) * place.spec.rate


def test_work_behind_an_undecided_nonce_waits_for_the_next_epoch(place: Place) -> None:
    alice, verifier = place.party("alice"), place.party("v0")
    first, second, third = (alice.deliver(s.lease) for s in alice.leases(3))
    for receipt in (first, third):
        verifier.decide(receipt.work_digest, Outcome.ACCEPTED)
    assert [item.nonce for item in final(place, 0).contributions] == [1]
    verifier.decide(second.work_digest, Outcome.ACCEPTED)
    assert [item.nonce for item in final(place, 1).contributions] == [2, 3]


def test_an_epoch_without_work_stays_open(place: Place) -> None:
    for _ in range(3):
        place.tick(seconds=60)
    assert place.ground.by("v0").run(place.run_id).num_opened == 1
    assert place.epoch(0).stage is EpochStage.OPEN


@pytest.mark.parametrize("lost", ["post_epoch", "advance", "open_epoch"])
def test_a_crash_after_any_chain_write_pays_once(
    place: Place, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = earn(place, count=2)
    real = getattr(Chain, lost)

    async def sent_and_lost(chain: Chain, *arguments: object) -> None:
        await real(chain, *arguments)
        raise ConnectionAbortedError(lost)

    monkeypatch.setattr(Chain, lost, sent_and_lost)
    crashes = 0
    for _ in range(8):
        try:
            place.tick(seconds=6)
        except ConnectionAbortedError:
            crashes += 1
        if place.epoch(0).stage is EpochStage.SIGNING:
            place.sign_epoch(0)
    assert crashes >= 1
    assert place.epoch(0).stage is EpochStage.FINAL
    assert place.ground.by("v0").run(place.run_id).finalised == tokens * place.spec.rate
    run = place.services.runs[place.run_id]
    unsettled = place.call(
        place.services.store.queue.call, "HGET", run_prefix(run.run_id) + "state", "unsettled"
    )
    assert int(unsettled) == 0


@pytest.mark.parametrize("lost", ["freeze_epoch", "settle_epoch"])
def test_a_crash_before_any_queue_write_pays_once(
    place: Place, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = earn(place, count=2)
    real = Queue.script
    crashes: list[str] = []

    async def lost_once(queue: Queue, name: str, *arguments: object, **also: object) -> object:
        if name == lost and not crashes:
            crashes.append(name)
            raise ConnectionAbortedError(name)
        return await real(queue, name, *arguments, **also)  # type: ignore[arg-type]

    monkeypatch.setattr(Queue, "script", lost_once)
    for _ in range(8):
        try:
            place.tick(seconds=6)
        except ConnectionAbortedError:
            continue
        if place.epoch(0).stage is EpochStage.SIGNING:
            place.sign_epoch(0)
    assert crashes == [lost]
    assert place.epoch(0).stage is EpochStage.FINAL
    assert place.ground.by("v0").run(place.run_id).finalised == tokens * place.spec.rate


def test_a_stopped_run_is_settled_when_its_leases_are_over(place: Place) -> None:
    from orchestrator import jobs

    tokens = earn(place, count=2)
    place.party("bob").leases(1)
    place.ground.by("operator").stop_run(place.run_id)
    place.tick(seconds=1)
    assert place.epoch(0).stage is EpochStage.OPEN, "a lease is still out"
    run = place.services.runs[place.run_id]
    place.call(jobs.free_leases, place.services, run)
    place.wait(6)
    place.call(jobs.free_leases, place.services, run)
    place.tick()
    assert place.sign_epoch(0).status_code == 204
    place.tick()
    place.tick(seconds=3)
    assert place.epoch(0).stage is EpochStage.FINAL
    assert place.ground.by("v0").run(place.run_id).finalised == tokens * place.spec.rate


def test_a_strangers_signature_of_a_header_is_refused(place: Place) -> None:
    earn(place)
    place.tick(seconds=11)
    place.tick()
    response = place.sign_epoch(0, verifier="stranger")
    assert response.json()["code"] == "forbidden"
    assert place.epoch(0).signers == ()


def test_work_revoked_while_an_epoch_is_being_frozen_is_not_in_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = earn(place, "alice")
    earn(place, "bob")
    bob, verifier = place.party("bob"), place.party("v0")
    caught = bob.deliver(bob.leases()[0].lease)
    assert verifier.audits()
    verdict = verifier.verdict(caught.work_digest, Outcome.REJECTED, NAMED)
    assert verifier.seal(verdict).is_success
    real = place.services.blobs.add

    async def add_and_condemn(data: bytes) -> bytes:
        from orchestrator import replays

        run = place.services.runs[place.run_id]
        await replays.count(place.services, run, verdict)
        return await real(data)

    monkeypatch.setattr(place.services.blobs, "add", add_and_condemn)
    run = place.services.runs[place.run_id]
    assert place.call(epochs._freeze, place.services, run, 0) is None
    monkeypatch.undo()
    place.tick(seconds=11)
    assert place.sign_epoch(0).status_code == 204
    place.tick()
    place.tick(seconds=3)
    assert place.ground.by("v0").run(place.run_id).finalised == honest * place.spec.rate
