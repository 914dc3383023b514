"""The background work of one orchestrator: watch the chain, free leases, settle, slash, renew permits.

Each job is a coroutine that may fail for a round (the chain restarts, Redis is away) and goes on in
the next. Of several copies of the orchestrator one sends to chain: a key's transactions are numbered, so
whichever job first finds nobody sending makes its process the sender of all.
"""

import asyncio
import secrets
import signal
from collections.abc import Awaitable, Callable

import structlog

from ledger.errors import ChainUnreachable, LedgerError
from orchestrator import epochs, gauges, leases, permits, restoring, slashes
from orchestrator.checks import canaries, withholding
from orchestrator.run import Run
from orchestrator.services import Services
from orchestrator.store.outage import Away
from orchestrator.watch import EpochWatch
from protocol.errors import MarketError

Job = Callable[[Services, Run], Awaitable[None]]

CANCEL_SECONDS = 1.0
"""How long a job that was told to end may take before it is told again."""


async def watch(services: Services, run: Run) -> None:
    """Look at the chain and for what the trainer has uploaded, say so; keep the verifiers' tests going."""
    await services.refresh(run)
    await gauges.observe(services, run)
    await canaries.tick(services, run)


async def free_leases(services: Services, run: Run) -> None:
    """Free leases past their deadline; where the run owes no more work, all of them soon after."""
    now, grace = services.clock(), services.config.lease_grace_seconds
    latest = now - grace
    if run.is_open:
        run.shut_at = None
    else:
        # Seen, not dated by the chain: work signed before may still be on its way for as long.
        run.shut_at = now if run.shut_at is None else run.shut_at
        if now - run.shut_at > grace:
            latest = now + run.spec.lease_seconds
    await leases.expire(services, run, latest=latest)


def of_the_chain(error: BaseException) -> bool:
    """Return whether an error says that the chain is away, which `Chain` has said already."""
    return isinstance(error, ChainUnreachable) or isinstance(error.__cause__, ChainUnreachable)


class Service:
    """Runs the jobs of every served run until it is closed."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._owner = secrets.token_hex(8)
        self._tasks: list[asyncio.Task[None]] = []
        self._epochs = EpochWatch(services.config.watch_folder)
        self._has_all_runs = False
        self._told: dict[tuple[str, int], str] = {}
        """What was said last of each job of each run, while it goes on failing."""
        self.failure: BaseException | None = None
        """What ended a job that should never end."""

    def start(self) -> None:
        config = self._services.config
        jobs = [
            ("watch", watch, config.chain_poll_seconds),
            ("leases", free_leases, config.tick_seconds),
            ("withheld", withholding.tick, config.tick_seconds),
            ("settle", self._alone(epochs.tick), config.tick_seconds),
            ("slash", self._alone(slashes.tick), config.tick_seconds),
            ("permit", self._alone(permits.tick), config.chain_poll_seconds),
        ]
        if config.watch_postings:
            jobs.append(("dispute", self._alone(self._epochs.tick), config.chain_poll_seconds))
        self._tasks = [asyncio.create_task(self._repeat(*job)) for job in jobs]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Stop without finishing the current round: every job may be repeated."""
        pending = set(self._tasks)
        for task in pending:
            task.remove_done_callback(self._ended)
        while pending:
            # More than once: the Redis client writes under `asyncio.wait_for`, which in Python 3.11 loses a
            # cancellation that meets the end of the write (CPython issue 86296).
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=CANCEL_SECONDS)

    def _alone(self, job: Job) -> Job:
        """Return a job that is done where no other copy sends to chain."""

        async def alone(services: Services, run: Run) -> None:
            async with services.store.runs.alone(self._owner) as is_ours:
                if is_ours:
                    await job(services, run)

        return alone

    async def _repeat(self, name: str, job: Job, seconds: float) -> None:
        while True:
            for run in await self._runs():
                await self._once(name, job, run)
            self._services.metrics.scorers_killed.set(self._services.rewards.num_killed)
            await asyncio.sleep(seconds)

    async def _once(self, name: str, job: Job, run: Run) -> None:
        log = structlog.get_logger()
        failures = self._services.metrics.background_failures.labels(name)
        told, place = "", (name, run.run_id)
        try:
            await job(self._services, run)
        except Away:
            failures.inc()  # the log knows why
        except (MarketError, LedgerError) as error:
            failures.inc()
            told = str(error)
            if told != self._told.get(place) and not of_the_chain(error):
                log.warning("background round failed: trying again", job=name, error=told)
        except Exception:
            # The boundary of a round: a defect met in one run must not end settlement for all of them in silence.
            failures.inc()
            log.exception("background job has a defect", job=name, run_id=run.run_id)
        self._told[place] = told

    async def _runs(self) -> list[Run]:
        log = structlog.get_logger()
        try:
            if not self._has_all_runs:
                await restoring.restore_runs(self._services)
                self._has_all_runs = True
            await self._services.recover()
        except Away:
            self._services.metrics.background_failures.labels("recover").inc()
        except (MarketError, LedgerError) as error:
            if not of_the_chain(error):
                log.warning("runs not recovered", error=str(error))
        except Exception:
            # A defect met here must not end the jobs of the runs that are served.
            self._services.metrics.background_failures.labels("recover").inc()
            log.exception("runs not recovered")
        return list(self._services.runs.values())

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Stop the server where a job ended by itself: a market that no longer settles must be seen."""
        cancelled = RuntimeError("cancelled by what it waited for")
        self.failure = cancelled if task.cancelled() else task.exception()
        structlog.get_logger().critical("background job died", error=repr(self.failure))
        signal.raise_signal(signal.SIGTERM)
