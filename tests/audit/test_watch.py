"""A watcher on a real EVM: every kind of lie voids its epoch and costs its signers; truth is left alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from audit.chain_facts import domain_of, facts_of
from audit.fraud import find
from audit.hidden.responder import open_slots
from audit.history import Dispute, Fate, History, Posted
from audit.published import Opened
from audit.watcher import Mandate, Watcher
from ledger.state import DisputeKind, Fault
from protocol.canonical import keccak256
from protocol.epoch import AccountLeaf, EpochHeader, RetractEpoch
from protocol.messages import EpochFile
from tests.stage.books import (
    NUM_PARAMETERS,
    Book,
    account_leaves,
    accounts_of,
    header_of,
    opened,
    with_accounts,
    with_work,
    work_leaves,
)
from tests.stage.terms import key
from tests.stage.world import BUDGET, RESPONSE, REVOKE, SECRET, STAKE, WINDOW, World


@dataclass
class Stage:
    """A run whose epochs are real signed work, and the place where its files are published."""

    world: World
    folder: Path
    book: Book
    published: dict[bytes, bytes] = field(default_factory=dict)
    last: EpochFile | None = None
    num_watchers: int = 0

    def watcher(self, name: str = "stranger", **allowed: Any) -> Watcher:
        self.num_watchers += 1
        return Watcher(
            self.world.by(name),
            self.folder / f"{name}{self.num_watchers}",
            address=self.world.address(name),
            files=lambda posted: self.published.get(posted.data_hash),
            policy=Mandate(**allowed),
        )

    def file(self, *work: Any, epoch: int = 0, before: EpochFile | None = None) -> EpochFile:
        generation = self.world.by("stranger").run(self.world.run_id).generation
        return self.book.file(epoch, work, before, secret=SECRET, generation=generation)

    def publish(self, file: EpochFile) -> None:
        self.published[keccak256(file.canonical())] = file.canonical()

    def post(self, header: EpochHeader) -> None:
        self.world.open()
        self.world.post(header)

    def post_honest(self, file: EpochFile) -> None:
        self.publish(file)
        self.post(header_of(file))

    def fund(self, name: str) -> None:
        """Give somebody what bonds are paid from."""
        self.world.by(name).mint(self.world.address(name), 10 * STAKE)

    def retract(self, epoch: int) -> None:
        """Have the quorum take its posting back."""
        run_id = self.world.run_id
        stands = self.world.by("v0").epoch(run_id, epoch).header_hash
        message = RetractEpoch(run_id, epoch, self.state().generation, stands)
        signatures = self.world.signed(message.struct_hash(), "v1", "v2")
        self.world.by("v0").retract_epoch(run_id, epoch, signatures)

    def state(self) -> Any:
        return self.world.by("stranger").run(self.world.run_id)

    def stakes(self) -> list[int]:
        return [self.world.by("stranger").stake_of(self.world.address(f"v{n}")) for n in range(3)]

    def faults(self) -> list[Fault]:
        events = self.world.by("stranger").events().poll()
        return [Fault(e.values["fault"]) for e in events if e.name == "FraudProven"]

    def posted(self) -> Posted:
        history = History.of(self.world.by("stranger").events().poll())
        return list(history.postings.values())[-1]


@pytest.fixture
def stage(world: World, tmp_path: Path) -> Stage:
    return staged(world, tmp_path)


def staged(world: World, folder: Path) -> Stage:
    """Return a new run on a world, whose watchers keep their things in `folder`."""
    params = world.params(num_parameters=NUM_PARAMETERS)
    world.run_id = world.by("operator").create_run(params, BUDGET, "ipfs://spec")
    ledger = world.by("stranger")
    keys = {name: bytes(world.people[name].key) for name in ("alice", "bob", "stranger")}
    book = Book(domain_of(ledger), world.run_id, keys, ledger.block_time())
    return Stage(world, folder, book)


def work(stage: Stage) -> tuple[Any, ...]:
    book = stage.book
    return (book.work("alice", 1), book.work("alice", 2, 9), book.work("bob", 5, 7))


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


# ------------------------------------------------------------------ lies that the file hides


def padded(file: EpochFile, by: int = 100) -> Opened:
    """Return the epoch whose signed tree pads its sums from the middle on, unlike its file."""
    honest = opened(file)
    leaves = work_leaves(honest)
    middle = len(leaves) // 2
    for place in range(middle, len(leaves)):
        leaf = leaves[place]
        leaves[place] = replace(leaf, epoch_sum=leaf.epoch_sum + by)
    return with_work(honest, leaves, total=honest.header.total + by)


def many(stage: Stage, count: int) -> EpochFile:
    return stage.file(*(stage.book.work("alice", nonce + 1, 2) for nonce in range(count)))


def answer(stage: Stage, truth: Opened, name: str = "v0") -> int:
    """Have somebody who knows the signed trees answer every open demand; return how many."""
    ledger = stage.world.by(name)
    history = History.of(ledger.events().poll())
    open_now = [d for d in history.disputes.values() if d.is_open]
    for dispute in open_now:
        slots = list(range(len(dispute.indices)))
        common = (dispute.dispute_id, truth.header, dispute.indices, slots)
        if dispute.kind is DisputeKind.WORK:
            leaves = [truth.work_at(place) for place in dispute.indices]
            signatures = [truth.signatures[place] for place in dispute.indices]
            ledger.answer_work(*common, leaves, signatures)
        else:
            ledger.answer_accounts(*common, [truth.account_at(p) for p in dispute.indices])
    return len(open_now)


def test_sums_that_the_file_hides_are_found_by_demands(stage: Stage) -> None:
    file = many(stage, 150)
    stage.publish(file)
    false = padded(file)
    stage.post(false.header)
    stage.fund("stranger")
    quiet, watcher = stage.watcher(), stage.watcher(demands=True)
    quiet.step()
    assert stage.faults() == [], "without bonds a watcher can only tell"
    rounds = 0
    while not stage.faults() and rounds < 2:
        watcher.step()
        rounds += answer(stage, false)
        watcher.step()
    assert rounds <= 2, "ceil(log100(150))"
    assert stage.faults() == [Fault.BAD_PAIR]
    assert stage.state().num_posted == 0


def test_silence_about_demanded_leaves_voids_the_epoch(stage: Stage) -> None:
    file = many(stage, 3)
    stage.publish(file)
    stage.post(padded(file).header)
    stage.fund("stranger")
    watcher = stage.watcher(demands=True)
    watcher.step()
    credit = stage.world.by("stranger").stake_credit(stage.world.address("stranger"))
    stage.world.wait(RESPONSE)
    watcher.step()
    assert stage.faults() == [Fault.UNANSWERED]
    gained = stage.world.by("stranger").stake_credit(stage.world.address("stranger")) - credit
    assert gained > STAKE // 4, "the bond, and a quarter of what two signers lost"


def test_accounts_that_the_file_hides_are_found_by_demands(stage: Stage) -> None:
    file = stage.file(*work(stage))
    stage.publish(file)
    honest = opened(file)
    accounts = account_leaves(honest)
    accounts[0] = replace(accounts[0], earned=accounts[0].earned + 50)
    false = with_accounts(honest, accounts)
    stage.post(false.header)
    stage.fund("stranger")
    watcher = stage.watcher(demands=True)
    watcher.step()
    assert answer(stage, false) == 1
    watcher.step()
    assert stage.faults() == [Fault.BAD_ACCOUNT]


def test_a_withheld_file_is_brought_before_the_arbiter_once_its_time_has_passed(
    stage: Stage,
) -> None:
    file = stage.file(*work(stage))
    stage.post(header_of(file))
    stage.fund("stranger")
    watcher = stage.watcher(escalates=True)
    watcher.step()
    assert not stage_disputes(stage), "a file may come a little late"
    stage.world.wait(WINDOW // 2)
    watcher.step()
    [dispute] = stage_disputes(stage)
    assert dispute.kind is DisputeKind.ESCALATION
    watcher.step()
    assert len(stage_disputes(stage)) == 1
    stage.world.by("arbiter").rule(dispute.dispute_id, True)
    assert stage.faults() == [Fault.ESCALATION]


def test_a_withheld_file_without_an_arbiter_is_asked_for_by_its_edges(stage: Stage) -> None:
    stage.post(header_of(stage.file(*work(stage))))
    stage.fund("stranger")
    stage.world.wait(WINDOW // 2)
    stage.watcher(demands=True).step()
    [dispute] = stage_disputes(stage)
    assert (dispute.kind, dispute.indices) == (DisputeKind.WORK, (0, 1, 2))


# ------------------------------------------------------------------ answering, and the rest of a life


def stage_disputes(stage: Stage) -> list[Dispute]:
    history = History.of(stage.world.by("stranger").events().poll())
    return list(history.disputes.values())


@pytest.mark.parametrize("tree", [DisputeKind.WORK, DisputeKind.ACCOUNTS])
def test_a_griefing_demand_about_an_honest_epoch_is_answered(
    stage: Stage, tree: DisputeKind
) -> None:
    file = many(stage, 60) if tree is DisputeKind.WORK else stage.file(*work(stage))
    stage.post_honest(file)
    stage.fund("bob")
    count = 60 if tree is DisputeKind.WORK else 2
    stage.world.by("bob").demand(header_of(file), tree, tuple(range(count)))
    stage.watcher(answers=False).step()
    assert stage_disputes(stage)[0].is_open
    stage.watcher().step()
    [dispute] = stage_disputes(stage)
    assert not dispute.is_open
    assert dispute.answered == set(range(count))
    assert stage.faults() == []


def test_a_demand_that_is_answered_in_part_is_answered_for_the_rest(stage: Stage) -> None:
    file = many(stage, 4)
    stage.post_honest(file)
    stage.fund("bob")
    stage.world.by("bob").demand(header_of(file), DisputeKind.WORK, (0, 1, 3))
    [asked] = stage_disputes(stage)
    truth = opened(file)
    question = (asked.dispute_id, truth.header, asked.indices, [1])
    stage.world.by("v0").answer_work(*question, [truth.work_at(1)], [truth.signatures[1]])
    unanswered = stage.world.by("bob").dispute(asked.dispute_id).unanswered
    assert open_slots(unanswered, 3) == [0, 2]
    stage.watcher().step()
    assert not stage_disputes(stage)[0].is_open


def test_an_open_slot_is_told_by_the_ledger_and_not_by_the_place_it_names() -> None:
    assert open_slots(0b10, 2) == [1], "of a leaf demanded twice, both slots want an answer"
    assert open_slots(0, 100) == []


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
