"""`rollcall launch`: put a run on chain with its budget in escrow, and tell the orchestrator.

Idempotent as far as it can be: contracts are deployed only if there is no deployment file, and the
orchestrator's key is delegated once. Creating the run itself spends money, so it is tried once and
never repeated blindly.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from protocol.user_error import UserError
from rollcall.cli.desk import Desk, PlannedCall, open_desk
from rollcall.cli.options import RUNS, Assignments, ConfigFile, PrintConfig, example

if TYPE_CHECKING:
    from ledger.amounts import Token
    from ledger.deployment import Deployment
    from ledger.state import RunParams
    from protocol.run import RunSpec
    from rollcall.cli.launch_config import LaunchConfig

Say = Callable[[str], None]

SINGLE_VERIFIER = (
    "WARNING: this run has a single verifier. Its replay alone will reject work and take stakes, and "
    "nobody can show that it does not replay at all: name three in `verifiers`, with threshold = 2"
)
ORCHESTRATOR_SECONDS = 300.0
"""Longest wait for an orchestrator that is just starting."""


commands = typer.Typer()


@commands.command(
    "launch",
    rich_help_panel=RUNS,
    epilog=example("rollcall launch --print-config > launch.toml"),
)
def launch_command(
    config: ConfigFile = None,
    assign: Assignments = None,
    print_config: PrintConfig = False,
    register_run: Annotated[
        int | None,
        typer.Option("--register", help="Only tell the orchestrator about this run again."),
    ] = None,
) -> None:
    """Put a run on chain with its budget in escrow, and tell the orchestrator."""
    from rollcall.frame.keys import key_from_environment
    from rollcall.frame.roles import settings_of

    settings = settings_of("rollcall.cli.launch_config:LaunchConfig", config, assign, print_config)
    if register_run is None:
        launch(settings, key_from_environment(), typer.echo)
    else:
        with open_desk(settings.rpc_url, settings.deployment, None, say=typer.echo) as desk:
            spec = _spec(settings, desk.token)
        register(settings.orchestrator, register_run, spec, typer.echo)


@dataclass(frozen=True, slots=True)
class Launched:
    run_id: int
    spec: RunSpec
    deployment: Deployment


def launch(config: LaunchConfig, key: bytes, say: Say) -> Launched:
    """Put a run on chain and tell the orchestrator; raise `UserError` before money moves."""
    launched = put_on_chain(config, key, say)
    if launched is None:
        raise UserError("a dry run launches nothing")
    register(config.orchestrator, launched.run_id, launched.spec, say)
    return launched


def put_on_chain(
    config: LaunchConfig, key: bytes, say: Say, *, dry_run: bool = False
) -> Launched | None:
    """Deploy if asked, delegate and escrow. A dry run says what would be sent and returns None.

    The run is rehearsed before anything is sent for it, so that a refusal costs nothing.
    """
    from eth_account import Account

    from client.address import checked
    from rollcall.demo.deploying import ensure_deployment
    from rollcall.rehearsal.rehearse import rehearse

    checked(config.orchestrator)
    account = Account.from_key(key)
    rehearse(config.plan, _spec(config), say)
    if dry_run and not config.deployment.exists():
        raise UserError(f"no deployment at {config.deployment} yet: a dry run deploys none")
    deployment = ensure_deployment(config, account, say)
    with open_desk(config.rpc_url, config.deployment, key, say=say, dry_run=dry_run) as desk:
        desk.require_unpaused()
        budget, spec = desk.token.exactly(config.budget), _spec(config, desk.token)
        desk.require_tokens(budget)
        escrow = desk.token.show(budget)
        params = params_of(config, deployment, spec, desk.token)
        for warning in warnings_of(params):
            say(warning)
        step = PlannedCall(
            f"create a run with {escrow} in escrow",
            *("create_run", (params, budget, config.orchestrator)),
            done=lambda run_id: f"run {run_id} is on chain with {escrow} in escrow",
        )
        desk.rehearse(step)
        _delegate(desk, config)
        ids = desk.send_all([step])
        return Launched(ids[0], spec, deployment) if ids else None


def register(orchestrator: str, run_id: int, spec: RunSpec, say: Say) -> None:
    """Tell the orchestrator about a run; it checks the spec against the hash on chain."""
    from client.connection import Connection
    from client.operator import OperatorRoutes
    from client.retry import Unreachable
    from protocol.errors import MarketError
    from protocol.messages import RunRegistration

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
    say(f"{orchestrator} serves run {run_id}")


def _spec(config: LaunchConfig, token: Token | None = None) -> RunSpec:
    from ledger.amounts import USUAL
    from rollcall.cli.spec import spec_of

    return spec_of(
        config.plan,
        orchestrator=config.orchestrator_address,
        trainer=config.trainer_address,
        token=token or USUAL,
    )


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
        done = f"{operator} is registered"
        desk.send(f"register {operator}", "register", 0, operator, operator, done=done)
        if desk.dry_run:
            return  # the key is added after that
    desk.send(
        f"let {hot} sign for {operator}",
        *("add_signer", hot, consent),
        done=f"{hot} may open epochs for {operator}",
    )


def _consent(desk: Desk, operator: str, hot: str, text: str) -> bytes:
    """Return the consent; refused here if it is another's, before the operator is registered."""
    from eth_account import Account
    from eth_keys.exceptions import BadSignature

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
    """Return what an operator must know of its choices, even if the ledger takes them."""
    return (SINGLE_VERIFIER,) if len(params.verifiers) == 1 else ()


def params_of(
    config: LaunchConfig, deployment: Deployment, spec: RunSpec, token: Token
) -> RunParams:
    """Return the run's terms on chain."""
    from ledger.calls import NO_ADDRESS
    from ledger.state import RunParams
    from protocol.wire import checksum_address

    by_value = sorted(config.verifiers, key=lambda address: int(address, 16))
    return RunParams(
        token=checksum_address(deployment.token),
        rate=spec.rate,
        min_stake=token.exactly(config.min_stake),
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
