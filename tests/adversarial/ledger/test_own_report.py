"""Attack: have one's stake held by a report in a run of one's own, out of reach of a true accuser.

With exclusive holds the first holder would take all there is: a cheat accuses itself where it is the
quorum, lies elsewhere for nothing, and is acquitted by its own silence. Holds overlap instead, and a
proof takes what is held too.
"""

from dataclasses import replace

from tests.stage.ledger_lab import QUORUM, Lab
from tests.stage.world import RULING, STAKE, UNBOND


def shielded(lab: Lab, *names: str) -> list[bytes]:
    """Accuse these people in a run of their own; return the accusations."""
    world = lab.world
    true_run = world.run_id
    own_run = world.by("operator").create_run(world.params(), 0, "")
    for name in names:
        world.by(name).join_run(own_run)
    world.run_id = own_run
    accused = [world.accuse(replace(world.report(name), run_id=own_run)) for name in names]
    world.run_id = true_run
    return accused


def test_all_of_their_stake_is_held_and_they_sign_all_the_same(lab: Lab) -> None:
    shielded(lab, *QUORUM)
    for name in QUORUM:
        account = lab.world.by(name).stake_account(lab.address(name))
        assert account.locked == account.stake == STAKE, "an exclusive hold would leave nothing"
    lab.padded()


def test_a_proof_takes_what_their_own_run_holds(lab: Lab) -> None:
    accused = shielded(lab, *QUORUM)
    epoch, header = lab.padded()
    lab.send(lab.bad_edge(epoch, header), "bob")
    assert [lab.stake(name) for name in QUORUM] == [0] * len(QUORUM)
    for name, slash_id in zip(QUORUM, accused, strict=True):
        lab.world.by(name).appeal_slash(slash_id, b"\1" * 32)
    lab.world.wait(RULING + 1)
    for slash_id in accused:
        lab.send(lab.disputes.functions.expireAppeal(slash_id))
    for name in QUORUM:
        account = lab.world.by(name).stake_account(lab.address(name))
        assert (account.stake, account.unbonding, account.locked) == (0, 0, 0)


def test_a_true_report_holds_what_their_own_run_holds(lab: Lab) -> None:
    world = lab.world
    shielded(lab, "alice")
    slash_id = world.accuse(world.report("alice"))
    assert world.by("bob").slash(slash_id).held == STAKE
    world.by("alice").unbond(STAKE)
    world.wait(UNBOND)
    lab.send(lab.disputes.functions.executeSlash(slash_id))
    account = world.by("alice").stake_account(lab.address("alice"))
    assert account.stake + account.unbonding == 0
