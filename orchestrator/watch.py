"""Watch the runs this orchestrator serves: prove false postings, answer demands about its own epochs and claims
by its receipts.

Anyone may post what a quorum signed, so the orchestrator looks at every posting as a stranger would
(`audit/watcher.py`), with the files that its blob store holds. It puts down no bonds: where nothing
can be proven the operator is told.
"""

import asyncio
import tempfile
from pathlib import Path

from audit.history import Posted
from audit.watcher import Mandate, Watcher
from orchestrator.run import Run
from orchestrator.services import Services
from protocol.canonical import keccak256
from protocol.epoch import blob_of
from protocol.errors import Busy, NotFound
from protocol.verdict import Verdict

BLOB_SECONDS = 60.0
"""A file of 100,000 groups is 35 MB; a store that takes longer counts as one that has not got it yet."""


class EpochWatch:
    """A watcher per served run. What it keeps in `folder` only spares it reading the chain again.

    Example: `watch = EpochWatch("watch")`, then `await watch.tick(market, run)`, over and over
    """

    def __init__(self, folder: str) -> None:
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="rollcall-watch-")
        self._folder = Path(self._temporary.name if self._temporary else folder)
        self._watchers: dict[int, Watcher] = {}

    async def tick(self, services: Services, run: Run) -> None:
        """One round: may be repeated, and done by several copies at once."""
        watcher = self._watchers.get(run.run_id)
        if watcher is None:
            watcher = await asyncio.to_thread(self._open, services, run, asyncio.get_running_loop())
            self._watchers[run.run_id] = watcher
        await asyncio.to_thread(watcher.step)

    def _open(self, services: Services, run: Run, loop: asyncio.AbstractEventLoop) -> Watcher:
        def files(posted: Posted) -> bytes | None:
            found = asyncio.run_coroutine_threadsafe(_file(services, run, posted), loop)
            return found.result(BLOB_SECONDS)

        def verdicts(run_id: int, digest: bytes) -> tuple[Verdict, ...]:
            kept = services.store.groups.verdicts(run_id, digest)
            return asyncio.run_coroutine_threadsafe(kept, loop).result(BLOB_SECONDS)

        return Watcher(
            services.chain.ledger,
            self._folder / str(run.run_id),
            address=services.address,
            files=files,
            policy=Mandate(run_ids=(run.run_id,)),
            verdicts=verdicts,
        )


async def _file(services: Services, run: Run, posted: Posted) -> bytes | None:
    """Return what was signed, by our own record or else by the URI, which whoever posts may invent."""
    record = await services.store.epochs.epoch(run.run_id, posted.epoch)
    for digest in (record.file if record else None, blob_of(posted.uri)):
        data = None if digest is None else await _blob(services, digest)
        if data is not None and keccak256(data) == posted.data_hash:
            return data
    return None


async def _blob(services: Services, digest: bytes) -> bytes | None:
    try:
        return await services.blobs.get(digest)
    except (NotFound, Busy, ValueError):
        return None
