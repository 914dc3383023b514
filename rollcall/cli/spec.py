"""A run's plan, as an operator writes it, and the RunSpec that follows from it.

The plan is local (paths, choices); the spec is agreed (digests, numbers). `spec_of` reads the model
folder once and names everything in it by digest, so that nobody can swap it later.
"""

from decimal import Decimal
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from client.model_folder import (
    CONFIG,
    TOKENIZER,
    architecture_of,
    end_tokens,
    read_policy,
    require_model,
)
from ledger.amounts import USUAL, Token
from ledger.setting import Amount
from local.settings import Settings
from protocol.architectures import why_unknown
from protocol.canonical import content_digest
from protocol.checks.drops import DropPolicy
from protocol.constants import MICRO
from protocol.environments.base import Environment
from protocol.environments.registry import environment
from protocol.environments.share import Share, shared
from protocol.errors import Malformed, MarketError
from protocol.policies.manifest import Weights, entries, policy_digest
from protocol.precision import ComputeDtype
from protocol.run import AuditPolicy, RunSpec
from protocol.user_error import UserError
from protocol.verdict import Thresholds
from protocol.wire import Address


class RunPlan(Settings):
    """What an operator chooses about a run. `rollcall launch --print-config` writes one."""

    name: str = "arithmetic-demo"
    """Shown to workers."""
    model: Path = Path("models/start")
    """Folder with config.json, tokenizer.json and model.safetensors."""
    thresholds: Path | None = None
    """Calibrated replay bounds (`rollcall calibrate`); default: thresholds.json in the model folder."""
    compute_dtype: ComputeDtype = ComputeDtype.FLOAT32
    """The dtype of workers and verifiers, and of the trainer on a GPU: float32 if CPUs sample, float16 on GPUs
    after `rollcall calibrate` has checked the model's range, bfloat16 for models that do not fit it."""
    environment: str = "arithmetic"
    """A name of protocol/environments/registry.py."""
    environment_config: dict[str, int | str] = {}
    """Settings of the environment. The path of a file of rows is not agreed on: its rows' digest is."""
    num_tasks: Annotated[int, Field(ge=1)] | None = None
    """Tasks 0 … num_tasks − 1 may be leased; default: all that are not held out."""
    num_held_out: Annotated[int, Field(ge=0)] = 512
    """Problems that measure accuracy and are never leased; the last ones, where the environment has rows."""
    group_size: int = 8
    """Rollouts per task."""
    groups_per_batch: int = 32
    """Groups of one optimizer step."""
    max_staleness: int = 4
    """How many versions a group's policy may be behind the newest."""
    max_prompt_tokens: int = 64
    """Tasks with longer prompts are passed over."""
    max_tokens: int = 64
    """Longest completion."""
    temperature: float = 1.0
    """Sampling temperature; GRPO wants 1."""
    rate: Annotated[Amount, Field(gt=0)] = Decimal("0.000001")
    """Price of one sampled token, in payment tokens."""
    lease_seconds: int = 120
    """How long a worker may take for a lease."""
    epoch_seconds: int = 60
    """Accounting period."""
    max_worker_leases: int = 64
    """Leases one worker may hold."""
    max_worker_share: float = 1.0
    """Largest share of a batch one worker's groups may fill. Below 1 a run needs several workers."""
    max_stake_multiple: float = 4.0
    """A worker may fill this multiple of its part of the stake at work, however it is split; 0: all."""
    num_probation_groups: int = 64
    """How many of a new worker's groups are all replayed."""
    free_drops: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of its leases that a worker may return or let expire forever; 1: all drops are free."""
    num_forgiven_crashes: Annotated[int, Field(ge=1)] = 2
    """How often a worker may die holding all its leases, with no work between, and owe nothing."""
    withheld_alarms_per_million: Annotated[int, Field(ge=0)] = 1
    """Honest workers of a million that may be taken for withholding poor groups; 0: nobody looks."""
    audit_rate: Annotated[float, Field(ge=0, le=1)] = 0.375
    """Share of an established worker's groups that a draw selects for replay."""
    audit_rollouts: Annotated[int, Field(ge=1)] = 1
    """Replayed rollouts of each such group. A token says so much that one rollout of many groups catches
    more than all of few."""


CONVERTED = {"rate", "thresholds", "environment_config", "num_tasks"}
"""Settings that a plan has in other units, in a file or not at all; what else bears one name in plan and spec is one thing."""


def spec_of(
    plan: RunPlan, *, orchestrator: Address, trainer: Address, token: Token = USUAL
) -> RunSpec:
    """Return the agreed terms; raise `UserError` naming the file or the setting that is missing or wrong."""
    try:
        return _terms(plan, orchestrator, trainer, token)
    except ValidationError as error:
        wrong = (": ".join([*map(str, item["loc"]), item["msg"]]) for item in error.errors())
        raise UserError(f"the plan makes no run: {'; '.join(wrong)}") from error


def _terms(plan: RunPlan, orchestrator: Address, trainer: Address, token: Token) -> RunSpec:
    require_model(plan.model)
    config, tokenizer = _read(plan.model / CONFIG), _read(plan.model / TOKENIZER)
    if reason := why_unknown(
        config, max_prompt_tokens=plan.max_prompt_tokens, max_tokens=plan.max_tokens
    ):
        raise UserError(f"{plan.model}: {reason}")
    weights, ends = read_policy(plan.model), end_tokens(plan.model)
    model_digest = policy_digest(entries(weights))
    made, share = _tasks(plan)
    return RunSpec(
        **plan.model_dump(
            include=RunPlan.model_fields.keys() & RunSpec.model_fields.keys() - CONVERTED
        ),
        environment_config=dict(made.agreed_config),
        environment_digest=made.digest,
        num_tasks=share.num_tasks,
        held_out_start=share.held_out_start,
        model_digest=model_digest,
        model_config_digest=content_digest(config),
        tokenizer_digest=content_digest(tokenizer),
        num_parameters=num_parameters(weights),
        vocabulary_size=architecture_of(plan.model).vocab_size,
        eos_token_ids=ends,
        temperature_millionths=round(plan.temperature * MICRO),
        rate=token.exactly(plan.rate),
        max_worker_share_millionths=round(plan.max_worker_share * MICRO),
        max_stake_multiple_millionths=round(plan.max_stake_multiple * MICRO),
        audit=AuditPolicy(
            num_probation_groups=plan.num_probation_groups,
            rate_millionths=round(plan.audit_rate * MICRO),
            num_rollouts=plan.audit_rollouts,
        ),
        drops=DropPolicy(
            free_millionths=round(plan.free_drops * MICRO),
            num_forgiven_crashes=plan.num_forgiven_crashes,
            withheld_alarms_per_million=plan.withheld_alarms_per_million,
        ),
        thresholds=read_thresholds(
            plan.thresholds or plan.model / "thresholds.json",
            model_digest=model_digest,
            compute_dtype=plan.compute_dtype,
        ),
        orchestrator=orchestrator,
        trainer=trainer,
    )


def _tasks(plan: RunPlan) -> tuple[Environment, Share]:
    """Make the plan's environment, and divide it; raise `UserError`."""
    try:
        made = environment(plan.environment, plan.environment_config)
        share = shared(made, num_tasks=plan.num_tasks, num_held_out=plan.num_held_out)
    except MarketError as error:
        raise UserError(f"environment {plan.environment}: {error.message}") from error
    return made, share


def num_parameters(weights: Weights) -> int:
    """Return how many numbers the policy has."""
    return sum(tensor.bits.size for tensor in weights.values())


def read_thresholds(
    path: Path, *, model_digest: bytes, compute_dtype: ComputeDtype | None = None
) -> Thresholds:
    """Read what `rollcall calibrate` wrote; without a `compute_dtype`, take any.

    Raises `UserError` with a command to run if the file is none, or of another model or dtype.
    """
    try:
        found = Thresholds.from_json(_read(path))
    except Malformed as error:
        raise UserError(
            f"{path} is not one set of bounds ({error.message}): "
            "rollcall calibrate --model DIR writes them anew"
        ) from error
    misfit = found.misfit(
        model_digest=model_digest, compute_dtype=compute_dtype or found.compute_dtype
    )
    if misfit:
        raise UserError(f"{path}: {misfit}")
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; a model folder holds config.json, tokenizer.json, "
            "model.safetensors and thresholds.json (rollcall calibrate writes the last)"
        ) from error
