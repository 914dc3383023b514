"""The life of a rollout through the real application: lease, submit, replay, batch, settle, slash."""

from ledger.state import SlashStatus
from orchestrator.store.keys import run_prefix
from protocol.messages import EpochFile, EpochStage, FraudReportSignature, GroupState
from protocol.signing import recover
from protocol.verdict import Outcome
from tests.stage.evidence import NAMED
from tests.stage.place import Place


def test_a_group_is_leased_submitted_replayed_trained_on_and_paid(place: Place) -> None:
    alice, verifier = place.party("alice"), place.party("v0")
    receipts = [alice.deliver(signed.lease) for signed in alice.leases(2)]
    assert [r.rejection for r in receipts] == ["", ""]
    assert place.take_batch(0) is None, "nothing is trained on before its verdict"

    for task in verifier.audits():
        assert verifier.decide(task.work_digest, Outcome.ACCEPTED) == "accepted"
    batch = place.take_batch(0)
    assert batch is not None
    assert {g.work_digest for g in batch.groups} == {r.work_digest for r in receipts}
    assert all(group.rewards == (10_000, 0) for group in batch.groups)
    assert place.party("trainer").post(place.path("batches/0/ack")).status_code == 204
    assert place.status(receipts[0].work_digest).trained_in == 0

    place.tick(seconds=11)
    place.tick()
    info = place.epoch(0)
    assert info.stage is EpochStage.SIGNING
    assert place.sign_epoch(0).status_code == 204
    place.tick()
    assert place.epoch(0).stage is EpochStage.POSTED
    place.tick(seconds=3)
    assert place.epoch(0).stage is EpochStage.FINAL

    file = EpochFile.from_canonical(place.get(f"/v1/blobs/0x{info.file.hex()}").content)
    tokens = sum(item.tokens for item in file.contributions)
    assert [a.worker for a in file.accounts] == [alice.address]
    assert file.accounts[0].earned == tokens > 0
    assert place.ground.by("stranger").run(place.run_id).finalised == tokens * place.spec.rate


def test_the_receipt_and_the_lease_are_signed_by_the_orchestrator(place: Place) -> None:
    alice, domain = place.party("alice"), place.services.chain.domain
    [signed] = alice.leases()
    receipt = alice.deliver(signed.lease)
    assert recover(domain.digest(signed.lease), signed.signature) == place.spec.orchestrator
    assert recover(domain.digest(receipt), receipt.signature) == place.spec.orchestrator


def test_a_worker_whose_cheat_is_named_is_excluded_unpaid_and_slashed(place: Place) -> None:
    bob, verifier = place.party("bob"), place.party("v0")
    first, second, third, fourth = bob.leases(4)
    one, two, three = (bob.deliver(s.lease) for s in (first, second, third))
    assert verifier.decide(one.work_digest, Outcome.ACCEPTED) == "accepted"
    assert verifier.decide(two.work_digest, Outcome.REJECTED, NAMED) == "rejected"

    for receipt in (one, three):
        status = place.status(receipt.work_digest)
        assert (status.state, status.rejection) == (GroupState.REJECTED, "worker_excluded")
    refused = bob.submit(bob.submission(fourth.lease))
    assert (refused.status_code, refused.json()["code"]) == (409, "excluded")
    assert bob.lease().json()["code"] == "excluded"

    [task] = place.get(place.path("fraud-reports")).json()["tasks"]
    assert task["worker"] == bob.address
    sign_report(place, two.work_digest)
    before = place.ground.by("bob").stake_of(bob.address)
    place.tick()
    place.tick(seconds=6)
    slash_id = place.ground.by("v0").slash_id(place.run_id, bob.address, two.work_digest)
    assert place.ground.by("v0").slash(slash_id).status is SlashStatus.EXECUTED
    assert place.ground.by("bob").stake_of(bob.address) < before
    place.tick(seconds=20)
    assert place.epoch(0).stage is EpochStage.OPEN, "nothing of a cheat is ever settled"


def sign_report(place: Place, work_digest: bytes) -> None:
    """Have the verifier sign the one fraud report there is."""
    from orchestrator.store.reports import Report
    from protocol.epoch import FraudReport

    raw = place.call(
        place.services.store.queue.call,
        "HGET",
        run_prefix(place.run_id) + "reports",
        work_digest.hex(),
    )
    digest = place.services.chain.domain.digest(FraudReport.of(Report.from_json(raw)))
    body = FraudReportSignature(work_digest=work_digest, signature=place.party("v0").sign(digest))
    path = place.path(f"fraud-reports/0x{work_digest.hex()}")
    assert place.party("v0").post(path, body.to_json()).status_code == 204
