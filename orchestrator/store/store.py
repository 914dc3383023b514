"""The one door to what outlives a request: a method for each fact, by subject.

No other file forms a key or sends a command. A method is one atomic step unless it says otherwise, and
may be repeated after a crash. Rules live in `rules/`; this package carries values.
"""

from orchestrator.store.batches import BatchStore
from orchestrator.store.canaries import CanaryStore
from orchestrator.store.condition import Finding
from orchestrator.store.epochs import EpochStore
from orchestrator.store.events import EventStore
from orchestrator.store.groups import GroupStore
from orchestrator.store.leases import LeaseStore
from orchestrator.store.policies import PolicyStore
from orchestrator.store.queue import Queue
from orchestrator.store.reports import ReportStore
from orchestrator.store.runs import RunStore
from orchestrator.store.tallies import TallyStore
from orchestrator.store.verifiers import VerifierStore
from orchestrator.store.votes import VoteStore
from orchestrator.store.workers import WorkerStore


class Store:
    """The facts of all runs, in one Redis."""

    def __init__(self, url: str, password: str = "") -> None:
        self.queue = Queue(url, password)
        self.runs = RunStore(self.queue)
        self.events = EventStore(self.queue)
        self.leases = LeaseStore(self.queue)
        self.groups = GroupStore(self.queue)
        self.workers = WorkerStore(self.queue)
        self.tallies = TallyStore(self.queue)
        self.verifiers = VerifierStore(self.queue)
        self.canaries = CanaryStore(self.queue)
        self.votes = VoteStore(self.queue)
        self.reports = ReportStore(self.queue)
        self.batches = BatchStore(self.queue)
        self.policies = PolicyStore(self.queue)
        self.epochs = EpochStore(self.queue)

    async def look(self) -> list[Finding]:
        """Return what is to be known of the Redis; raise `Away` where it may yet come."""
        return await self.queue.look()

    async def require_fit(self) -> None:
        """Raise `UserError` where no market can be on this Redis."""
        await self.queue.require_fit()

    async def close(self) -> None:
        await self.queue.close()
