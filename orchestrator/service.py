"""The background work of one orchestrator: watch the chain, free leases, settle, slash.

Each job is a coroutine that may fail for a round (the chain restarts, Redis is away) and goes on in
the next. With several copies of the orchestrator, one holds the settler's lock and sends to chain.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable

import structlog

from contracts.errors import LedgerError
from contracts.state import RunStatus
from orchestrator import keys, leasing, settling, slashing
from orchestrator.market import Market, Run
from protocol.errors import MarketError

Job = Callable[[Market, Run], Awaitable[None]]


async def watch(market: Market, run: Run) -> None:
    """Look at the chain and for what the trainer has uploaded."""
    await market.refresh(run)


async def free_leases(market: Market, run: Run) -> None:
    """Free leases past their deadline; when the run has ended, all of them soon after its end."""
    now = market.clock()
    latest = now - market.config.lease_grace_seconds
    if run.chain.status in (RunStatus.STOPPED, RunStatus.CLOSED) and run.chain.cutoff:
        ended = await market.chain.block_time() - run.chain.cutoff
        if ended > market.config.lease_grace_seconds:
            latest = now + run.spec.lease_seconds
    await leasing.expire(market, run, latest=latest)


class Service:
    """Runs the jobs of every served run until it is closed."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._owner = secrets.token_hex(8)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        config = self._market.config
        self._tasks = [
            asyncio.create_task(self._repeat("watch", watch, config.chain_poll_seconds)),
            asyncio.create_task(self._repeat("leases", free_leases, config.tick_seconds)),
            asyncio.create_task(self._repeat("settle", self.settle, config.tick_seconds)),
        ]

    async def close(self) -> None:
        """Finish the round in progress nowhere: every job may be repeated."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def settle(self, market: Market, run: Run) -> None:
        """Settle and slash, where no other copy does."""
        seconds = keys.SETTLER_SECONDS
        async with market.queue.lock(run.run_id, "settler", self._owner, seconds) as is_ours:
            if is_ours:
                await settling.tick(market, run)
                await slashing.tick(market, run)

    async def _repeat(self, name: str, job: Job, seconds: float) -> None:
        log = structlog.get_logger()
        while True:
            for run in await self._runs():
                try:
                    await job(self._market, run)
                except (MarketError, LedgerError) as error:
                    self._market.metrics.background_failures.labels(name).inc()
                    log.warning("background round failed", job=name, error=str(error))
                except Exception:
                    # The boundary of a round: a defect met in one run must not end settlement for all of them in silence.
                    self._market.metrics.background_failures.labels(name).inc()
                    log.exception("background job has a defect", job=name, run_id=run.run_id)
            self._market.metrics.scorers_killed.set(self._market.rewards.num_killed)
            await asyncio.sleep(seconds)

    async def _runs(self) -> list[Run]:
        try:
            await self._market.recover()
        except (MarketError, LedgerError) as error:
            structlog.get_logger().warning("runs not recovered", error=str(error))
        return list(self._market.runs.values())
