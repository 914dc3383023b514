"""Signing a lie and taking the stake away before anybody has looked."""

import pytest

from tests.stage.ledger_lab import QUORUM, Lab
from tests.stage.world import STAKE, UNBOND, WINDOW, refused


def test_where_stake_leaves_at_once_nothing_is_left_to_slash(lab: Lab) -> None:
    weak = lab.weak("LeavesAtOnce", lab.token.address)
    lab.allow("v0", weak, STAKE)
    before = lab.balance("v0")
    lab.send(weak.functions.stake(STAKE), "v0")
    lab.send(weak.functions.unbond(STAKE), "v0")
    assert weak.functions.slash(lab.address("v0"), STAKE).call() == 0
    assert lab.balance("v0") == before


@pytest.mark.parametrize("waited", [0, WINDOW - 2])
def test_what_is_leaving_is_slashed_like_what_stays(lab: Lab, waited: int) -> None:
    epoch, header = lab.padded()
    for name in QUORUM:
        lab.world.by(name).unbond(STAKE)
    lab.world.wait(waited)
    with refused("StillUnbonding"):
        lab.world.by("v0").withdraw_stake()
    lab.send(lab.bad_edge(epoch, header))
    assert [lab.stake(name) for name in QUORUM] == [0, 0]


def test_stake_that_left_before_signing_signs_nothing(lab: Lab) -> None:
    lab.world.by("v0").unbond(STAKE)
    with refused("StakeTooLow", have=0, need=STAKE):
        lab.padded()


def test_no_run_may_wait_longer_than_stake_does(lab: Lab) -> None:
    # An epoch can be put off once more by a demand: twice its window must fit.
    most = (UNBOND - 1) // 2
    params = lab.world.params(challenge_window=most + 1)
    with refused("BadWindow", given=most + 1, most=most):
        lab.world.by("operator").create_run(params, 0, "")
    lab.world.by("operator").create_run(lab.world.params(challenge_window=most), 0, "")
