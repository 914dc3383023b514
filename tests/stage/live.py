"""A market on loopback for tests: chain, Redis and orchestrator as processes, a trainer by hand."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from eth_account import Account

from client.trainer import open_trainer_routes
from ledger.deployment import Deployment
from protocol.canonical import keccak256
from protocol.messages import EpochFile
from protocol.policies.manifest import HostTensor, Weights
from protocol.policies.patch import from_anchor
from protocol.run import RunSpec
from protocol.signing import Domain, address_of
from rollcall.cli.claim import claim
from rollcall.cli.desk import Desk
from rollcall.cli.launch import Launched, launch
from rollcall.cli.launch_config import LaunchConfig, Windows
from rollcall.cli.spec import RunPlan
from rollcall.demo.deploying import ensure_deployment, give_gas
from rollcall.demo.processes import Command, Processes
from rollcall.demo.services import (
    chain_command,
    free_port,
    redis_command,
    wait_for_chain,
    wait_for_http,
    wait_for_redis,
)
from rollout_worker.config import VerifierConfig, WorkerConfig
from tests.stage.bounds import COMMITTED
from tests.stage.bounds import thresholds as wide
from tests.stage.unfriendly import Habits, unfriendly
from tests.stage.whole import WholeLedger
from trainer.publish import Plan, Publisher

MODEL = Path("models/start")
STAKE_TOKENS = Decimal(1)
STAKE = 10**18
REDIS_PASSWORD = "of-every-market-on-this-stage"
WINDOWS = Windows(
    challenge=2, settle=60, resume=2, response=2, appeal=2, ruling=2, unbond=120, revoke=2, least=2
)


def key_of(name: str) -> bytes:
    return keccak256(f"rollcall worker tests: {name}".encode())


@dataclass
class LiveMarket:
    """One running market and what a test may do to it."""

    folder: Path
    processes: Processes
    url: str
    rpc_url: str
    orchestrator: Command
    config: LaunchConfig
    launched: Launched
    publisher: Publisher

    @property
    def run_id(self) -> int:
        return self.launched.run_id

    @property
    def spec(self) -> RunSpec:
        return self.launched.spec

    def ledger(self, name: str) -> WholeLedger:
        return WholeLedger.connect(
            self.rpc_url, self.launched.deployment, Account.from_key(key_of(name))
        )

    def claim(self, file: EpochFile, worker: str, *, by: str) -> int:
        """Claim for a worker from a final epoch's file, as `rollcall claim` does; return what was paid."""
        account = Account.from_key(key_of(by))
        desk = Desk(self.ledger(by), account, say=lambda _line: None, yes=True)
        return claim(desk, worker, [file])

    def launch_another(self, **plan: object) -> int:
        """Launch a second run beside the first, its version 0 published; return its id."""
        changed = self.config.plan.model_copy(update=plan)
        config = self.config.model_copy(update={"plan": changed})
        self.ledger("operator").mint(address_of(key_of("operator")), int(config.budget) * 10**18)
        launched = launch(config, key_of("operator"), lambda _: None)
        with published(launched, self.url):
            return launched.run_id

    def kill_orchestrator(self) -> None:
        running = self.processes["orchestrator"]
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.wait()

    def start_orchestrator(self) -> None:
        self.processes.start(self.orchestrator)

    def worker(self, name: str, **changes: object) -> WorkerConfig:
        values = {
            **self._role(name),
            "engine": {"name": "transformers"},
            "groups_per_call": 4,
            "metrics_seconds": 0.1,
        }
        return WorkerConfig.model_validate({**values, **changes})

    def verifier(self, name: str) -> VerifierConfig:
        return VerifierConfig.model_validate(self._role(name))

    def _role(self, name: str) -> dict[str, object]:
        return {
            "orchestrator": self.url,
            "data_dir": self.folder / name,
            "runs": [self.run_id],
            "poll_seconds": 0.1,
            "chain": {
                "rpc_url": self.rpc_url,
                "deployment": self.folder / "deployment.json",
                "stake": STAKE_TOKENS,
            },
            "retry": {"first_seconds": 0.05, "most_seconds": 0.2},
        }


ChainCommand = Callable[[Path, int, Sequence[str]], Command]


@contextmanager
def live_market(
    folder: Path,
    *,
    workers: tuple[str, ...],
    verifier: str,
    epoch_seconds: int = 3_600,
    max_worker_leases: int = 16,
    spenders: tuple[str, ...] = (),
    chain: ChainCommand = chain_command,
    habits: Habits | None = None,
    orchestrator_settings: Mapping[str, object] | None = None,
    plan: Mapping[str, object] | None = None,
    **launch_changes: object,
) -> Iterator[LiveMarket]:
    """Start a market whose run has published version 0 of the starting model.

    With `habits` every party's node is an unfriendly one. `spenders` get gas and nothing else; `launch_changes` are fields of LaunchConfig.
    """
    chain_port, redis_port, port = free_port(), free_port(), free_port()
    node_url, url = f"http://127.0.0.1:{chain_port}", f"http://127.0.0.1:{port}"
    names = ("operator", "orchestrator", verifier, *workers, *spenders)
    funded = [address_of(key_of(name)) for name in names]
    with Processes(folder / "logs") as processes, ExitStack() as stack:
        proxy = None if habits is None else stack.enter_context(unfriendly(node_url, habits))
        rpc_url = proxy.url if proxy else node_url
        processes.start(chain(folder / "chain", chain_port, funded))
        processes.start(redis_command(folder / "redis", redis_port, REDIS_PASSWORD))
        settings = dict(orchestrator_settings or {})
        orchestrator = _orchestrator(folder, port, redis_port, rpc_url, settings)
        wait_for_redis(processes, redis_port, REDIS_PASSWORD)
        wait_for_chain(processes, node_url)
        give_gas(node_url, funded)
        config = _launch_config(
            folder,
            url=url,
            rpc_url=rpc_url,
            verifier=verifier,
            workers=workers,
            plan={
                "epoch_seconds": epoch_seconds,
                "max_worker_leases": max_worker_leases,
                **(plan or {}),
            },
        )
        config = LaunchConfig.model_validate({**config.model_dump(), **launch_changes})
        launched = _launched(config, processes, orchestrator, url)
        with published(launched, url) as publisher:
            yield LiveMarket(
                folder, processes, url, rpc_url, orchestrator, config, launched, publisher
            )


@contextmanager
def published(launched: Launched, url: str) -> Iterator[Publisher]:
    """Publish version 0 of the starting model as the run's trainer."""
    with open_trainer_routes(url, launched.run_id, key_of("trainer")) as client:
        for name in ("config.json", "tokenizer.json"):
            client.put_blob((MODEL / name).read_bytes())
        publisher = Publisher(
            client=client,
            domain=_domain(launched.deployment),
            run_id=launched.run_id,
            spec=launched.spec,
            key=key_of("trainer"),
            plan=Plan(anchor_every=4, skip_patches=(2,)),
        )
        publisher.publish(0, start_weights())
        yield publisher


def start_weights() -> dict[str, HostTensor]:
    return from_anchor((MODEL / "model.safetensors").read_bytes())


def nudged(weights: Weights) -> dict[str, HostTensor]:
    """Move a hundredth of the bit patterns by one: about what an optimizer step does."""
    moved = {}
    for name, tensor in weights.items():
        bits = tensor.bits.copy()
        bits[::100] ^= 1
        moved[name] = HostTensor(tensor.dtype, tensor.shape, bits)
    return moved


def _domain(deployment: Deployment) -> Domain:
    return Domain(deployment.chain_id, deployment.ledger)


def _orchestrator(
    folder: Path, port: int, redis_port: int, rpc_url: str, settings: Mapping[str, object]
) -> Command:
    config = folder / "orchestrator.toml"
    lines = {
        "port": port,
        "redis_url": f"redis://127.0.0.1:{redis_port}/0",
        "blob_url": f"file://{folder / 'blobs'}",
        "rpc_url": rpc_url,
        "deployment": str(folder / "deployment.json"),
        "chain_poll_seconds": 0.3,
        "tick_seconds": 0.2,
        **settings,
    }
    config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items()))
    argv = (sys.executable, "-m", "rollcall", "serve", "--config", str(config))
    key = "0x" + key_of("orchestrator").hex()
    secrets = {"ROLLCALL_KEY": key, "ROLLCALL_REDIS_PASSWORD": REDIS_PASSWORD}
    return Command("orchestrator", argv, secrets)


def _launch_config(
    folder: Path,
    *,
    url: str,
    rpc_url: str,
    verifier: str,
    workers: tuple[str, ...],
    plan: Mapping[str, object],
) -> LaunchConfig:
    thresholds = folder / "thresholds.json"
    dtype = RunPlan.model_validate(plan).compute_dtype
    thresholds.write_bytes(wide(COMMITTED.model_digest, compute_dtype=dtype).to_json())
    parties = tuple(address_of(key_of(name)) for name in (verifier, *workers))
    return LaunchConfig(
        rpc_url=rpc_url,
        deployment=folder / "deployment.json",
        deploy="with_test_token",
        orchestrator=url,
        orchestrator_address=address_of(key_of("orchestrator")),
        trainer_address=address_of(key_of("trainer")),
        verifiers=parties[:1],
        endow=parties,
        min_stake=STAKE_TOKENS,
        budget=Decimal(10_000),
        windows=WINDOWS,
        plan=RunPlan.model_validate(
            {"model": MODEL, "thresholds": thresholds, "groups_per_batch": 4_096, **plan}
        ),
    )


def _launched(
    config: LaunchConfig, processes: Processes, orchestrator: Command, url: str
) -> Launched:
    """Deploy first, for the orchestrator reads the deployment at start; then launch."""

    operator, orchestrating = key_of("operator"), key_of("orchestrator")
    deployment = ensure_deployment(config, Account.from_key(operator), lambda _: None)
    processes.start(orchestrator)
    wait_for_http(processes, "orchestrator", f"{url}/readyz")
    ledger = WholeLedger.connect(config.rpc_url, deployment, Account.from_key(orchestrating))
    consent = ledger.sign_consent(Account.from_key(orchestrating), address_of(operator))
    ready = config.model_copy(update={"orchestrator_consent": "0x" + consent.hex()})
    return launch(ready, operator, lambda _: None)
