"""A run under a permit, halted by stewards, or at its compute cap: nothing more is leased, everything
that was done before is paid.
"""

from pathlib import Path

import pytest

from ledger.state import LedgerStatus
from orchestrator import jobs
from protocol.canonical import keccak256
from protocol.messages import EpochStage, RunInfo, RunStatus
from tests.orchestrator.test_settling import earn, final
from tests.stage.ground import Ground
from tests.stage.place import Place, opened

REASON = keccak256(b"the stewards' published reason")
PERMIT = 100


def info(place: Place) -> RunInfo:
    return RunInfo.from_json(place.get(f"/v1/runs/{place.run_id}").content)


def refusal(place: Place, worker: str = "alice") -> str:
    response = place.party(worker).lease()
    return str(response.json()["message"]) if response.status_code == 409 else ""


def look(place: Place) -> None:
    """Let the orchestrator's watch see the chain, as it does every second."""
    place.wait(0)
    place.call(jobs.watch, place.services, place.services.runs[place.run_id])


def settle_what_is_left(place: Place, epoch: int) -> None:
    """Settle the last epoch of a run that rests or has ended: its leases are over, its work decided."""
    run = place.services.runs[place.run_id]
    for _ in range(2):
        place.call(jobs.free_leases, place.services, run)
        place.wait(6)
    place.tick()
    assert place.sign_epoch(epoch).status_code == 204
    place.tick()
    place.tick(seconds=3)
    place.tick()
    assert place.epoch(epoch).stage is EpochStage.FINAL


def finalised(place: Place) -> int:
    run = place.ground.by("stranger").run(place.run_id)
    return run.finalised // run.rate


def test_a_permit_is_renewed_before_half_of_it_is_gone(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with opened(ground, redis_url, tmp_path, params={"permit_period": PERMIT}) as place:
        first = ground.by("stranger").run(place.run_id).permit_until
        place.tick(seconds=PERMIT // 2 - 10)
        assert ground.by("stranger").run(place.run_id).permit_until == first
        place.tick(seconds=20)
        assert ground.by("stranger").run(place.run_id).permit_until > first
        for _ in range(4):
            place.tick(seconds=PERMIT * 2 // 3)
        assert info(place).status is RunStatus.OPEN
        assert not refusal(place)


def test_silence_stops_a_run_and_pays_what_was_done_before(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    config = {"renew_permits": False}
    params = {"permit_period": PERMIT}
    with opened(ground, redis_url, tmp_path, config=config, params=params) as place:
        tokens = earn(place, count=2)
        place.party("bob").leases(1)
        until = ground.by("stranger").run(place.run_id).permit_until
        ground.clock.now = until
        look(place)
        assert not refusal(place)
        place.wait(2)
        assert "permit ended" in refusal(place), "by this machine's clock, before the watch looks"
        look(place)
        assert info(place).status is RunStatus.HALTED
        settle_what_is_left(place, 0)
        assert finalised(place) == tokens
        assert ground.by("stranger").run(place.run_id).status is LedgerStatus.ACTIVE


def test_work_dated_after_a_lapse_is_refused_before_it_gets_a_receipt(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    config = {"renew_permits": False}
    params = {"permit_period": PERMIT}
    with opened(
        ground, redis_url, tmp_path, config=config, params=params, lease_seconds=600
    ) as place:
        alice = place.party("alice")
        before, after = (signed.lease for signed in alice.leases(2))
        until = ground.by("stranger").run(place.run_id).permit_until
        ground.clock.now = until + 3
        look(place)
        late = alice.submit(alice.submission(after))
        assert (late.status_code, late.json()["code"]) == (409, "run_not_open")
        early = alice.submission(before, submitted_at=until)
        assert alice.submit(early).status_code == 200


def test_stewards_halt_and_resume_and_accepted_work_is_paid_meanwhile(place: Place) -> None:
    tokens = earn(place, count=2)
    held = place.party("bob").leases(1)[0].lease
    for steward in ("s0", "s1"):
        place.ground.by(steward).halt_run(place.run_id, REASON)
    look(place)
    assert "halted" in refusal(place)
    assert info(place).status is RunStatus.HALTED
    place.wait(2)
    bob = place.party("bob")
    assert bob.submit(bob.submission(held)).json()["code"] == "run_not_open"
    settle_what_is_left(place, 0)
    assert finalised(place) == tokens
    place.wait(3)
    for steward in ("s0", "s1"):
        place.ground.by(steward).resume_run(place.run_id)
    place.tick()
    assert not refusal(place)
    [signed] = place.party("bob").leases(1)
    assert signed.lease.epoch == 1, "the halted epoch's secret is known"


def test_work_before_and_after_a_halt_is_paid_and_nothing_between(place: Place) -> None:
    first = earn(place, "alice")
    for steward in ("s0", "s1"):
        place.ground.by(steward).halt_run(place.run_id, REASON)
    place.wait(5)
    for steward in ("s0", "s1"):
        place.ground.by(steward).resume_run(place.run_id)
    place.wait(2)
    look(place)
    second = earn(place, "alice")
    file = final(place, 0)
    assert [item.nonce for item in file.contributions] == [1, 2]
    assert finalised(place) == first + second


def test_a_run_at_its_cap_ends_and_pays_what_was_done_until_then(
    ground: Ground, redis_url: str, tmp_path: Path
) -> None:
    with opened(ground, redis_url, tmp_path, params={"compute_cap": 1}) as place:
        first = earn(place)
        place.tick(seconds=11)
        place.tick()
        assert place.sign_epoch(0).status_code == 204
        second = earn(place, "bob")
        place.tick()
        place.tick(seconds=3)
        place.tick()
        assert place.epoch(0).stage is EpochStage.FINAL
        assert "compute cap" in refusal(place)
        assert info(place).status is RunStatus.STOPPED
        settle_what_is_left(place, 1)
        assert finalised(place) == first + second
        assert ground.by("stranger").run(place.run_id).num_opened == 2


@pytest.mark.parametrize("status", ["halted", "lapsed"])
def test_a_rest_does_not_keep_ripe_epochs_from_becoming_final(
    ground: Ground, redis_url: str, tmp_path: Path, status: str
) -> None:
    config = {"renew_permits": False}
    params = {"permit_period": PERMIT}
    with opened(ground, redis_url, tmp_path, config=config, params=params) as place:
        tokens = earn(place)
        place.tick(seconds=11)
        place.tick()
        assert place.sign_epoch(0).status_code == 204
        place.tick()
        if status == "halted":
            for steward in ("s0", "s1"):
                ground.by(steward).halt_run(place.run_id, REASON)
        else:
            ground.clock.now = ground.by("stranger").run(place.run_id).permit_until + 1
        place.tick(seconds=3)
        place.tick()
        assert finalised(place) == tokens
