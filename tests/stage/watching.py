"""A run whose epochs are real signed work, watched from folders, and the place where its files are published."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audit.chain_facts import domain_of
from audit.history import History, Posted
from audit.watcher import Mandate, Watcher
from ledger.state import Fault
from protocol.canonical import keccak256
from protocol.epoch import EpochHeader, RetractEpoch
from protocol.messages import EpochFile
from tests.stage.books import NUM_PARAMETERS, Book, header_of
from tests.stage.world import BUDGET, SECRET, STAKE, World


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
