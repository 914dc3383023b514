"""Start one orchestrator (`rollcall serve`): open the doors, serve until a signal. Wiring only."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
import uvicorn
from eth_account import Account

from ledger.deployment import Deployment
from ledger.ledger import Ledger
from orchestrator.app import create_app
from orchestrator.chain import Chain
from orchestrator.config import PASSWORD_VARIABLE, OrchestratorConfig
from orchestrator.connections import queue_up, settings
from orchestrator.jobs import Service
from orchestrator.listening import require_free, tell_listening
from orchestrator.services import Services
from orchestrator.store.blobs import Blobs
from orchestrator.store.store import Store
from protocol.user_error import hosts_only


def open_market(config: OrchestratorConfig, key: bytes) -> Services:
    """Connect to Redis, the blob store and the chain."""
    deployment = Deployment.load(Path(config.deployment))
    ledger = Ledger.connect(
        *(config.rpc_url, deployment, Account.from_key(key)), max_gas_gwei=config.max_gas_gwei
    )
    return Services(
        config,
        key,
        # Taken out of the environment, so that no child inherits it.
        store=Store(config.redis_url, os.environ.pop(PASSWORD_VARIABLE, "")),
        blobs=Blobs(config.blob_url),
        chain=Chain(ledger, at=hosts_only(config.rpc_url)),
    )


class Server(uvicorn.Server):
    """uvicorn, ending with success when asked to end: its own handlers raise the signal again."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            queue_up(listener for server in self.servers for listener in server.sockets)
            await tell_listening(self.config, self.config.app.state.services)  # type: ignore[union-attr]

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def main(config: OrchestratorConfig, key: bytes) -> None:
    """Serve until SIGINT or SIGTERM."""
    require_free(config.host, config.port)
    services = open_market(config, key)
    service = Service(services)
    await services.store.require_fit()
    await services.blobs.require_writable()
    if not config.allowed_domains and config.host not in ("127.0.0.1", "localhost", "::1"):
        # Another site could pass on what a wallet signed for it, with the Host header to match.
        log = structlog.get_logger()
        log.warning("sign-in for any domain", remedy="set allowed_domains to the names served")
    server = Server(
        uvicorn.Config(
            create_app(services, service),
            host=config.host,
            port=config.port,
            timeout_graceful_shutdown=5,
            **settings(config.limits),
        )
    )
    await server.serve()
    if service.failure is not None:
        raise service.failure
