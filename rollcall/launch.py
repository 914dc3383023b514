"""`rollcall launch`: put a run on chain with its budget in escrow, and tell the orchestrator.

Idempotent where it can be: contracts are deployed only where no deployment file is, the
orchestrator's key is delegated once. Creating the run itself spends money, so it is asked for once
and never retried blindly.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_keys.exceptions import BadSignature
from pydantic import BaseModel, ConfigDict, Field

from contracts.client import Ledger, web3_at
from contracts.deployment import Deployment, Terms, deploy
from contracts.door import NO_ADDRESS
from contracts.errors import LedgerError
from contracts.state import RunParams
from protocol.messages import RunRegistration
from protocol.run import RunSpec
from protocol.wire import Address, checksum_address
from rollcall.chain import Desk, Step, at_ledger, read_deployment
from rollcall.spec import RunPlan, spec_of
from rollcall.times import duration
from rollcall.user_error import UserError, one_line

Say = Callable[[str], None]

ORCHESTRATOR_SECONDS = 60.0
"""How long to wait for an orchestrator that is just starting."""
DEVELOPMENT_GAS_WEI = 10**22


class Windows(BaseModel):
    """How long the chain waits, in seconds. A development chain shortens them."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    challenge: Annotated[int, Field(ge=1)] = 3600
    """From posting an epoch to its finality: the time to dispute it."""
    settle: Annotated[int, Field(ge=1)] = 86_400
    """After stopping the run, in which epochs may still be posted."""
    resume: Annotated[int, Field(ge=1)] = 3600
    """That a halt lasts at least."""
    appeal: Annotated[int, Field(ge=1)] = 172_800
    """In which an accused worker may appeal. Fixed when the contracts are deployed."""
    ruling: Annotated[int, Field(ge=1)] = 259_200
    """In which the arbiter rules on an appeal, or acquits by silence. Fixed at deployment."""
    response: Annotated[int, Field(ge=1)] = 21_600
    """In which demanded leaves are opened on chain, or the epoch is void. Fixed at deployment."""
    unbond: Annotated[int, Field(ge=1)] = 604_800
    """That stake stays slashable after it starts to leave. Fixed at deployment."""
    revoke: Annotated[int, Field(ge=1)] = 3600
    """That a withdrawn hot key stays valid. Fixed at deployment."""
    least: Annotated[int, Field(ge=1)] = 600
    """Shortest window any run may choose. Fixed at deployment."""
    timelock: Annotated[int, Field(ge=0)] = 172_800
    """That an appointment of a guardian or arbiter waits. Fixed at deployment."""
    permit: Annotated[int, Field(ge=1)] = 30 * 86_400
    """That a permit lasts: the run ends by itself unless its operator renews it."""


class LaunchConfig(BaseModel):
    """One launch. The operator's key is read from ROLLCALL_KEY."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    rpc_url: str
    """JSON-RPC endpoint of a node."""
    deployment: Path
    """JSON file with the contracts' addresses; written where `deploy` makes them."""
    deploy: Literal["never", "with_test_token"] = "never"
    """Deploy the contracts where the file is absent, paying in a token that anyone may mint:
    for development chains only."""
    orchestrator: str
    """Base URL of the orchestrator, as workers reach it."""
    orchestrator_address: Address
    """Its account, which signs leases and receipts."""
    orchestrator_consent: str = ""
    """Its consent to act for the operator: `rollcall consent --owner OPERATOR` on its machine.
    Empty where it acts for the operator already, or is the operator."""
    trainer_address: Address
    """The account that signs policies."""
    verifiers: tuple[Address, ...]
    """Accounts that replay and sign epochs."""
    threshold: Annotated[int, Field(ge=1, le=64)] = 1
    """How many of them must agree; more than half."""
    endow: tuple[Address, ...] = ()
    """Accounts that get a stake's worth of test tokens, and gas where the node has
    `anvil_setBalance`. Only with `deploy = "with_test_token"`."""
    stewards: tuple[Address, ...] = ()
    """Accounts that may halt the run."""
    steward_threshold: int = 0
    """How many of them it takes."""
    min_stake: Annotated[int, Field(ge=100)] = 10**18
    """Stake of workers and verifiers, and the most that one worker can lose."""
    budget: Annotated[int, Field(ge=1)] = 10**19
    """Escrow, in the token's smallest denomination."""
    compute_cap_gflops: Annotated[int, Field(ge=0)] = 0
    """No epoch opens past this much final work; 0 for no cap."""
    licence: str = "unstated"
    """Under which the trained weights will be given out: a short name, on chain for anyone to read."""
    intended_use: str = "unstated"
    """What the model is for, in a short sentence, or the digest of a longer text."""
    parent_run: Annotated[int, Field(ge=0)] = 0
    """The run that this one goes on from; 0 for none."""
    gate: Address | None = None
    """Contract that says who may join; none for an open run."""
    guardian: Address | None = None
    """Account that may pause deposits for a bounded time; default: the deployer. Fixed at deployment."""
    arbiter: Address | None = None
    """Account that rules on appeals; default: the deployer. Fixed at deployment."""
    treasury: Address | None = None
    """Account that slashed stake goes to; default: the deployer. Fixed at deployment."""
    warn_gflops: Annotated[int, Field(ge=0)] = 10**14
    """Final work of one operator or base model at which, and at each doubling, the ledger warns;
    0 for never. Fixed at deployment."""
    windows: Windows = Windows()
    """How long the chain waits."""
    plan: RunPlan = RunPlan()
    """The run itself."""


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
    register(config.orchestrator, launched.run_id, launched.spec)
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
        params = _params(config, deployment, spec)
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


def register(orchestrator: str, run_id: int, spec: RunSpec) -> None:
    """Tell the orchestrator about a run; it checks the spec against the hash on chain."""
    body = RunRegistration(run_id=run_id, spec=spec).to_json()
    deadline = time.monotonic() + ORCHESTRATOR_SECONDS
    while True:
        try:
            response = _post(f"{orchestrator.rstrip('/')}/v1/runs", body)
        except httpx.HTTPError as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"run {run_id} is on chain, but {orchestrator} does not answer ({error}): start "
                    f"it with `rollcall serve`, then `rollcall launch --register {run_id}`"
                ) from error
            time.sleep(1.0)
            continue
        if not response.is_success:
            raise UserError(f"{orchestrator} refused run {run_id}: {response.text}")
        return


def _post(url: str, body: bytes) -> httpx.Response:
    return httpx.post(url, content=body, headers={"content-type": "application/json"}, timeout=30.0)


def ensure_deployment(config: LaunchConfig, account: LocalAccount, say: Say) -> Deployment:
    """Return the contracts' addresses; on a development chain deploy them once, and hand out tokens."""
    if config.deployment.exists():
        return read_deployment(config.deployment)
    if config.deploy == "never":
        raise UserError(
            f"no deployment at {config.deployment}: copy the file of an existing ledger there, or "
            'on a development chain set deploy = "with_test_token"'
        )
    _require_windows(config.windows)
    give_gas(config.rpc_url, (account.address, *config.endow))
    try:
        made = deploy(web3_at(config.rpc_url), account, _terms(config))
        ledger = Ledger.connect(config.rpc_url, made, account)
        ledger.mint(account.address, config.budget)
        for address in config.endow:
            ledger.mint(address, config.min_stake)
    except LedgerError as error:
        raise UserError(
            f"no ledger could be deployed at {config.rpc_url}: {one_line(error)}"
        ) from error
    config.deployment.parent.mkdir(parents=True, exist_ok=True)
    made.save(config.deployment)
    say(f"ledger deployed at {made.ledger} on chain {made.chain_id}")
    return made


def give_gas(rpc_url: str, addresses: Sequence[str]) -> None:
    """Give accounts the chain's coin where the node can (anvil); elsewhere they must have some."""
    for address in addresses:
        params = [address, hex(DEVELOPMENT_GAS_WEI)]
        body = {"jsonrpc": "2.0", "id": 1, "method": "anvil_setBalance", "params": params}
        try:
            answer = httpx.post(rpc_url, json=body, timeout=10.0).json()
        except (httpx.HTTPError, ValueError) as error:
            raise UserError(f"no chain answers at {rpc_url} ({error}): start one first") from error
        if "error" in answer:
            return


def _terms(config: LaunchConfig) -> Terms:
    windows = config.windows
    return Terms(
        treasury=config.treasury,
        arbiter=config.arbiter,
        guardian=config.guardian,
        unbond_seconds=windows.unbond,
        revoke_seconds=windows.revoke,
        min_window_seconds=windows.least,
        appeal_seconds=windows.appeal,
        ruling_seconds=windows.ruling,
        response_seconds=windows.response,
        timelock_seconds=windows.timelock,
        warn_gflops=config.warn_gflops,
    )


def _require_windows(windows: Windows) -> None:
    """Stake must outlast every way to lose it; the contracts refuse other windows half-way."""
    if 2 * (windows.response + windows.ruling) >= windows.unbond:
        raise UserError(
            f"windows.unbond ({duration(windows.unbond)}) must be more than twice windows.response + "
            f"windows.ruling ({duration(windows.response + windows.ruling)}): raise the first"
        )
    if max(windows.appeal, 2 * windows.challenge) >= windows.unbond:
        raise UserError(
            f"windows.unbond ({duration(windows.unbond)}) must be more than windows.appeal "
            f"({duration(windows.appeal)}) and twice windows.challenge "
            f"({duration(windows.challenge)}): raise the first"
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


def _params(config: LaunchConfig, deployment: Deployment, spec: RunSpec) -> RunParams:
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
