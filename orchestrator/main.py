"""Start an orchestrator (`rollcall serve`): open the doors, serve until a signal. Wiring only.

With several processes this one only watches over them: uvicorn's supervisor hands each the listening socket,
restarts one that died, and ends all of them.
"""

import asyncio
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path

import uvicorn
from eth_account import Account
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from ledger.deployment import Deployment
from ledger.ledger import Ledger
from orchestrator import metrics
from orchestrator.app import create_app
from orchestrator.chain import Chain
from orchestrator.config import PASSWORD_VARIABLE, OrchestratorConfig
from orchestrator.connections import queue_up, settings
from orchestrator.jobs import Service
from orchestrator.listening import require_free, require_named, tell_listening
from orchestrator.services import Services
from orchestrator.store.blobs import Blobs
from orchestrator.store.store import Store
from protocol.user_error import hosts_only

START_SECONDS = 120
"""A process that does not answer its watcher within this is replaced; one that starts imports everything first."""


def open_market(config: OrchestratorConfig, key: bytes, password: str) -> Services:
    """Connect to Redis, the blob store and the chain."""
    deployment = Deployment.load(Path(config.deployment))
    ledger = Ledger.connect(
        *(config.rpc_url, deployment, Account.from_key(key)), max_gas_gwei=config.max_gas_gwei
    )
    return Services(
        config,
        key,
        store=Store(config.redis_url, password),
        blobs=Blobs(config.blob_url),
        chain=Chain(ledger, at=hosts_only(config.rpc_url)),
    )


class Serving(uvicorn.Config):
    """How a process serves. This alone is sent to another process, which opens the rest by itself."""

    def __init__(
        self, config: OrchestratorConfig, key: bytes, password: str, begin: Callable[[], None]
    ) -> None:
        super().__init__(
            "",
            host=config.host,
            port=config.port,
            workers=config.processes,
            log_config=None,
            log_level="error",
            access_log=False,
            timeout_graceful_shutdown=5,
            timeout_worker_healthcheck=START_SECONDS,
        )
        self._market = (config, key, password)
        self._begin = begin
        self.service: Service | None = None

    def load(self) -> None:
        parent = parent_process()
        if parent is not None:
            self._begin()
            threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
        services = open_market(*self._market)
        self.service = Service(services)
        self.app = create_app(services, self.service)
        vars(self).update(settings(services.config.limits))
        super().load()

    def try_market(self, use: Callable[[Services], Awaitable[None]]) -> None:
        """Open the market as a process that serves does, for a moment.

        Outside of the loop, which would hold Ctrl-C back until the chain answers.
        """
        services = open_market(*self._market)

        async def tried() -> None:
            try:
                await use(services)
            finally:
                await services.close()

        asyncio.run(tried())


def _end_with(parent: BaseProcess) -> None:
    """End this process when its parent is gone, however it went: it would keep the port."""
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


class Server(uvicorn.Server):
    """uvicorn, ending with success when asked to end: its own handlers raise the signal again."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            queue_up(listener for server in self.servers for listener in server.sockets)
            services = self.config.app.state.services  # type: ignore[union-attr]
            await tell_listening(self.config.host, self.servers[0].sockets[0], services)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def main(config: OrchestratorConfig, key: bytes, begin: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM; `begin` is what every other process does first."""
    require_named(config.host, config.allowed_domains)
    require_free(config.host, config.port)
    # Taken out of the environment, so that no child inherits it.
    password = os.environ.pop(PASSWORD_VARIABLE, "")
    serving = Serving(config, key, password, begin)
    serving.try_market(_require_doors)
    if config.processes == 1:
        Server(serving).run()
        if serving.service is not None and serving.service.failure is not None:
            raise serving.service.failure
        return
    with tempfile.TemporaryDirectory(prefix="rollcall-metrics-") as folder:
        os.environ[metrics.SHARED_FOLDER] = folder
        listener = serving.bind_socket()
        listener.listen(serving.backlog)
        serving.try_market(partial(tell_listening, config.host, listener))
        supervisor = Multiprocess(serving, [listener])
        supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        sys.exit(STARTUP_FAILURE)


async def _require_doors(services: Services) -> None:
    """Raise `UserError` where Redis or the blob store is not fit to be served from: before anything listens."""
    await services.store.require_fit()
    await services.blobs.require_writable()
