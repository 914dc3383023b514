"""The one door to what outlives a request: a method for each fact, by subject.

No other file forms a key or sends a command. A method is one atomic step unless it says otherwise, and
may be repeated after a crash. Rules live in `rules/`; this package carries values.
"""

from orchestrator.store.batches import Batches
from orchestrator.store.canaries import Canaries
from orchestrator.store.epochs import Epochs
from orchestrator.store.events import Events
from orchestrator.store.groups import Groups
from orchestrator.store.leases import Leases
from orchestrator.store.policies import Policies
from orchestrator.store.queue import Queue
from orchestrator.store.reports import Reports
from orchestrator.store.runs import Runs
from orchestrator.store.tallies import Tallies
from orchestrator.store.verifiers import Verifiers
from orchestrator.store.votes import Votes
from orchestrator.store.workers import Workers


class Store:
    """The facts of all runs, in one Redis."""

    def __init__(self, url: str) -> None:
        self.queue = Queue(url)
        self.runs = Runs(self.queue)
        self.events = Events(self.queue)
        self.leases = Leases(self.queue)
        self.groups = Groups(self.queue)
        self.workers = Workers(self.queue)
        self.tallies = Tallies(self.queue)
        self.verifiers = Verifiers(self.queue)
        self.canaries = Canaries(self.queue)
        self.votes = Votes(self.queue)
        self.reports = Reports(self.queue)
        self.batches = Batches(self.queue)
        self.policies = Policies(self.queue)
        self.epochs = Epochs(self.queue)

    async def close(self) -> None:
        await self.queue.close()
