"""`rollcall launch`: put a run on chain with its budget in escrow, and tell the orchestrator.

Idempotent where it can be: contracts are deployed only where no deployment file is, the
orchestrator's key is delegated once. Creating the run itself spends money, so it is asked for once
and never retried blindly.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from eth_account import Account
from eth_keys.exceptions import BadSignature

from client.connection import Connection, Unreachable
from client.operator import OperatorRoutes
from ledger.calls import NO_ADDRESS
from ledger.deployment import Deployment
from ledger.state import RunParams
from protocol.errors import MarketError
from protocol.messages import RunRegistration
from protocol.run import RunSpec
from protocol.user_error import UserError
from protocol.wire import checksum_address
from rollcall.cli.desk import Desk, Step, at_ledger
from rollcall.cli.launch_config import LaunchConfig
from rollcall.cli.spec import spec_of
from rollcall.demo.deploying import ensure_deployment

Say = Callable[[str], None]

SINGLE_VERIFIER = (
    "WARNING: this run has a single verifier. Its replay alone will reject work and take stakes, and "
    "nobody can show that it does not replay at all: name three in `verifiers`, with threshold = 2"
)
ORCHESTRATOR_SECONDS = 300.0
"""Longest wait for an orchestrator that is just starting."""


@dataclass(frozen=True, slots=True)
class Launched:
    run_id: int
    spec: RunSpec
    deployment: Deployment


def launch(config: LaunchConfig, key: bytes, say: Say) -> Launched:
    """Put a run on chain and tell the orchestrator; raise `UserError` before money moves."""
    launched = create(config, key, say)
    if launched is None:
        raise UserError("a dry run launches nothing")
    register(config.orchestrator, launched.run_id, launched.spec, say)
    say(f"{config.orchestrator} serves run {launched.run_id}")
    return launched


def create(config: LaunchConfig, key: bytes, say: Say, *, dry_run: bool = False) -> Launched | None:
    """Deploy where asked, delegate and escrow; in a dry run say what would be sent: None.

    The run is rehearsed before anything is sent for it: what the ledger would refuse costs nothing.
    """
    account = Account.from_key(key)
    spec = spec_of(
        config.plan,
        orchestrator=config.orchestrator_address,
        trainer=config.trainer_address,
    )
    if dry_run and not config.deployment.exists():
        raise UserError(f"no deployment at {config.deployment} yet: a dry run deploys none")
    deployment = ensure_deployment(config, account, say)
    with at_ledger(config.rpc_url, config.deployment, key, say=say, dry_run=dry_run) as desk:
        desk.require_unpaused()
        desk.require_tokens(config.budget)
        escrow = desk.token.show(config.budget)
        params = params_of(config, deployment, spec)
        for warning in warnings_of(params):
            say(warning)
        step = Step(
            f"create a run with {escrow} in escrow",
            *("create_run", (params, config.budget, config.orchestrator)),
        )
        desk.rehearse(step)
        _delegate(desk, config)
        results = desk.send_all([step])
        if not results:
            return None
        [run_id] = results
        say(f"run {run_id} is on chain with {escrow} in escrow")
        return Launched(run_id, spec, deployment)


def register(orchestrator: str, run_id: int, spec: RunSpec, say: Say) -> None:
    """Tell the orchestrator about a run; it checks the spec against the hash on chain."""
    deadline = time.monotonic() + ORCHESTRATOR_SECONDS
    told: list[str] = []

    def is_late() -> bool:
        if not told:
            told.append(orchestrator)
            say(f"waiting for {orchestrator} to answer")
        return time.monotonic() > deadline

    try:
        with OperatorRoutes(Connection(orchestrator, give_up=is_late)) as routes:
            routes.register(RunRegistration(run_id=run_id, spec=spec))
    except Unreachable as error:
        raise UserError(
            f"run {run_id} is on chain, but {orchestrator} does not answer ({error}): start "
            f"it with `rollcall serve`, then `rollcall launch --register {run_id}`"
        ) from error
    except MarketError as error:
        raise UserError(f"{orchestrator} refused run {run_id}: {error.message}") from error


def _delegate(desk: Desk, config: LaunchConfig) -> None:
    """Let the orchestrator open epochs in the operator's name."""
    hot, operator = config.orchestrator_address, desk.address
    if operator in (hot, desk.ledger.owner_of(hot)):
        return
    if not config.orchestrator_consent:
        raise UserError(
            f"{hot} may not act for {operator} yet: run `rollcall consent --owner {operator}` where "
            "it runs, and set orchestrator_consent to what it prints"
        )
    consent = _consent(desk, operator, hot, config.orchestrator_consent)
    if not desk.ledger.is_registered(operator):
        desk.send(f"register {operator}", "register", 0, operator, operator)
        if desk.dry_run:
            return  # the key is added after that
    desk.send(f"let {hot} sign for {operator}", "add_signer", hot, consent)
    if not desk.dry_run:
        desk.say(f"{hot} may open epochs for {operator}")


def _consent(desk: Desk, operator: str, hot: str, text: str) -> bytes:
    """Return the consent; refused here if it is another's, before the operator is registered."""
    try:
        consent = bytes.fromhex(text.removeprefix("0x"))
        signer = Account._recover_hash(desk.ledger.consent_digest(operator, hot), signature=consent)
    except (ValueError, BadSignature) as error:
        raise UserError(f"orchestrator_consent is no signature: {error}") from error
    if signer != hot:
        raise UserError(
            f"orchestrator_consent is not {hot}'s for {operator}: run `rollcall consent --owner "
            f"{operator}` with the orchestrator's key, on this ledger"
        )
    return consent


def warnings_of(params: RunParams) -> tuple[str, ...]:
    """Return what an operator must know of its choices, though the ledger takes them."""
    return (SINGLE_VERIFIER,) if len(params.verifiers) == 1 else ()


def params_of(config: LaunchConfig, deployment: Deployment, spec: RunSpec) -> RunParams:
    """Return what the run agrees to on chain."""
    by_value = sorted(config.verifiers, key=lambda address: int(address, 16))
    return RunParams(
        token=checksum_address(deployment.token),
        rate=config.plan.rate,
        min_stake=config.min_stake,
        challenge_window=config.windows.challenge,
        settle_window=config.windows.settle,
        resume_delay=config.windows.resume,
        permit_period=config.windows.permit,
        num_parameters=spec.num_parameters,
        base_model=spec.model_digest,
        parent_run=config.parent_run,
        licence=config.licence,
        intended_use=config.intended_use,
        gate=config.gate or NO_ADDRESS,
        threshold=config.threshold,
        spec_hash=spec.canonical_digest(),
        verifiers=tuple(by_value),
        stewards=tuple(sorted(config.stewards, key=lambda address: int(address, 16))),
        steward_threshold=config.steward_threshold,
        compute_cap=config.compute_cap_gflops,
    )
