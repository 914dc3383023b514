"""Proving one's own lie first, to get back as the bounty what it costs."""

from tests.stage.ledger_lab import QUORUM, Lab
from tests.stage.world import STAKE


def test_where_the_finder_gets_all_a_lie_is_free(lab: Lab) -> None:
    weak = lab.weak("PaysFinderAll", lab.token.address)
    lab.allow("v0", weak, STAKE)
    before = lab.balance("v0")
    lab.send(weak.functions.stake(STAKE), "v0")
    lab.send(weak.functions.slash(lab.address("v0"), STAKE, lab.address("v0")), "v0")
    assert lab.balance("v0") == before


def test_a_quorum_that_proves_its_own_lie_loses_three_quarters(lab: Lab) -> None:
    epoch, header = lab.padded()
    held = sum(lab.stake(name) + lab.balance(name) for name in QUORUM)
    lab.send(lab.bad_edge(epoch, header), "v0")
    lab.world.by("v0").withdraw_stake_credit()
    kept = sum(lab.stake(name) + lab.balance(name) for name in QUORUM)
    lost = held - kept
    assert lost == len(QUORUM) * STAKE * 3 // 4
    assert lab.credit("treasury") == lost


def test_reporters_of_a_worker_gain_nothing(lab: Lab) -> None:
    slash_id = lab.world.accuse(lab.world.report())
    lab.world.wait(10_000)
    lab.world.by("v0").execute_slash(slash_id)
    assert [lab.credit(name) for name in ("v0", "v1", "stranger", "alice")] == [0, 0, 0, 0]
    assert lab.credit("treasury") == STAKE
