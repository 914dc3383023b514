"""A guardian that pauses to keep what is owed from being paid."""

from typing import Any

from tests.stage.ledger_lab import QUORUM, Lab
from tests.stage.world import RATE, STAKE, WINDOW, refused

DAY = 86_400
REASON = b"\1" * 32


def test_a_guardian_without_bounds_pays_nobody_for_ever(lab: Lab) -> None:
    weak = lab.weak("StopsEverything", lab.address("stranger"))
    for _ in range(3):
        lab.send(weak.functions.pause(365 * DAY), "stranger")
        lab.world.wait(364 * DAY)
        with refused("Error"):
            lab.send(weak.functions.claim(100), "alice")
    assert weak.functions.paid().call() == 0


def test_a_pause_keeps_no_final_work_from_being_paid_and_no_lie_from_being_proven(lab: Lab) -> None:
    honest = lab.epoch(alice=100)
    lab.post(honest)
    lying = lab.epoch(*honest.accounts, first_nonce=2, alice=30)
    header = lab.post(lying, total=31)
    pause(lab, 7 * DAY)
    lab.send(lab.bad_edge(lying, header), "bob")
    lab.world.by("bob").withdraw_stake_credit()
    assert [lab.stake(name) for name in QUORUM] == [0, 0]
    lab.finalise()
    assert lab.claim("alice", 0, honest) == 100 * RATE
    lab.world.by("alice").unbond(STAKE)
    lab.world.by("operator").stop_run(lab.world.run_id)
    with refused("Paused"):
        lab.world.by("operator").fund_run(lab.world.run_id, 1)


def test_pausing_again_and_again_leaves_most_of_the_time(lab: Lab) -> None:
    council = council_of(lab)
    with refused("PauseTooLong", asked=7 * DAY + 1, most=7 * DAY):
        pause(lab, 7 * DAY + 1)
    pause(lab, 7 * DAY)
    begun = lab.world.by("stranger").block_time()
    for waited in (DAY, 8 * DAY, 29 * DAY):
        lab.world.clock.now = begun + waited
        with refused("PauseTooSoon", earliest=begun + 30 * DAY):
            pause(lab, DAY)
    lab.world.clock.now = begun + 30 * DAY
    pause(lab, 7 * DAY)
    # Ending one early does not bring the next one closer.
    lab.send(council.functions.unpause(), "guardian")
    with refused("PauseTooSoon"):
        pause(lab, DAY)


def test_work_that_a_pause_kept_from_being_posted_is_posted_after_it(lab: Lab) -> None:
    epoch = lab.epoch(alice=100)
    lab.world.open()
    lab.world.by("operator").stop_run(lab.world.run_id)
    pause(lab, 7 * DAY)
    header = lab.header(epoch)
    with refused("Paused"):
        lab.send(lab.posting(header))
    lab.world.wait(7 * DAY + 1)
    lab.send(lab.posting(header))
    lab.finalise(WINDOW)
    assert lab.claim("alice", 0, epoch) == 100 * RATE


def council_of(lab: Lab) -> Any:
    return lab.at("Council", lab.world.deployment.council)


def pause(lab: Lab, duration: int) -> None:
    lab.send(council_of(lab).functions.pause(duration, REASON), "guardian")
