"""What a test's market stands on: a chain with the ledger, funded people, and the terms of a run.

Made once and shared by all tests; each opens a run of its own.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import Web3

from devchain.chain import DevChain
from devchain.rpc import Rpc
from ledger.deployment import Deployment, LedgerTerms, deploy
from ledger.state import RunParams
from protocol.canonical import content_digest, keccak256
from protocol.constants import NANO
from protocol.environments.registry import environment
from protocol.policies.manifest import HostTensor, entries, policy_digest
from protocol.run import AuditPolicy, RunSpec
from protocol.verdict import Thresholds
from tests.stage.bounds import bounds, thresholds
from tests.stage.whole import WholeLedger
from tests.stage.world import Clock, InProcess

START = 1_800_000_000
STAKE = 10**18
RATE = 10
BUDGET = 10**9
MODEL = Path("models/start")
ENGINE = "transformers-cpu"
EOS = 2

TERMS = LedgerTerms(
    unbond_seconds=600,
    revoke_seconds=50,
    min_window_seconds=2,
    response_seconds=5,
    appeal_seconds=5,
    ruling_seconds=5,
)


def key(name: str) -> LocalAccount:
    """Return an account that is the same in every run."""
    return Account.from_key(keccak256(name.encode()))


def law(model_digest: bytes) -> Thresholds:
    """Return bounds that give a group a nat of gap more than the reference."""
    found = thresholds(model_digest, match=0.9999, margin=0.01, gap=0.05)
    return found.model_copy(update={"gap": bounds(found.gap.reference, group=NANO)})


def weights(version: int) -> dict[str, HostTensor]:
    """Return a policy of two numbers: what a manifest says is tested here, not what weights do."""
    bits = np.array([version, 1], dtype="<u4")
    return {"layer": HostTensor("float32", (2,), bits)}


@dataclass
class Ground:
    """A chain with the ledger on it and funded people: made once, shared by all tests."""

    w3: Web3
    chain: DevChain
    clock: Clock
    deployment: Deployment
    people: dict[str, LocalAccount]
    ledgers: dict[str, WholeLedger] = field(default_factory=dict)

    @classmethod
    def build(cls) -> "Ground":
        names = ["operator", "orchestrator", "trainer", "deployer", "stranger", "hot"]
        names += ["v0", "v1", "v2", "s0", "s1", "alice", "bob", "carol"]
        people = {name: key(f"orchestrator tests {name}") for name in names}
        clock = Clock(START)
        funded = [bytes.fromhex(account.address[2:]) for account in people.values()]
        chain = DevChain(funded, genesis_time=START)
        w3 = Web3(InProcess(Rpc(chain, clock=clock)))
        ground = cls(w3, chain, clock, deploy(w3, people["deployer"], TERMS), people)
        for name in ("v0", "v1", "v2", "alice", "bob", "carol", "operator"):
            ground.by(name).mint(ground.address(name), 10 * STAKE)
            ground.by(name).register(2 * STAKE, ground.address(name), ground.address(name))
        ground.by("operator").mint(ground.address("operator"), 10_000 * BUDGET)
        consent = ground.by("operator").sign_consent(
            people["orchestrator"], ground.address("operator")
        )
        ground.by("operator").add_signer(ground.address("orchestrator"), consent)
        consent = ground.by("alice").sign_consent(people["hot"], ground.address("alice"))
        ground.by("alice").add_signer(ground.address("hot"), consent)
        return ground

    def by(self, name: str) -> WholeLedger:
        """Return the ledger as this person uses it."""
        if name not in self.ledgers:
            self.ledgers[name] = WholeLedger(self.w3, self.deployment, self.people[name])
        return self.ledgers[name]

    def address(self, name: str) -> str:
        return str(self.people[name].address)

    def members(self, *names: str) -> tuple[str, ...]:
        """Return people's addresses as a run lists its members: strictly ascending."""
        return tuple(sorted((self.address(name) for name in names), key=str.lower))

    def create_run(
        self, spec: RunSpec, *, num_verifiers: int, threshold: int, **changes: Any
    ) -> int:
        """Create a run that two of two stewards may halt; `changes` are fields of RunParams."""
        names = [f"v{n}" for n in range(num_verifiers)]
        params = RunParams(
            token=self.deployment.token,
            rate=spec.rate,
            min_stake=STAKE,
            challenge_window=2,
            settle_window=60,
            resume_delay=2,
            permit_period=86_400,
            threshold=threshold,
            num_parameters=spec.num_parameters,
            spec_hash=spec.canonical_digest(),
            base_model=spec.model_digest,
            verifiers=self.members(*names),
            stewards=self.members("s0", "s1"),
            steward_threshold=2,
        )
        run_id = self.by("operator").create_run(replace(params, **changes), BUDGET, "")
        for worker in ("alice", "bob"):
            self.by(worker).join_run(run_id)
        return run_id


def make_spec(ground: Ground, **changes: Any) -> RunSpec:
    """Return a small arithmetic run; `changes` are fields of RunSpec."""
    config: dict[str, int | str] = {}
    model_digest = policy_digest(entries(weights(0)))
    spec = {
        "name": "test",
        "environment": "arithmetic",
        "environment_config": config,
        "environment_digest": environment("arithmetic", config).digest,
        "num_tasks": 1000,
        "held_out_start": 10_000,
        "num_held_out": 8,
        "model_digest": model_digest,
        "model_config_digest": content_digest((MODEL / "config.json").read_bytes()),
        "tokenizer_digest": content_digest((MODEL / "tokenizer.json").read_bytes()),
        "num_parameters": 400_000,
        "vocabulary_size": 128,
        "eos_token_id": EOS,
        "group_size": 2,
        "groups_per_batch": 2,
        "max_staleness": 1,
        "max_prompt_tokens": 64,
        "max_tokens": 48,
        "rate": RATE,
        "lease_seconds": 60,
        "epoch_seconds": 10,
        "max_worker_leases": 4,
        "audit": AuditPolicy(num_probation_groups=64),
        "thresholds": law(model_digest),
        "orchestrator": ground.address("orchestrator"),
        "trainer": ground.address("trainer"),
    }
    return RunSpec.model_validate(spec | changes)
