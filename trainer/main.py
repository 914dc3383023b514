"""Start one trainer (`rollcall train`) from its config and key; end it between steps on SIGINT or SIGTERM."""

import signal
import threading

import structlog
import torch

from trainer.client import Client, Stopped
from trainer.config import Config
from trainer.loop import open_trainer


def main(config: Config, key: bytes) -> None:
    """Train the run to `config.steps`, or until a signal; return either way."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    torch.set_num_threads(config.threads)
    # The same numbers in every life: a recomputed step must give the published digest.
    torch.use_deterministic_algorithms(True)
    log = structlog.get_logger()
    with Client(
        config.orchestrator, config.run_id, key, stop=stop, poll_seconds=config.poll_seconds
    ) as client:
        try:
            with open_trainer(config, key, client) as trainer:
                trainer.train()
        except Stopped:
            log.info("stopped on request; the last checkpoint is where training goes on")
            return
    log.info("training is complete", version=config.steps)
