"""Start one orchestrator: `python -m orchestrator --config FILE`. Wiring only."""

import argparse
import asyncio
import os
import tomllib
from pathlib import Path

import uvicorn
from eth_account import Account

from contracts.client import Ledger
from contracts.deployment import Deployment
from orchestrator.app import create_app
from orchestrator.blobs import Blobs
from orchestrator.chain import Chain
from orchestrator.config import Config
from orchestrator.market import Market
from orchestrator.queue import Queue
from orchestrator.service import Service


def open_market(config: Config, key: bytes) -> Market:
    """Connect to Redis, the blob store and the chain."""
    deployment = Deployment.load(Path(config.deployment))
    ledger = Ledger.connect(config.rpc_url, deployment, Account.from_key(key))
    return Market(
        config,
        key,
        queue=Queue(config.redis_url),
        blobs=Blobs(config.blob_url),
        chain=Chain(ledger),
    )


async def main(config: Config, key: bytes) -> None:
    """Serve until SIGINT or SIGTERM."""
    market = open_market(config, key)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(market, Service(market)),
            host=config.host,
            port=config.port,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=5,
        )
    )
    await server.serve()


def run() -> None:
    """Read the file and the key. `rollcall serve` offers more settings from the command line."""
    parser = argparse.ArgumentParser(prog="orchestrator", description=__doc__)
    parser.add_argument(
        "--config", type=Path, required=True, help="TOML file of orchestrator/config.py"
    )
    config = Config.model_validate(tomllib.loads(parser.parse_args().config.read_text()))
    asyncio.run(main(config, bytes.fromhex(os.environ["ROLLCALL_KEY"].removeprefix("0x"))))


if __name__ == "__main__":
    run()
