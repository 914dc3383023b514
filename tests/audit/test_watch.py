"""A watcher on a real EVM: every kind of lie in a file voids its epoch and costs its signers; truth is left alone."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from audit.chain_facts import facts_of
from audit.fraud import find
from audit.history import Fate
from audit.published import Opened
from ledger.state import Fault
from protocol.canonical import keccak256
from protocol.epoch import AccountLeaf
from protocol.messages import EpochFile
from tests.stage.books import Book, account_leaves, accounts_of, header_of, opened
from tests.stage.terms import key
from tests.stage.watching import Stage, staged, work
from tests.stage.world import REVOKE, STAKE, WINDOW, World


@pytest.fixture
def stage(world: World, tmp_path: Path) -> Stage:
    return staged(world, tmp_path)


def test_honest_epochs_are_left_alone(stage: Stage) -> None:
    watcher = stage.watcher(demands=True, escalates=True)
    first = stage.file(*work(stage))
    stage.post_honest(first)
    second = stage.file(stage.book.work("alice", 3), epoch=1, before=first)
    stage.post_honest(second)
    watcher.step()
    assert watcher.sound == {header_of(first).struct_hash(), header_of(second).struct_hash()}
    stage.world.wait(WINDOW)
    stage.world.by("stranger").advance(stage.world.run_id)
    watcher.step()
    assert (stage.state().num_final, stage.state().generation) == (2, 0)
    assert stage.faults() == []


# ------------------------------------------------------------------ lies that the file shows

Lie = Callable[[Stage], tuple[Opened, EpochFile]]


def _of_work(change: Callable[[Stage], Sequence[Any]]) -> Lie:
    def lie(stage: Stage) -> tuple[Opened, EpochFile]:
        file = stage.file(*change(stage))
        return opened(file), file

    return lie


def _padded_units(stage: Stage) -> Sequence[Any]:
    first, *rest = work(stage)
    return (first.model_copy(update={"units": 500}), *rest)


def _forged(stage: Stage) -> Sequence[Any]:
    first, *rest = work(stage)
    return (first.model_copy(update={"signature": rest[0].signature}), *rest)


def _future(stage: Stage) -> Sequence[Any]:
    return (stage.book.work("alice", 1, submitted_at=stage.book.at + 10_000),)


def _same_payload(stage: Stage) -> Sequence[Any]:
    same = keccak256(b"alice 1")
    return (stage.book.work("alice", 1), stage.book.work("bob", 1, payload_digest=same))


def _false_total(stage: Stage) -> tuple[Opened, EpochFile]:
    file = stage.file(*work(stage))
    return opened(file, total=header_of(file).total + 1), file


def _account(change: Callable[[list[AccountLeaf]], list[AccountLeaf]]) -> Lie:
    """A file whose accounts are the lie, under a header that leads to them."""

    def lie(stage: Stage) -> tuple[Opened, EpochFile]:
        file = stage.file(*work(stage))
        accounts = change(account_leaves(opened(file)))
        lied = file.model_copy(
            update={
                "accounts": tuple(
                    type(file.accounts[0])(
                        worker=a.worker, earned=a.earned, last_nonce=a.last_nonce
                    )
                    for a in accounts
                )
            }
        )
        return opened(lied), lied

    return lie


LIES: list[tuple[Fault, Lie]] = [
    (Fault.BAD_LEAF, _of_work(_padded_units)),
    (Fault.BAD_LEAF, _of_work(_forged)),
    (Fault.BAD_LEAF, _of_work(_future)),
    (Fault.DUPLICATE, _of_work(_same_payload)),
    (Fault.BAD_EDGE, _false_total),
    (Fault.BAD_ACCOUNT, _account(lambda x: [replace(x[0], earned=x[0].earned + 1), *x[1:]])),
    (Fault.BAD_ACCOUNT, _account(lambda x: [*x[:-1], replace(x[-1], last_nonce=9)])),
    (Fault.ACCOUNT_ORDER, _account(lambda x: x[::-1])),
]


@pytest.mark.parametrize(("fault", "lie"), LIES)
def test_a_lie_in_the_file_voids_its_epoch_and_costs_its_signers(
    stage: Stage, fault: Fault, lie: Lie
) -> None:
    false, file = lie(stage)
    stage.publish(file)
    header = replace(false.header, data_hash=keccak256(file.canonical()))
    stage.post(header)
    before = stage.stakes()
    stage.watcher().step()
    assert stage.faults() == [fault]
    assert (stage.state().num_posted, stage.state().committed) == (0, 0)
    lost = [was - now for was, now in zip(before, stage.stakes(), strict=True)]
    assert lost == [STAKE, STAKE, 0], "v0 and v1 signed"
    stage.watcher().step()
    assert len(stage.faults()) == 1, "another watcher finds nothing left to do"


@pytest.mark.parametrize(("fault", "lie"), LIES)
def test_every_call_that_is_found_is_taken_by_the_contract(
    stage: Stage, fault: Fault, lie: Lie
) -> None:
    false, file = lie(stage)
    stage.post(replace(false.header, data_hash=keccak256(file.canonical())))
    ledger = stage.world.by("stranger")
    posted = stage.posted()
    facts = facts_of(ledger, posted, now=ledger.block_time())
    shown = replace(false, header=replace(false.header, data_hash=posted.data_hash))
    found = list(find(shown, facts, before=accounts_of(None)))
    assert fault in {finding.fault for finding in found}
    for finding in found:
        with stage.world.undone():
            getattr(stage.world.by("stranger"), finding.method)(*finding.arguments)
            assert stage.faults() == [finding.fault]


def test_work_that_an_earlier_epoch_paid_is_found(stage: Stage) -> None:
    first = stage.file(*work(stage))
    stage.post_honest(first)
    again = stage.file(stage.book.work("alice", 2, 9), epoch=1, before=first)
    stage.post_honest(again)
    stage.watcher().step()
    assert stage.faults() == [Fault.STALE_NONCE]
    assert stage.state().num_posted == 1, "the honest epoch stands"


def test_a_payload_that_an_earlier_epoch_paid_to_somebody_else_is_found(stage: Stage) -> None:
    first = stage.file(*work(stage))
    stage.post_honest(first)
    stolen = stage.book.work("stranger", 1, payload_digest=keccak256(b"alice 1"))
    stage.post_honest(stage.file(stolen, epoch=1, before=first))
    stage.watcher().step()
    assert stage.faults() == [Fault.DUPLICATE]


def test_work_dated_when_nothing_was_owed_is_found(stage: Stage) -> None:
    world = stage.world
    world.open()
    world.by("operator").halt_run(world.run_id)
    world.wait(10)
    world.by("operator").mint(world.address("operator"), 1)
    late = world.by("stranger").block_time() - 1
    file = stage.file(stage.book.work("alice", 1, submitted_at=late))
    stage.publish(file)
    world.post(header_of(file))
    stage.watcher().step()
    assert stage.faults() == [Fault.BAD_LEAF]


def test_a_revoked_key_speaks_for_what_it_signed_before(stage: Stage) -> None:
    hot = key("alice's hot key")
    alice = stage.world.by("alice")
    alice.add_signer(hot.address, alice.sign_consent(hot, stage.world.address("alice")))
    signed = Book(stage.book.domain, stage.book.run_id, {"alice": bytes(hot.key)}, stage.book.at)
    item = signed.work("alice", 1, worker=stage.world.address("alice"))
    alice.revoke_signer(hot.address)
    stage.world.wait(REVOKE + 1)
    stage.post_honest(stage.file(item))
    watcher = stage.watcher()
    watcher.step()
    assert not stage.faults()
    assert len(watcher.sound) == 1


def test_a_dry_run_sends_nothing(stage: Stage) -> None:
    file = stage.file(*_padded_units(stage))
    stage.post_honest(file)
    before = stage.world.chain.head.number
    stage.watcher(sends=False).step()
    assert stage.world.chain.head.number == before


def test_a_watcher_goes_on_from_its_folder_after_a_restart(stage: Stage) -> None:
    first = stage.file(*work(stage))
    stage.post_honest(first)
    stage.watcher().step()
    stage.num_watchers -= 1
    stage.published.clear()
    again = stage.file(stage.book.work("alice", 2, 9), epoch=1, before=first)
    stage.post_honest(again)
    stage.watcher().step()
    assert stage.faults() == [Fault.STALE_NONCE], "by the file it kept"


@pytest.mark.parametrize("name", ["cursor.json", "events.jsonl", "paid.sqlite", "*.epoch"])
@pytest.mark.parametrize("left", [b"", b"{", bytes(5_000)], ids=["empty", "cut", "zeros"])
def test_a_watcher_whose_folder_was_damaged_reads_it_anew(
    stage: Stage, name: str, left: bytes
) -> None:
    first = stage.file(*work(stage))
    stage.post_honest(first)
    stage.watcher().step()
    stage.num_watchers -= 1
    [path] = (stage.folder / "stranger1").glob(name)
    path.write_bytes(left)
    stage.post_honest(stage.file(stage.book.work("alice", 2, 9), epoch=1, before=first))
    with capture_logs() as said:
        stage.watcher().step()
    assert stage.faults() == [Fault.STALE_NONCE]
    told = [entry["file"] for entry in said if entry["event"] == "file is damaged"]
    # An SQLite file without a page is an empty one, as in a new folder.
    assert told == ([] if name == "paid.sqlite" and len(left) < 512 else [str(path)])


def test_a_reorganisation_takes_its_postings_along(stage: Stage) -> None:
    watcher = stage.watcher()
    height = stage.world.chain.head.number
    stage.post_honest(stage.file(*_padded_units(stage)))
    watcher._journal.refresh()
    assert [event.name for event in watcher._journal.events][-1] == "EpochPosted"
    stage.world.chain.rewind(height)
    stage.world.ledgers.clear()
    honest = stage.file(*work(stage))
    stage.post_honest(honest)
    watcher.step()
    assert stage.faults() == []
    assert watcher.sound == {header_of(honest).struct_hash()}


def test_a_lie_retracted_in_front_of_its_proof_still_costs_its_signers(stage: Stage) -> None:
    file = stage.file(*_padded_units(stage))
    stage.post_honest(file)
    watcher = stage.watcher()
    stage.retract(0)
    assert stage.posted().fate is Fate.RETRACTED
    before = stage.stakes()
    watcher.step()
    lost = [was - now for was, now in zip(before, stage.stakes(), strict=True)]
    assert lost == [STAKE, STAKE, 0]
    watcher.step()
    assert len(stage.faults()) == 1


@pytest.mark.parametrize("left", [b"", b"no database" * 99])
def test_what_final_epochs_paid_is_known_though_the_index_of_it_was_lost(
    stage: Stage, left: bytes
) -> None:
    first = stage.file(*work(stage))
    stage.post_honest(first)
    stage.watcher().step()
    stage.num_watchers -= 1
    stage.world.wait(WINDOW + 1)
    stage.world.by("stranger").advance(stage.world.run_id)
    assert stage.state().num_final == 1
    (stage.folder / "stranger1" / "paid.sqlite").write_bytes(left)
    stolen = stage.book.work("stranger", 1, payload_digest=keccak256(b"alice 1"))
    stage.post_honest(stage.file(stolen, epoch=1, before=first))
    stage.watcher().step()
    assert stage.faults() == [Fault.DUPLICATE]
