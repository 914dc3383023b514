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
from pydantic import BaseModel, ConfigDict, Field

from contracts.client import Ledger, web3_at
from contracts.deployment import Deployment, Terms, deploy
from contracts.state import RunParams
from protocol.messages import RunRegistration
from protocol.run import RunSpec
from protocol.wire import Address, checksum_address
from rollcall.spec import RunPlan, spec_of
from rollcall.user_error import UserError

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
    unbond: Annotated[int, Field(ge=1)] = 604_800
    """That stake stays slashable after it starts to leave. Fixed at deployment."""
    revoke: Annotated[int, Field(ge=1)] = 3600
    """That a withdrawn hot key stays valid. Fixed at deployment."""
    least: Annotated[int, Field(ge=1)] = 600
    """Shortest window any run may choose. Fixed at deployment."""


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
    min_stake: Annotated[int, Field(ge=0)] = 10**18
    """Stake of workers and verifiers, and the most that one worker can lose."""
    budget: Annotated[int, Field(ge=1)] = 10**19
    """Escrow, in the token's smallest denomination."""
    compute_cap_gflops: Annotated[int, Field(ge=0)] = 0
    """No epoch opens past this much final work; 0 for no cap."""
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
    """Deploy where asked, delegate, escrow and register; raise `UserError` before money moves."""
    account = Account.from_key(key)
    spec = spec_of(
        config.plan,
        orchestrator=config.orchestrator_address,
        trainer=config.trainer_address,
    )
    deployment = ensure_deployment(config, account, say)
    ledger = Ledger.connect(config.rpc_url, deployment, account)
    _require_funds(ledger, account.address, config.budget)
    _delegate(ledger, account.address, config, say)
    run_id = ledger.create_run(
        _params(config, deployment, spec), config.budget, config.orchestrator
    )
    say(f"run {run_id} is on chain with {config.budget / 10**18:g} tokens in escrow")
    register(config.orchestrator, run_id, spec)
    say(f"{config.orchestrator} serves run {run_id}")
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
        return Deployment.load(config.deployment)
    if config.deploy == "never":
        raise UserError(
            f"no deployment at {config.deployment}: copy the file of an existing ledger there, or "
            'on a development chain set deploy = "with_test_token"'
        )
    windows = config.windows
    terms = Terms(
        unbond_seconds=windows.unbond,
        revoke_seconds=windows.revoke,
        min_window_seconds=windows.least,
        appeal_seconds=windows.appeal,
        ruling_seconds=windows.ruling,
    )
    give_gas(config.rpc_url, (account.address, *config.endow))
    made = deploy(web3_at(config.rpc_url), account, terms)
    ledger = Ledger.connect(config.rpc_url, made, account)
    ledger.mint(account.address, config.budget)
    for address in config.endow:
        ledger.mint(address, config.min_stake)
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


def _require_funds(ledger: Ledger, operator: str, budget: int) -> None:
    have = ledger.balance(operator)
    if have < budget:
        raise UserError(
            f"the budget is {budget / 10**18:g} tokens, {operator} has {have / 10**18:g}: send it "
            "tokens, or set a smaller budget"
        )


def _delegate(ledger: Ledger, operator: str, config: LaunchConfig, say: Say) -> None:
    """Let the orchestrator open epochs in the operator's name."""
    if config.orchestrator_address == operator:
        return
    if ledger.owner_of(config.orchestrator_address) == operator:
        return
    if not config.orchestrator_consent:
        raise UserError(
            f"{config.orchestrator_address} may not act for {operator} yet: run `rollcall consent "
            f"--owner {operator}` where it runs, and set orchestrator_consent to what it prints"
        )
    if not ledger.is_registered(operator):
        ledger.register(0, operator, operator)
    consent = bytes.fromhex(config.orchestrator_consent.removeprefix("0x"))
    ledger.add_signer(config.orchestrator_address, consent)
    say(f"{config.orchestrator_address} may open epochs for {operator}")


def _params(config: LaunchConfig, deployment: Deployment, spec: RunSpec) -> RunParams:
    by_value = sorted(config.verifiers, key=lambda address: int(address, 16))
    return RunParams(
        token=checksum_address(deployment.token),
        rate=config.plan.rate,
        min_stake=config.min_stake,
        challenge_window=config.windows.challenge,
        settle_window=config.windows.settle,
        resume_delay=config.windows.resume,
        threshold=config.threshold,
        spec_hash=spec.canonical_digest(),
        verifiers=tuple(by_value),
        stewards=tuple(sorted(config.stewards, key=lambda address: int(address, 16))),
        steward_threshold=config.steward_threshold,
        compute_cap=config.compute_cap_gflops,
    )
