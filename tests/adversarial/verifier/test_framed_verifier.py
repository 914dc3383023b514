"""An operator names an honest verifier beside a quorum of its own friends, and has them report it.

A verifier joins the runs that name it, so that it can be held to what it judges. The ledger asks for a quorum, and the
friends are one: what they say it judged falsely may be work that it never saw.
"""

from ledger.state import SlashStatus
from rollout_worker.verify.pleas import Pleas
from tests.stage.world import APPEAL, RULING, STAKE, World

HONEST = "v2"


def framed(world: World) -> bytes:
    world.by(HONEST).join_run(world.run_id)
    return world.accuse(world.report(HONEST), "v0", "v1")


def test_a_verifier_that_keeps_silent_loses_its_stake(world: World) -> None:
    """The defence off."""
    accusation = framed(world)
    world.wait(APPEAL)
    world.by("stranger").execute_slash(accusation)
    assert world.by(HONEST).stake_of(world.address(HONEST)) == 0


def test_a_verifiers_program_appeals_and_ends_what_nobody_rules(world: World) -> None:
    accusation = framed(world)
    pleas = Pleas(world.by(HONEST), world.address(HONEST))
    pleas.step()
    pleas.step()
    assert world.by("stranger").slash(accusation).status is SlashStatus.APPEALED
    world.wait(RULING)
    pleas.step()
    assert world.by("stranger").slash(accusation).status is SlashStatus.DISMISSED
    account = world.by("stranger").stake_account(world.address(HONEST))
    assert (account.stake, account.locked) == (STAKE, 0)


def test_it_says_nothing_of_others(world: World) -> None:
    accusation = world.accuse(world.report("alice"))
    Pleas(world.by(HONEST), world.address(HONEST)).step()
    assert world.by("stranger").slash(accusation).status is SlashStatus.PROPOSED
