"""What a worker's or verifier's key does on chain: register, stake, join, check a run, claim.

The key in the environment is a hot key. Where it is registered as somebody's signer, that cold
account is the identity, and staking and joining are the owner's to do; where it is nobody's, it
becomes its own identity, which suits one machine and small stakes. It never stakes more than the
config allows.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
from eth_account import Account

from ledger.amounts import Token, token_of
from ledger.deployment import Deployment
from ledger.errors import ContractError, LedgerError
from ledger.ledger import Ledger
from ledger.state import LedgerStatus, RunState
from protocol.errors import NotFound, Refused
from protocol.messages import RunInfo
from protocol.signing import Domain, address_of
from protocol.user_error import one_line
from protocol.wire import checksum_address
from rollout_worker.config import ChainConfig

MOST_EVIDENCE_BYTES = 16_384
"""Their calldata costs 262,144 gas at most; an attester's claim has about 256 bytes."""


COIN = Token("", "of the chain's own coin", 18)
JOINING_GAS = 600_000
"""What registering, joining and one claim take at most: a stake whose earnings cannot be claimed is in vain."""


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why a run is not worked for now; `is_over` where it never will be again."""

    reason: str
    is_over: bool = False


def hindrance(state: RunState, *, now: float) -> Hindrance | None:
    """Return what forbids work dated `now` by the chain alone, or None under a fresh permit."""
    match state.status:
        case LedgerStatus.HALTED:
            return Hindrance(f"it is halted since {state.halted_at}")
        case LedgerStatus.STOPPED | LedgerStatus.CLOSED:
            return Hindrance(f"it is {state.status.name.lower()}", is_over=True)
    if 0 < state.compute_cap <= state.gflops:
        return Hindrance(f"its compute cap of {state.compute_cap} gflops is reached", is_over=True)
    if now > state.permit_until:
        return Hindrance(f"its permit ended at {state.permit_until}")
    return None


class Permit(Protocol):
    """What is asked before each round of leases."""

    def hindrance(self) -> Hindrance | None:
        """Return what forbids work now."""
        ...


class RunPermit:
    """A run's permit as the chain shows it, looked at again after `seconds`.

    A chain that does not answer is no permit: silence must stop a run.
    """

    def __init__(
        self,
        ledger: Ledger,
        run_id: int,
        *,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._run_id = run_id
        self._seconds = seconds
        self._clock = clock
        self._looked_at = -float("inf")
        self._found: Hindrance | None = None

    def hindrance(self) -> Hindrance | None:
        """Return what forbids work now, by a look that is fresh enough."""
        if self._clock() - self._looked_at >= self._seconds:
            self._found = self._look()
            self._looked_at = self._clock()
        return self._found

    def _look(self) -> Hindrance | None:
        try:
            now = max(time.time(), self._ledger.block_time())
            return hindrance(self._ledger.run(self._run_id), now=now)
        except LedgerError as error:
            return Hindrance(f"its permit cannot be seen: {one_line(error)}")


class Wallet:
    """One hot key and the ledger it works under.

    Example:
        wallet = Wallet.open(config.chain, key)
        wallet.check_run(info); wallet.join(info)
    """

    def __init__(self, ledger: Ledger, config: ChainConfig, address: str) -> None:
        self.ledger = ledger
        self.address = address
        self.token = token_of(ledger, ledger.deployment.token)
        """What is staked."""
        self._config = config
        self._stake = self.token.exactly(config.stake)
        self._log = structlog.get_logger()

    @classmethod
    def open(cls, config: ChainConfig, key: bytes) -> "Wallet":
        """Connect; raise `ChainUnreachable` or `WrongChain`."""
        deployment = Deployment.load(config.deployment)
        ledger = Ledger.connect(
            *(config.rpc_url, deployment, Account.from_key(key)), max_gas_gwei=config.max_gas_gwei
        )
        return cls(ledger, config, address_of(key))

    @property
    def domain(self) -> Domain:
        """The market that signatures are for, from the deployment and not from the orchestrator."""
        deployment = self.ledger.deployment
        return Domain(deployment.chain_id, checksum_address(deployment.ledger))

    def identity(self) -> str:
        """Return the account that is paid and answerable for this key's work."""
        owner = self.ledger.owner_of(self.address)
        return checksum_address(owner) if owner else self.address

    def prepare(self) -> None:
        """Register and top the stake up to the configured one, where this key is its own owner.

        Raises `Refused` before anything is sent where tokens or gas do not suffice.
        """
        identity = self.identity()
        if not self._config.register_at_start or identity != self.address:
            return
        is_new = not self.ledger.is_registered(identity)
        missing = self._stake - (0 if is_new else self.ledger.stake_of(identity))
        if missing <= 0 and not is_new:
            return
        require_funds(self.ledger, self.token, identity, missing)
        if is_new:
            payout = self._config.payout or identity
            self.ledger.register(self._stake, identity, payout)
            self._log.info("registered", identity=identity, stake=self.token.show(self._stake))
        else:
            self.ledger.stake(missing)
            self._log.info("staked", identity=identity, added=self.token.show(missing))

    def check_run(self, info: RunInfo) -> RunState:
        """Return the run's state on chain; raise `Refused` where the orchestrator tells another.

        The spec hash on chain binds every agreed term: model, thresholds, rate, who may sign.
        """
        try:
            state = self.ledger.run(info.run_id)
        except ContractError as error:
            raise NotFound(f"run {info.run_id} is not on this ledger: {error}") from error
        domain = self.domain
        if (info.chain_id, info.ledger) != (domain.chain_id, domain.ledger):
            raise Refused(
                f"run {info.run_id} is served for ledger {info.ledger} on chain {info.chain_id}; "
                f"this wallet works under {domain.ledger} on {domain.chain_id}"
            )
        if state.spec_hash != info.spec.canonical_digest():
            raise Refused(
                f"the spec served for run {info.run_id} has not the hash 0x{state.spec_hash.hex()} "
                "that the operator put on chain: do not work for it"
            )
        if state.rate != info.spec.rate:
            raise Refused(f"run {info.run_id} pays {state.rate} per unit, not {info.spec.rate}")
        if str(state.min_stake) != info.min_stake:
            raise Refused(
                f"run {info.run_id} asks for a stake of {state.min_stake}, not of {info.min_stake}"
            )
        if checksum_address(state.token) != info.token:
            raise Refused(f"run {info.run_id} pays in token {state.token}, not in {info.token}")
        if state.num_parameters != info.spec.num_parameters:
            raise Refused(
                f"run {info.run_id} counts {state.num_parameters:,} parameters on chain and "
                f"{info.spec.num_parameters:,} in its spec: none of its work could be settled"
            )
        return state

    def join(self, info: RunInfo) -> None:
        """Register, stake and join, each where it is missing; doing so again after a restart is nothing."""
        identity = self.identity()
        is_own = identity == self.address and self._config.register_at_start
        is_joined = self.ledger.is_joined(info.run_id, identity)
        most = max(self.ledger.stake_of(identity), self._stake)
        if is_own and not is_joined and most < int(info.min_stake):
            raise Refused(
                f"run {info.run_id} wants a stake of {self.token.show(int(info.min_stake))}; chain.stake is "
                f"{self._config.stake:f}: raise it, or choose another run"
            )
        self.prepare()
        if is_joined:
            return
        if not is_own:
            raise Refused(f"{identity} has not joined run {info.run_id}: join with its own wallet")
        try:
            self.ledger.join_run(info.run_id, self._evidence())
        except ContractError as error:
            if error.name != "AlreadyJoined":
                raise Refused(f"run {info.run_id} cannot be joined: {error}") from error
        self._log.info("joined", run=info.run_id, identity=identity)

    def _evidence(self) -> bytes:
        """Return what is shown to a run's gate: nothing without a file."""
        path = self._config.evidence_file
        if path is None:
            return b""
        try:
            evidence = bytes.fromhex(path.read_text("utf-8").strip().removeprefix("0x"))
        except OSError as error:
            raise Refused(f"chain.evidence_file {path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise Refused(f"chain.evidence_file {path} is not hex, such as 0x00ff") from error
        if len(evidence) > MOST_EVIDENCE_BYTES:
            raise Refused(
                f"chain.evidence_file {path} has {len(evidence):,} bytes, and {MOST_EVIDENCE_BYTES:,} "
                "are sent at most: ask the attester for shorter evidence"
            )
        return evidence

    def permit(self, run_id: int) -> RunPermit:
        """Return a run's permit, to be asked before each round of leases."""
        return RunPermit(self.ledger, run_id, seconds=self._config.permit_seconds)


def require_funds(ledger: Ledger, token: Token, account: str, stake: int) -> None:
    """Raise `Refused` naming all that an account lacks to put in a stake and to join: tokens, gas or both."""
    have, need = ledger.coin_balance(account), JOINING_GAS * ledger.gas_price()
    lacks = []
    if (held := ledger.balance(account)) < stake:
        lacks.append(f"{token.show(stake)} of stake, and has {token.show(held)}")
    if have < need:
        lacks.append(f"{COIN.show(need)} for gas, and has {COIN.show(have)}")
    if lacks:
        chain = ledger.deployment.chain_id
        raise Refused(
            f"{account} needs {'; it needs '.join(lacks)}: send it the rest on chain {chain}"
        )
