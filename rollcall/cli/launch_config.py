"""What an operator chooses for one launch: `rollcall launch --print-config` writes one.

Owns the settings and their defaults; what follows from them is `launch.py`'s and `demo/deploying.py`'s.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from protocol.wire import Address
from rollcall.cli.spec import RunPlan


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
