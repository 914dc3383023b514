"""An operator's settings for one launch: `rollcall launch --print-config` writes them.

Owns the settings and their defaults; `launch.py` and `demo/deploying.py` act on them.
"""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ledger.setting import Amount
from local.settings import Settings
from protocol.wire import Address
from rollcall.cli.spec import RunPlan

Window = Annotated[int, Field(ge=1, lt=1 << 32)]
"""Seconds; the contracts add them to times of 64 bits."""


class Windows(Settings):
    """How long the chain waits, in seconds. A development chain shortens them."""

    challenge: Window = 3600
    """Between posting an epoch and its finality: the time to dispute it."""
    settle: Window = 86_400
    """After the run is stopped: the time to post the last epochs."""
    resume: Window = 3600
    """How long a halt lasts at least."""
    appeal: Window = 172_800
    """The time for an accused worker to appeal. Fixed when the contracts are deployed."""
    ruling: Window = 259_200
    """The time for the arbiter to rule on an appeal, or acquit by silence. Fixed at deployment."""
    response: Window = 21_600
    """The time to open demanded leaves on chain, or the epoch is void. Fixed at deployment."""
    unbond: Window = 604_800
    """How long stake stays slashable after it starts to leave. Fixed at deployment."""
    revoke: Window = 3600
    """How long a withdrawn hot key stays valid. Fixed at deployment."""
    least: Window = 600
    """The shortest window that any run may choose. Fixed at deployment."""
    timelock: Annotated[int, Field(ge=0, lt=1 << 32)] = 172_800
    """How long the appointment of a guardian or arbiter waits. Fixed at deployment."""
    permit: Window = 30 * 86_400
    """How long a permit lasts: the run ends by itself unless its operator renews it."""


class LaunchConfig(Settings):
    """One launch. The operator's key is read from ROLLCALL_KEY."""

    rpc_url: str
    """JSON-RPC endpoint of a node."""
    deployment: Path
    """JSON file with the contracts' addresses; written if `deploy` makes them."""
    deploy: Literal["never", "with_test_token"] = "never"
    """Deploy the contracts if the file is absent, paying in a token that anyone may mint:
    for development chains only."""
    orchestrator: str
    """Base URL of the orchestrator, as workers reach it."""
    orchestrator_address: Address
    """The orchestrator's account, which signs leases and receipts."""
    orchestrator_consent: str = ""
    """The orchestrator's consent to act for the operator: `rollcall consent --owner OPERATOR` there.
    Empty if it acts for the operator already, or is the operator."""
    trainer_address: Address
    """The account that signs policies."""
    verifiers: tuple[Address, ...]
    """Accounts that replay and sign epochs."""
    threshold: Annotated[int, Field(ge=1, le=64)] = 1
    """How many verifiers must agree: more than half, and not all of several."""
    endow: tuple[Address, ...] = ()
    """Accounts that get a stake's worth of test tokens, and gas if the node has
    `anvil_setBalance`. Only with `deploy = "with_test_token"`."""
    stewards: tuple[Address, ...] = ()
    """Accounts that may halt the run."""
    steward_threshold: Annotated[int, Field(ge=0, le=64)] = 0
    """How many stewards it takes."""
    min_stake: Amount = Decimal(1)
    """Tokens that workers and verifiers stake, and the most that one worker can lose."""
    budget: Annotated[Amount, Field(gt=0)] = Decimal(10)
    """Tokens in escrow, such as 250.5."""
    compute_cap_gflops: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    """No epoch opens past this much final work; 0 for no cap."""
    licence: str = "unstated"
    """Licence of the trained weights: a short name, on chain for anyone to read."""
    intended_use: str = "unstated"
    """What the model is for, in a short sentence, or the digest of a longer text."""
    parent_run: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    """The run that this one goes on from; 0 for none."""
    gate: Address | None = None
    """Contract that says who may join; none for an open run."""
    guardian: Address | None = None
    """Account that may pause deposits for a bounded time; default: the deployer. Fixed at deployment."""
    arbiter: Address | None = None
    """Account that rules on appeals; default: the deployer. Fixed at deployment."""
    treasury: Address | None = None
    """Account that slashed stake goes to; default: the deployer. Fixed at deployment."""
    warn_gflops: Annotated[int, Field(ge=0, lt=1 << 63)] = 10**14
    """Final work of one operator or base model at which, and at each doubling, the ledger warns;
    0 for never. Fixed at deployment."""
    windows: Windows = Windows()
    """How long the chain waits."""
    plan: RunPlan = RunPlan()
    """The run itself."""

    @model_validator(mode="after")
    def _bears_a_liar(self) -> Self:
        num = len(self.verifiers)
        if 1 < num <= self.threshold:
            raise ValueError(
                f"threshold {self.threshold} of {num} verifiers: any one of them could shield a cheat, starve a "
                f"worker and stop every epoch; name {max(3, num)} or more in `verifiers`, with threshold = "
                f"{max(3, num) - 1}"
            )
        return self
