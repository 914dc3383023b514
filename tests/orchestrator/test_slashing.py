"""Fraud reports on their way to the ledger, when it refuses what was sent."""

from pathlib import Path

from orchestrator.store.keys import run_prefix
from orchestrator.store.reports import Report
from protocol.epoch import FraudReport
from protocol.messages import FraudReportSignature, FraudReportTask, FraudReportTasks
from protocol.verdict import Outcome
from tests.orchestrator.test_verdicts import one_group
from tests.stage.evidence import NAMED
from tests.stage.ground import Ground
from tests.stage.lying import stake_again
from tests.stage.place import Place, opened


def task(place: Place) -> FraudReportTask:
    [found] = FraudReportTasks.from_json(place.get(place.path("fraud-reports")).content).tasks
    return found


def sign(place: Place, name: str, report: FraudReportTask) -> None:
    party = place.party(name)
    signature = party.sign(place.services.chain.domain.digest(FraudReport.of(report)))
    signed = FraudReportSignature(work_digest=report.work_digest, signature=signature)
    path = place.path(f"fraud-reports/0x{report.work_digest.hex()}")
    assert party.post(path, signed.to_json()).status_code == 204


def stages(place: Place) -> list[str]:
    prefix = run_prefix(place.run_id)
    found = place.call(place.services.store.queue.hash, prefix + "reports")
    return [Report.from_json(raw).stage for raw in found.values()]


def condemned(place: Place) -> FraudReportTask:
    """Have two of three condemn a worker's group and sign the report."""
    digest = one_group(place)
    for name in ("v0", "v1"):
        place.party(name).decide(digest, Outcome.REJECTED, NAMED)
    report = task(place)
    for name in ("v0", "v1"):
        sign(place, name, report)
    return report


def test_a_signer_that_withdraws_in_front_of_the_report_does_not_save_the_accused(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with opened(ground, redis_url, tmp_path / "b", num_verifiers=3, threshold=2) as place:
        accused = condemned(place)
        propose = place.services.chain.propose_slash
        withdrawn = ground.by("v0").stake_of(ground.address("v0"))

        async def in_front(report: FraudReport, signatures: dict[str, bytes]) -> None:
            ground.by("v0").unbond(withdrawn)
            await propose(report, signatures)

        try:
            place.services.chain.propose_slash = in_front  # type: ignore[method-assign]
            place.tick()
            place.services.chain.propose_slash = propose  # type: ignore[method-assign]
            assert stages(place) == ["signing"], "refused, and kept"
            assert ground.by("stranger").at_risk(place.run_id, accused.worker) == 0
            sign(place, "v2", accused)
            place.tick(seconds=3)
            assert stages(place) == ["proposed"]
            assert ground.by("stranger").at_risk(place.run_id, accused.worker) > 0
        finally:
            stake_again(place, "v0", "v1", "alice")


def test_a_report_that_another_brought_first_goes_on(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with opened(ground, redis_url, tmp_path / "b", num_verifiers=3, threshold=2) as place:
        condemned(place)
        propose = place.services.chain.propose_slash

        async def twice(report: FraudReport, signatures: dict[str, bytes]) -> None:
            await propose(report, signatures)
            await propose(report, signatures)

        place.services.chain.propose_slash = twice  # type: ignore[method-assign]
        place.tick()
        assert stages(place) == ["proposed"]
        stake_again(place, "alice")


def test_a_report_of_more_than_is_left_at_risk_is_given_up(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with opened(ground, redis_url, tmp_path / "b", num_verifiers=1, threshold=1) as place:
        digest = one_group(place)
        place.party("v0").decide(digest, Outcome.REJECTED, NAMED)
        key = run_prefix(place.run_id) + "reports"
        raw = place.call(place.services.store.queue.hash, key)[digest.hex().encode()]
        kept = Report.from_json(raw)
        asked = kept.model_copy(update={"amount": str(2 * int(kept.amount))})
        place.call(place.services.store.queue.call, "HSET", key, digest.hex(), asked.to_json())
        sign(place, "v0", task(place))
        place.tick()
        assert stages(place) == ["dismissed"]


def test_a_slashed_worker_is_told_that_it_is_excluded_and_not_to_stake_more(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with opened(ground, redis_url, tmp_path / "b", num_verifiers=3, threshold=2) as place:
        worker = condemned(place).worker
        name = next(n for n in ("alice", "bob") if ground.address(n) == worker)
        try:
            place.tick()
            place.tick(seconds=10)
            assert stages(place) == ["executed"]
            ground.by(name).unbond(ground.by(name).stake_of(worker))
            place.tick(seconds=60)
            response = place.party(name).lease()
            assert (response.status_code, response.json()["code"]) == (409, "excluded")
        finally:
            stake_again(place, name)
