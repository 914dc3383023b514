"""The one-machine market: who takes part, and each role's command, config and key.

The commands are those of `compose.yaml` and of `docs/across-machines.md` (a test holds them
together): `rollcall ROLE --config FILE`, with its secrets in the environment.
"""

import json
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel

from local.files import read_lines
from protocol.signing import address_of
from rollcall.cli.launch_config import LaunchConfig, Windows
from rollcall.cli.spec import RunPlan
from rollcall.demo.processes import Command
from rollcall.frame.keys import KEY_VARIABLE, new_key
from rollcall.frame.settings import to_toml

if TYPE_CHECKING:
    from trainer.evaluations import Evaluations

COMMAND_OF = {
    "orchestrator": "serve",
    "trainer": "train",
    "verifier": "verify",
    "worker": "join",
    "launch": "launch",
}
"""The `rollcall` command of each role."""

ROLE_ENVIRONMENT = {"OMP_NUM_THREADS": "1"}
"""Set beside the key: otherwise every torch process would take all cores from the others."""

STAKE_TOKENS, ESCROW_TOKENS = Decimal(1), Decimal(100)
STAKE = int(STAKE_TOKENS) * 10**18
CHEAT_BITS = 4
"""The cheat samples from weights rounded to this many bits, which a smaller card could hold."""


@dataclass(frozen=True, slots=True)
class Party:
    """One participant: a process name and its key."""

    name: str
    key: bytes

    @property
    def address(self) -> str:
        return address_of(self.key)


@dataclass(frozen=True, slots=True)
class WorkerParty:
    """A worker of the demo: its engine, how much it samples at once, and whether it cheats."""

    party: Party
    engine: str
    groups_per_call: int
    quantise_bits: int = 0

    @property
    def is_cheat(self) -> bool:
        return self.quantise_bits > 0


@dataclass(frozen=True, slots=True)
class Places:
    """The places of one market's parts, as every role's config names them.

    Example: the demo's are loopback ports and a folder; `compose.yaml`'s are service names and /data.
    """

    url: str
    rpc_url: str
    redis_url: str
    blobs: Path
    deployment: Path
    data: Path
    host: str
    port: int


def demo_workers() -> tuple[WorkerParty, ...]:
    """Return the demo's workers: one on vLLM, one on transformers, one that cheats."""
    return (
        WorkerParty(Party("worker-vllm", new_key()), "vllm", groups_per_call=16),
        WorkerParty(Party("worker-transformers", new_key()), "transformers", groups_per_call=8),
        WorkerParty(
            Party("worker-cheat", new_key()),
            "transformers",
            groups_per_call=8,
            quantise_bits=CHEAT_BITS,
        ),
    )


def role_command(name: str, role: str, config: Path, key: bytes, *, redis_password: str) -> Command:
    """Return one role as a process; the orchestrator alone is told the password of Redis."""
    from orchestrator.config import PASSWORD_VARIABLE

    argv = (sys.executable, "-m", "rollcall", COMMAND_OF[role], "--config", str(config))
    password = {PASSWORD_VARIABLE: redis_password} if role == "orchestrator" else {}
    environment = {KEY_VARIABLE: "0x" + key.hex(), **password, **ROLE_ENVIRONMENT}
    return Command(name, argv, environment)


class Market:
    """Names, keys and configs of one market. Starts nothing itself."""

    def __init__(
        self,
        folder: Path,
        places: Places,
        plan: RunPlan,
        *,
        workers: Sequence[WorkerParty],
        steps: int,
        seed: int = 0,
    ) -> None:
        self.folder = folder
        self.places = places
        self.plan = plan
        self.workers = tuple(workers)
        self.steps = steps
        self.seed = seed
        self.operator = Party("operator", new_key())
        self.orchestrator = Party("orchestrator", new_key())
        self.trainer = Party("trainer", new_key())
        self.verifier = Party("verifier", new_key())
        self.redis_password = secrets.token_hex(32)

    @property
    def url(self) -> str:
        return self.places.url

    @property
    def rpc_url(self) -> str:
        return self.places.rpc_url

    def stakers(self) -> tuple[Party, ...]:
        """All parties that stake."""
        return (self.verifier, *(worker.party for worker in self.workers))

    def spenders(self) -> tuple[Party, ...]:
        """All parties that send transactions and so need gas."""
        return (self.operator, self.orchestrator, *self.stakers())

    def trainer_metrics(self) -> list[dict[str, Any]]:
        """Return the trainer's lines so far, one per version, with later findings about it."""
        found = {finding["version"]: finding for finding in self.evaluations().findings()}
        lines = read_lines(self.data_dir(self.trainer) / "metrics.jsonl", json.loads)
        return [line | found.get(line["version"], {}) for line in lines]

    def waits_for(self, worker: WorkerParty) -> str:
        """Return what a worker says that it waits for, in short; empty where it says nothing."""
        totals = self.data_dir(worker.party) / "worker.json"
        told = json.loads(totals.read_text()).get("waits_for", "") if totals.exists() else ""
        return str(told).partition(":")[0]

    def evaluations(self) -> "Evaluations":
        """Return the folder of the trainer's evaluator."""
        from trainer.evaluations import Evaluations

        return Evaluations(self.data_dir(self.trainer) / "evaluations")

    def data_dir(self, party: Party) -> Path:
        return self.places.data / party.name

    def launch_config(self, consent: str = "") -> LaunchConfig:
        """Return the operator's launch, with windows short enough to watch."""
        return LaunchConfig(
            rpc_url=self.rpc_url,
            deployment=self.places.deployment,
            deploy="with_test_token",
            endow=tuple(party.address for party in self.stakers()),
            orchestrator=self.url,
            orchestrator_address=self.orchestrator.address,
            orchestrator_consent=consent,
            trainer_address=self.trainer.address,
            verifiers=(self.verifier.address,),
            min_stake=STAKE_TOKENS,
            budget=ESCROW_TOKENS,
            windows=WATCHABLE,
            plan=self.plan,
        )

    def orchestrator_config(self) -> BaseModel:
        from orchestrator.config import OrchestratorConfig

        return OrchestratorConfig(
            host=self.places.host,
            port=self.places.port,
            redis_url=self.places.redis_url,
            blob_url=f"file://{self.places.blobs}",
            rpc_url=self.rpc_url,
            deployment=str(self.places.deployment),
            allowed_domains=(urlsplit(self.url).netloc,),
        )

    def trainer_config(self, run_id: int) -> BaseModel:
        from trainer.config import TrainerConfig

        return TrainerConfig(
            orchestrator=self.url,
            run_id=run_id,
            model_dir=self.plan.model,
            work_dir=self.data_dir(self.trainer),
            steps=self.steps,
            seed=self.seed,
            num_evaluation_problems=self.plan.num_held_out,
        )

    def verifier_config(self) -> BaseModel:
        from rollout_worker.config import VerifierConfig

        return VerifierConfig.model_validate(self._worker_values(self.verifier))

    def worker_config(self, worker: WorkerParty) -> BaseModel:
        from rollout_worker.config import WorkerConfig

        values = {
            **self._worker_values(worker.party),
            "groups_per_call": worker.groups_per_call,
            "engine": {
                "name": worker.engine,
                "quantise_bits": worker.quantise_bits,
            },
        }
        return WorkerConfig.model_validate(values)

    def command(self, party: Party, role: str, config: BaseModel) -> Command:
        """Write a role's config and return its process."""
        path = self.folder / f"{party.name}.toml"
        path.write_text(to_toml(config))
        return role_command(party.name, role, path, party.key, redis_password=self.redis_password)

    def _worker_values(self, party: Party) -> dict[str, Any]:
        return {
            "orchestrator": self.url,
            "data_dir": self.data_dir(party),
            "poll_seconds": 0.2,
            "chain": {
                "rpc_url": self.rpc_url,
                "deployment": self.places.deployment,
                "stake": STAKE_TOKENS,
            },
        }


WATCHABLE = Windows(
    challenge=3,
    settle=600,
    resume=3,
    appeal=5,
    ruling=60,
    response=30,
    unbond=600,
    revoke=60,
    least=2,
    timelock=60,
    permit=86_400,
)
"""The demo's waits: seconds instead of a real market's hours, so that finality can be watched."""
