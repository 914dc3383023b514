"""A quorum takes its own epochs back: the money returns, and the lie is still answered for."""

from dataclasses import replace
from typing import Any

from ledger.state import Posting
from protocol.epoch import EpochHeader, RetractEpoch
from tests.stage.world import RATE, WINDOW, World, refused


def post(world: World, **earned: int) -> EpochHeader:
    world.open()
    header = world.header(world.accounts(**earned))
    world.post(header)
    return header


def retract(world: World, header: EpochHeader, *names: str, **changes: Any) -> None:
    named = RetractEpoch(header.run_id, header.epoch, header.generation, header.struct_hash())
    signatures = world.signed(replace(named, **changes).struct_hash(), *names)
    world.by("stranger").retract_epoch(header.run_id, header.epoch, signatures)


def test_a_retracted_epoch_returns_its_money_and_its_place(world: World) -> None:
    first, second = post(world, alice=100), post(world, alice=150)
    retract(world, second, "v0", "v1")
    run = world.by("bob").run(1)
    assert (run.num_posted, run.committed, run.generation) == (1, 100 * RATE, 1)
    better = world.header(world.accounts(alice=130))
    world.post(better)
    world.wait(WINDOW)
    assert world.claim("alice", 1, world.accounts(alice=130)) == 130 * RATE
    assert world.by("bob").posting(1, 0, first.struct_hash())[0] is Posting.FINAL


def test_later_epochs_go_with_it_and_all_are_remembered_for_a_window(world: World) -> None:
    headers = [post(world, alice=100 * (n + 1)) for n in range(3)]
    retract(world, headers[1], "v0", "v2")
    ledger = world.by("bob")
    assert ledger.run(1).num_posted == 1
    for header in headers[1:]:
        found = ledger.posting(1, header.epoch, header.struct_hash())
        assert found == (Posting.RETRACTED, 0b11)
    world.wait(WINDOW)
    ledger.mint(world.address("bob"), 1)  # a block at that time
    for header in headers[1:]:
        found = ledger.posting(1, header.epoch, header.struct_hash())
        assert found == (Posting.NONE, 0)


def test_it_takes_a_quorum_over_exactly_this_epoch(world: World) -> None:
    header = post(world, alice=100)
    with refused("QuorumTooSmall", signatures=1, threshold=2):
        retract(world, header, "v0")
    for change in ({"epoch": 1}, {"generation": 1}, {"run_id": 2}, {"header_hash": bytes(32)}):
        with refused("WrongSigner"):
            retract(world, header, "v0", "v1", **change)
    retract(world, header, "v0", "v1")


def test_a_retraction_is_used_once(world: World) -> None:
    header = post(world, alice=100)
    retract(world, header, "v0", "v1")
    world.post(world.header(world.accounts(alice=100)))  # the same work, honestly posted anew
    with refused("WrongSigner"):  # it named the first generation
        retract(world, header, "v0", "v1")


def test_neither_a_final_nor_an_unposted_epoch_is_retracted(world: World) -> None:
    header = post(world, alice=100)
    world.wait(WINDOW)
    with refused("EpochNotPending", epoch=0, numFinal=1):
        retract(world, header, "v0", "v1")
    assert world.claim("alice", 0, world.accounts(alice=100)) == 100 * RATE
    world.open()
    with refused("EpochNotPending", epoch=1):
        retract(world, world.header(world.accounts(alice=150)), "v0", "v1")


def test_a_retraction_after_a_stop_leaves_time_to_post_honestly(world: World) -> None:
    header = post(world, alice=100)
    world.by("operator").stop_run(1)
    world.wait(WINDOW - 2)
    retract(world, header, "v0", "v1")
    world.wait(WINDOW)
    accounts = world.accounts(alice=80)
    world.post(world.header(accounts))
    world.wait(WINDOW)
    assert world.claim("alice", 0, accounts) == 80 * RATE
