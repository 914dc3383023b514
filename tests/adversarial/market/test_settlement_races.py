"""Settlement under timing and under verifiers that sign and then slip away: nobody's work is lost."""

from pathlib import Path
from typing import Any

import pytest

from orchestrator import epochs, replays
from protocol.messages import EpochFile, EpochStage
from protocol.verdict import Outcome
from tests.stage.evidence import NAMED
from tests.stage.ground import STAKE, Ground
from tests.stage.place import Place, opened


def finish(place: Place, epoch: int, signers: tuple[str, ...] = ("v0",)) -> EpochFile:
    """Sign an epoch that waits for it, and return its file once it is final."""
    for signer in signers:
        assert place.sign_epoch(epoch, signer).status_code == 204
    place.tick()
    place.tick(seconds=3)
    info = place.epoch(epoch)
    assert info.stage is EpochStage.FINAL
    return EpochFile.from_canonical(place.get(f"/v1/blobs/0x{info.file.hex()}").content)


def test_work_decided_while_settlement_looks_is_not_left_behind(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger wants ascending nonces: a nonce passed over once is never paid, and stops the run."""
    alice, verifier = place.party("alice"), place.party("v0")
    first, second = (alice.deliver(s.lease) for s in alice.leases(2))
    verifier.decide(second.work_digest, Outcome.ACCEPTED)
    verdict = verifier.verdict(first.work_digest, Outcome.ACCEPTED)
    assert verifier.seal(verdict).is_success
    queue, run = place.services.store.queue, place.services.runs[place.run_id]
    real_call, real_pipeline, late = queue.call, queue.pipeline, [verdict]

    async def decide_after(answer: Any, text: str) -> Any:
        if "earned:" in text and late:
            await replays.count(place.services, run, late.pop())
        return answer

    async def call(*command: Any) -> Any:
        return await decide_after(await real_call(*command), str(command))

    async def pipeline(commands: Any) -> Any:
        listed = list(commands)
        return await decide_after(await real_pipeline(listed), str(listed))

    monkeypatch.setattr(queue, "call", call)
    monkeypatch.setattr(queue, "pipeline", pipeline)
    record = place.call(epochs._freeze, place.services, run, 0)
    monkeypatch.undo()
    assert not late, "the verdict came in between"
    if record is not None:
        data = place.call(place.services.blobs.get, record.file)
        paid = EpochFile.from_canonical(data).contributions
        assert [item.nonce for item in paid] != [2]


def test_a_verifier_that_signs_and_withdraws_its_stake_does_not_stop_an_epoch(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with opened(ground, redis_url, tmp_path, num_verifiers=3, threshold=2) as place:
        receipt = place.party("alice").deliver(place.party("alice").leases()[0].lease)
        for name in ("v0", "v1"):
            place.party(name).decide(receipt.work_digest, Outcome.ACCEPTED)
        place.tick(seconds=11)
        place.tick()
        deserter = sorted(("v0", "v1", "v2"), key=lambda n: ground.address(n).lower())[0]
        loyal = [name for name in ("v0", "v1", "v2") if name != deserter]
        assert place.sign_epoch(0, deserter).status_code == 204
        ledger = ground.by(deserter)
        ledger.unbond(ledger.stake_of(ground.address(deserter)))
        try:
            place.wait(2)
            assert place.sign_epoch(0, loyal[0]).status_code == 204
            place.tick()
            assert place.epoch(0).stage is EpochStage.SIGNING, "two signed, one of them counts"
            file = finish(place, 0, (loyal[1],))
            assert [item.nonce for item in file.contributions] == [1]
        finally:
            ledger.mint(ground.address(deserter), 2 * STAKE)
            ledger.stake(2 * STAKE)


def test_a_verifier_that_signs_and_withdraws_its_stake_does_not_save_a_cheat(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with opened(ground, redis_url, tmp_path, num_verifiers=3, threshold=2) as place:
        bob = place.party("bob")
        receipt = bob.deliver(bob.leases()[0].lease)
        for name in ("v0", "v1"):
            place.party(name).decide(receipt.work_digest, Outcome.REJECTED, NAMED)
        deserter = sorted(("v0", "v1", "v2"), key=lambda n: ground.address(n).lower())[0]
        loyal = [name for name in ("v0", "v1", "v2") if name != deserter]
        ledger, before = ground.by(deserter), ground.by("bob").stake_of(bob.address)
        sign_report(place, deserter)
        ledger.unbond(ledger.stake_of(ground.address(deserter)))
        try:
            place.wait(2)
            sign_report(place, loyal[0])
            place.tick()
            sign_report(place, loyal[1])
            place.tick()
            place.tick(seconds=12)
            assert ground.by("bob").stake_of(bob.address) == before - STAKE
        finally:
            ledger.mint(ground.address(deserter), 2 * STAKE)
            ledger.stake(2 * STAKE)
            ground.by("bob").mint(bob.address, STAKE)
            ground.by("bob").stake(STAKE)


def sign_report(place: Place, verifier: str) -> None:
    from protocol.epoch import FraudReport
    from protocol.messages import FraudReportSignature, FraudReportTasks

    party = place.party(verifier)
    [task] = FraudReportTasks.from_json(place.get(place.path("fraud-reports")).content).tasks
    signature = party.sign(place.services.chain.domain.digest(FraudReport.of(task)))
    body = FraudReportSignature(work_digest=task.work_digest, signature=signature)
    path = place.path(f"fraud-reports/0x{task.work_digest.hex()}")
    assert party.post(path, body.to_json()).status_code == 204
