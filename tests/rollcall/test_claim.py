"""`rollcall claim`: from an epoch file alone, with the costs told, and nothing paid twice."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from protocol.epoch import AccountLeaf
from protocol.messages import Account, EpochFile
from protocol.user_error import UserError
from rollcall.cli.claim import claim
from rollcall.cli.epoch_files import from_files, from_market
from tests.stage.counter import Counter, told
from tests.stage.world import RATE, SECRET, WINDOW, World


def epoch_file(world: World, epoch: int, accounts: Sequence[AccountLeaf]) -> EpochFile:
    return EpochFile(
        run_id=world.run_id,
        epoch=epoch,
        generation=0,
        prev_account_root=bytes(32),
        secret=SECRET,
        contributions=(),
        accounts=tuple(
            Account(worker=leaf.worker, earned=leaf.earned, last_nonce=leaf.last_nonce)
            for leaf in accounts
        ),
    )


def write(folder: Path, file: EpochFile) -> Path:
    path = folder / f"{file.run_id}-{file.epoch}.bin"
    path.write_bytes(file.canonical())
    return path


def test_an_epoch_file_alone_is_enough_to_be_paid(world: World, tmp_path: Path) -> None:
    path = write(tmp_path, epoch_file(world, 0, world.settle(alice=7, bob=5)))
    counter = Counter.of(world, "alice")
    before = world.by("alice").balance(world.address("alice"))
    assert claim(counter.desk, None, from_files(counter.desk, path)) == 7 * RATE
    assert world.by("alice").balance(world.address("alice")) == before + 7 * RATE
    assert "earned 0.00000000000000007 RTEST up to epoch 0, claimed 0 RTEST" in counter.said
    assert " gas, 0." in counter.said
    counter.lines.clear()
    assert claim(counter.desk, None, from_files(counter.desk, path)) == 0
    assert "claimable 0 RTEST" in counter.said


def test_the_newest_final_file_of_a_folder_is_taken_and_strangers_are_left_out(
    world: World, tmp_path: Path
) -> None:
    write(tmp_path, epoch_file(world, 0, world.settle(alice=1)))
    write(tmp_path, epoch_file(world, 1, world.settle(alice=3)))
    write(tmp_path, epoch_file(world, 5, world.accounts(alice=99)))
    (tmp_path / "notes.txt").write_text("not an epoch")
    counter = Counter.of(world, "stranger")
    paid = claim(counter.desk, world.address("alice"), from_files(counter.desk, tmp_path))
    assert paid == 3 * RATE
    assert "left out: " in counter.said
    assert "epoch 5 of run 1 is not on chain as this file has it" in counter.said


def test_a_file_that_promises_more_than_the_chain_is_left_out(world: World, tmp_path: Path) -> None:
    world.settle(alice=1)
    path = write(tmp_path, epoch_file(world, 0, world.accounts(alice=100)))
    counter = Counter.of(world, "alice")
    with told(world, counter, "no epoch to claim from"):
        claim(counter.desk, None, from_files(counter.desk, path))


def test_an_epoch_past_its_window_is_made_final_by_the_claim(world: World, tmp_path: Path) -> None:
    accounts = world.accounts(alice=4)
    world.open()
    world.post(world.header(accounts))
    path = write(tmp_path, epoch_file(world, 0, accounts))
    counter = Counter.of(world, "alice")
    assert claim(counter.desk, None, from_files(counter.desk, path)) == 0
    assert "not yet: epoch 0 is final at" in counter.said
    world.wait(WINDOW)
    assert claim(counter.desk, None, from_files(counter.desk, path)) == 4 * RATE


def test_a_worker_without_earnings_is_told_so(world: World, tmp_path: Path) -> None:
    path = write(tmp_path, epoch_file(world, 0, world.settle(alice=7)))
    counter = Counter.of(world, "stranger")
    assert claim(counter.desk, None, from_files(counter.desk, path)) == 0
    assert "has earned nothing up to epoch 0" in counter.said


def test_a_dry_run_says_the_cost_and_sends_nothing(world: World, tmp_path: Path) -> None:
    path = write(tmp_path, epoch_file(world, 0, world.settle(alice=7)))
    counter = Counter.of(world, "alice", dry_run=True)
    claim(counter.desk, None, from_files(counter.desk, path))
    assert " gas, 0." in counter.lines[-2]
    assert counter.lines[-1].startswith("would claim 0.00000000000000007 RTEST from run 1")
    assert world.by("alice").claimed(world.run_id, world.address("alice")) == 0


def test_without_its_market_a_worker_claims_from_what_it_kept(world: World, tmp_path: Path) -> None:
    write(tmp_path, epoch_file(world, 0, world.settle(alice=2)))
    counter = Counter.of(world, "alice")
    files = from_market(counter.desk, "http://127.0.0.1:9", tmp_path)
    assert claim(counter.desk, None, files) == 2 * RATE
    assert "no orchestrator answers" in counter.said
    with pytest.raises(UserError, match="no orchestrator answers"):
        from_market(counter.desk, "http://127.0.0.1:9", tmp_path / "absent")


def test_no_file_and_no_epoch_file_are_told(world: World, tmp_path: Path) -> None:
    counter = Counter.of(world, "alice")
    with told(world, counter, "no epoch file at"):
        claim(counter.desk, None, from_files(counter.desk, tmp_path / "absent"))
    (tmp_path / "junk.bin").write_bytes(b"\xc1junk")
    with told(world, counter, "is no epoch file"):
        claim(counter.desk, None, from_files(counter.desk, tmp_path / "junk.bin"))
