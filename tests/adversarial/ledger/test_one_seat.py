"""One verifier in league with the operator, which names who takes its place: is it one voice or several?

A verdict stays true when its verifier has left. So a verifier that condemns, leaves and has a friend condemn after
it would be a quorum by itself, and could strike out what honest workers hold receipts for.
"""

from ledger.state import Condemnation
from tests.stage.ledger_lab import Lab
from tests.stage.owed import Promise, decide, end, taken, verdict_on
from tests.stage.world import BUDGET, RATE, WINDOW, World, refused

UNITS = BUDGET // RATE
SOLD = UNITS // 2
MINE, SUCCESSORS = 2, 3
"""The places of the verifier in league, and of the friend who takes it."""


def test_counted_by_place_one_verifier_and_its_friend_are_a_quorum(lab: Lab) -> None:
    names = [lab.address(name) for name in ("v0", "v1", "v2")]
    weak, work = lab.weak("CountsPlaces", names, 2), b"\7" * 32
    lab.send(weak.functions.condemn(work, MINE), "v2")
    lab.send(weak.functions.giveUp(MINE, lab.address("bob")), "v2")
    lab.send(weak.functions.condemn(work, SUCCESSORS), "bob")
    assert weak.functions.isCondemned(work).call()


def hand_over(world: World, place: int, name: str, successor: str) -> None:
    """Have a verifier fall short, and another replace it."""
    world.by(name).unbond(1)
    world.by("operator").propose_replacement(world.run_id, place, world.address(successor))
    world.wait(WINDOW)
    world.by("stranger").replace_verifier(world.run_id)
    world.by(name).stake(1)


def claimed(world: World) -> Promise:
    """Have a worker claim by its receipts what no epoch of a closed run has."""
    promise = taken(world, "alice", 1, SOLD)
    end(world)
    world.by("alice").claim_owed([promise])
    return promise


def verdicts(world: World, promise: Promise, *places: int) -> list[Condemnation]:
    who = {0: "v0", 1: "v1", MINE: "v2", SUCCESSORS: "bob"}
    return [Condemnation.of(verdict_on(world, promise[0], who[p]), p) for p in places]


def test_a_verifier_and_who_took_its_place_are_one(world: World) -> None:
    hand_over(world, MINE, "v2", "bob")
    promise = claimed(world)
    answer = world.by("operator").answer_condemned
    for places in ((MINE, SUCCESSORS), (SUCCESSORS, MINE), (MINE, MINE)):
        with refused("HeardBefore", seat=MINE):
            answer(promise[0], verdicts(world, promise, *places))
    decide(world)
    assert world.by("alice").pay_owed(world.run_id, world.address("alice")) == SOLD * RATE


def test_either_of_them_and_another_seat_are_a_quorum(world: World) -> None:
    hand_over(world, MINE, "v2", "bob")
    promise = claimed(world)
    world.by("operator").answer_condemned(promise[0], verdicts(world, promise, SUCCESSORS, 0))
    assert world.by("alice").is_condemned(promise[0])


def test_nobody_comes_back_in_another_seat(world: World) -> None:
    """It would be heard for both. In its own it is who it was."""
    hand_over(world, 1, "v1", "bob")
    world.by("v2").unbond(1)
    propose = world.by("operator").propose_replacement
    with refused("AlreadyVerifier", verifier=world.address("v1")):
        propose(world.run_id, MINE, world.address("v1"))
    hand_over(world, SUCCESSORS, "bob", "v1")
    run = world.by("stranger").run(world.run_id)
    assert (run.roster[1], run.roster[4]) == (world.address("v1"),) * 2
    assert list(world.by("stranger").seats(world.run_id).values()) == [0, 1, 2, 1]


def test_a_proposal_does_not_wait_for_the_next_time_that_a_verifier_falls_short(
    world: World,
) -> None:
    """One that staked again in time has that time anew."""
    world.by("v2").unbond(1)
    world.by("operator").propose_replacement(world.run_id, MINE, world.address("bob"))
    world.by("v2").stake(1)
    world.wait(WINDOW)
    with refused("VerifierStillStaked"):
        world.by("operator").replace_verifier(world.run_id)
    world.wait(WINDOW + world.by("v2").run(world.run_id).settle_window)
    world.by("v2").unbond(1)
    with refused("NoReplacement"):
        world.by("operator").replace_verifier(world.run_id)
