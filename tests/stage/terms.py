"""The terms of a test's run, and the weights that a policy of it may have."""

from pathlib import Path
from typing import Any

import numpy as np
from eth_account import Account
from eth_account.signers.local import LocalAccount

from protocol.canonical import content_digest, keccak256
from protocol.constants import NANO
from protocol.environments.registry import environment
from protocol.messages import RunInfo, RunStatus
from protocol.policies.manifest import HostTensor, Weights, entries, policy_digest
from protocol.precision import ComputeDtype
from protocol.run import AuditPolicy, RunSpec
from protocol.signing import Domain
from protocol.verdict import Thresholds
from tests.stage.bounds import bounds, thresholds

RATE = 10
MODEL = Path(__file__).parents[2] / "models" / "start"
EOS = 2
RUN = 1
DOMAIN = Domain(31337, "0x5FbDB2315678afecb367f032d93F642f64180aa3")
"""Of runs that are on no chain."""


def key(name: str) -> LocalAccount:
    """Return an account that is the same in every run."""
    return Account.from_key(keccak256(name.encode()))


def person(name: str) -> LocalAccount:
    """Return one of the people of a test's market."""
    return key(f"orchestrator tests {name}")


def law(model_digest: bytes, dtype: ComputeDtype = ComputeDtype.FLOAT32) -> Thresholds:
    """Return bounds that give a group a nat of gap more than the reference."""
    found = thresholds(model_digest, compute_dtype=dtype, match=0.9999, margin=0.01, gap=0.05)
    return found.model_copy(update={"gap": bounds(found.gap.reference, group=NANO)})


def weights(version: int) -> dict[str, HostTensor]:
    """Return a policy of two numbers: what a manifest says is tested here, not what weights do."""
    bits = np.array([version, 1], dtype="<u4")
    return {"layer": HostTensor("float32", (2,), bits)}


def run_info(spec: RunSpec, **changes: Any) -> RunInfo:
    """Return what an orchestrator says of a run; `changes` are fields of RunInfo."""
    fields = {
        "run_id": RUN,
        "spec": spec,
        "chain_id": DOMAIN.chain_id,
        "ledger": DOMAIN.ledger,
        "token": DOMAIN.ledger,
        "status": RunStatus.OPEN,
        "newest_version": 0,
        "published_at": 0,
        "epoch": 0,
        "budget_left_units": 1,
        "permit_until": 0,
        "num_voters": 1,
        "threshold": 1,
        "min_stake": "0",
    }
    return RunInfo.model_validate(fields | changes)


def digest_of(policy: Weights) -> bytes:
    return policy_digest(entries(policy))


def make_spec(**changes: Any) -> RunSpec:
    """Return a small arithmetic run; `changes` are fields of RunSpec."""
    config: dict[str, int | str] = {}
    model_digest = changes.setdefault("model_digest", digest_of(weights(0)))
    dtype = ComputeDtype(changes.get("compute_dtype", ComputeDtype.FLOAT32))
    spec = {
        "name": "test",
        "environment": "arithmetic",
        "environment_config": config,
        "environment_digest": environment("arithmetic", config).digest,
        "num_tasks": 1000,
        "held_out_start": 10_000,
        "num_held_out": 8,
        "model_config_digest": content_digest((MODEL / "config.json").read_bytes()),
        "tokenizer_digest": content_digest((MODEL / "tokenizer.json").read_bytes()),
        "num_parameters": 410_368,
        "vocabulary_size": 128,
        "eos_token_ids": (EOS,),
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
        "thresholds": law(model_digest, dtype),
        "orchestrator": person("orchestrator").address,
        "trainer": person("trainer").address,
    }
    return RunSpec.model_validate(spec | changes)
