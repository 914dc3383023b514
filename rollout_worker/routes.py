"""A role's routes at its orchestrator, with its cache, and the counters that it leaves behind at its end."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from client.cache import ContentCache
from client.connection import Connection
from client.counters import Counters
from client.verifier import VerifierRoutes
from client.worker import WorkerRoutes
from rollout_worker.config import RoleConfig
from rollout_worker.wallet import Wallet

Routes = TypeVar("Routes", WorkerRoutes, VerifierRoutes)


@contextmanager
def opened_routes(
    kind: type[Routes], config: RoleConfig, key: bytes, wallet: Wallet, *, role: str
) -> Iterator[tuple[Routes, Counters]]:
    """Open what a role needs to speak with its orchestrator, for the length of a `with`."""
    counters = Counters(config.data_dir, role, every_seconds=config.metrics_seconds)
    cache = ContentCache(config.data_dir / "cache", max_bytes=config.cache_bytes)
    connection = Connection(
        *(config.orchestrator, key),
        chain_id=wallet.domain.chain_id,
        retry=config.retry,
        counters=counters,
    )
    with kind(connection, cache, counters) as routes:
        counters.state(role, wallet.identity())
        counters.state("waits_for", "")
        try:
            yield routes, counters
        finally:
            counters.write(now=True)
