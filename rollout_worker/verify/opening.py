"""Open a verifier: the parts of its program, wired together once the market was looked at.

What it signed before is answered for, and accusations are, wherever the market is.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from client.look import look
from client.verifier import VerifierRoutes
from local.voice import stop_on_signals, telling
from rollout_worker.config import VerifierConfig
from rollout_worker.first_look import require_verifiable
from rollout_worker.replay.registry import require_device
from rollout_worker.routes import opened_routes
from rollout_worker.verify.epochs import Verifier
from rollout_worker.verify.kept import KeptFiles, answering
from rollout_worker.verify.main import serve
from rollout_worker.verify.pleas import Pleas
from rollout_worker.wallet import Wallet


def main(config: VerifierConfig, key: bytes) -> None:
    """Run one verifier until SIGINT or SIGTERM."""
    stop = threading.Event()
    told = ("verdicts", "tokens", "epochs_signed", "fraud_reports_signed", "waits_for")
    with (
        open_verifier(config, key, stop) as verifier,
        telling("verified", lambda: verifier.counters.brief(*told), seconds=config.tell_seconds),
    ):
        stop_on_signals(stop, "finishing the replays in hand")
        serve(verifier)


@contextmanager
def open_verifier(config: VerifierConfig, key: bytes, stop: threading.Event) -> Iterator[Verifier]:
    """Look at the market, then wire one verifier's parts together; its wallet is registered and staked."""
    wallet = Wallet.open(config.chain, key)
    kept = KeptFiles(wallet.ledger, config.data_dir / "signed", address=wallet.address)
    pleas = Pleas(wallet.ledger, wallet.identity())
    with answering(kept, pleas), _at_market(config, key, stop, wallet, kept) as verifier:
        yield verifier


@contextmanager
def _at_market(
    config: VerifierConfig, key: bytes, stop: threading.Event, wallet: Wallet, kept: KeptFiles
) -> Iterator[Verifier]:
    require_device(config.replay)
    runs = look(config.orchestrator)
    require_verifiable(wallet, runs, config.runs, at=config.orchestrator)
    wallet.prepare()
    with opened_routes(VerifierRoutes, config, key, wallet, role="verifier") as (routes, counters):
        yield Verifier(
            config=config,
            key=key,
            identity=wallet.identity(),
            domain=wallet.domain,
            routes=routes,
            wallet=wallet,
            kept=kept,
            counters=counters,
            stop=stop,
        )
