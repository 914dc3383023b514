"""A served run: its agreed terms, the freshest look at the chain, and whether it owes work."""

from dataclasses import dataclass, field

from tokenizers import Tokenizer

from ledger.state import LedgerStatus, RunState
from orchestrator.rules.admission import AdmissionTerms
from orchestrator.store.canaries import Canary
from protocol.constants import MAX_CLOCK_SKEW_SECONDS
from protocol.environments.base import Environment
from protocol.errors import Busy, RunNotOpen
from protocol.messages import RunStatus
from protocol.policies.manifest import SignedManifest
from protocol.run import RunSpec


@dataclass(slots=True)
class Run:
    """One served run: its agreed terms, and the freshest look at the chain."""

    run_id: int
    spec: RunSpec
    spec_hash: bytes
    environment: Environment
    chain: RunState
    terms: AdmissionTerms
    chain_time: int = 0
    """The newest block's time at the last look."""
    num_revealed: int = 0
    """Epochs from 0 on whose secret was in a file: no lease may be drawn from them any more."""
    shut_at: float | None = None
    """When this process first saw that the run owes no more work; None while it does."""
    is_behind: bool = False
    """Whether the last epoch frozen was full: the next does not wait for its time."""
    trouble: str = ""
    """Why no work can be settled, where settlement found so, in this process or another."""
    tokenizer: Tokenizer | None = None
    manifest: SignedManifest | None = None
    opened_at: dict[int, int] = field(default_factory=dict)
    stakes: dict[str, int] = field(default_factory=dict)
    """Of workers at work, for at most a second (`stakes.py`)."""
    stakes_until: float = 0.0
    canaries: dict[str, Canary] = field(default_factory=dict)
    """The operator's own workers that verifiers are tested with, by address."""
    voteless: frozenset[str] = frozenset()
    """Verifiers that judged one of those wrongly."""

    @property
    def voters(self) -> tuple[str, ...]:
        """The verifiers whose votes count."""
        return tuple(v for v in self.chain.verifiers if v not in self.voteless)

    @property
    def unfinal(self) -> int:
        """Budget that no final epoch has taken."""
        return self.chain.budget - self.chain.finalised

    @property
    def status(self) -> RunStatus:
        """Return what the run is to those who work for it, by the chain's time of the last look."""
        names = {
            LedgerStatus.ACTIVE: RunStatus.OPEN,
            LedgerStatus.HALTED: RunStatus.HALTED,
            LedgerStatus.STOPPED: RunStatus.STOPPED,
        }
        status = names.get(self.chain.status, RunStatus.CLOSED)
        if status is RunStatus.OPEN and self.has_crossed_cap:
            return RunStatus.STOPPED
        if status is RunStatus.OPEN and self.chain_time > self.chain.permit_until:
            return RunStatus.HALTED
        return status

    @property
    def is_open(self) -> bool:
        """Whether work done now is owed."""
        return self.status is RunStatus.OPEN

    @property
    def has_crossed_cap(self) -> bool:
        """Whether final work has used up the compute that the run was created with: its end."""
        return 0 < self.chain.compute_cap <= self.chain.gflops

    def require_open(self, now: float) -> None:
        """Raise `RunNotOpen` unless the run goes on `now`, by this machine's clock.

        Both clocks count, for a chain that nobody can reach lets a permit lapse in silence.
        """
        name = f"run {self.run_id}"
        if self.chain.status is LedgerStatus.ACTIVE and self.has_crossed_cap:
            raise RunNotOpen(
                f"{name} has reached its compute cap of {self.chain.compute_cap} gflops"
            )
        if not self.is_open and self.chain.status is not LedgerStatus.ACTIVE:
            raise RunNotOpen(f"{name} is {self.status.value}: no more work is leased")
        if max(int(now), self.chain_time) > self.chain.permit_until:
            raise RunNotOpen(
                f"{name}'s permit ended at {self.chain.permit_until}: no work is leased until its "
                "operator renews or resumes it"
            )
        if self.chain_time - now > MAX_CLOCK_SKEW_SECONDS:
            raise RunNotOpen(
                f"{name}'s orchestrator is {self.chain_time - now:.0f} s behind its chain, which may owe "
                "nothing for work dated then: its operator must set that machine's clock"
            )
        if len(self.voters) < self.chain.threshold:
            raise RunNotOpen(
                f"{name} has {len(self.voters)} verifiers left with a vote and needs "
                f"{self.chain.threshold}: no work is leased until its operator replaces the others "
                "(`rollcall run replace`)"
            )
        if self.trouble:
            raise RunNotOpen(f"{name} cannot settle: {self.trouble}")

    def require_tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise Busy(
                f"run {self.run_id} has no tokenizer yet: the trainer uploads it before version 0",
                retry_after_seconds=1.0,
            )
        return self.tokenizer
