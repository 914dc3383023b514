"""What every route and task shares: the doors, the key, the clock, and the runs being served.

Nothing here is state of record: a run is rebuilt from Redis and blobs by whichever copy of the
orchestrator is asked for it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from tokenizers import Tokenizer

from ledger.errors import ContractError
from ledger.state import LedgerStatus, RunState
from orchestrator.chain import Chain
from orchestrator.config import OrchestratorConfig
from orchestrator.metrics import Metrics
from orchestrator.rewards.pool import RewardPool
from orchestrator.rules.admission import AdmissionTerms
from orchestrator.rules.pacing import units_left
from orchestrator.rules.schedule import epoch_secret
from orchestrator.store.blobs import Blobs
from orchestrator.store.events import event_body
from orchestrator.store.records import Canary
from orchestrator.store.store import Store
from protocol.canonical import keccak256
from protocol.environments.base import Environment
from protocol.environments.registry import environment
from protocol.errors import Busy, NotFound, Refused, RunNotOpen
from protocol.messages import RunStatus
from protocol.policies.manifest import SignedManifest
from protocol.run import RunSpec
from protocol.signing import address_of

UNSERVED_SECONDS = 10.0
"""How long a registered run that cannot be served is left alone: trying costs its data's loading."""


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
    trouble: str = ""
    """Why no work can be settled, where settlement found so."""
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


class Services:
    """The services of one orchestrator process."""

    def __init__(
        self,
        config: OrchestratorConfig,
        key: bytes,
        *,
        store: Store,
        blobs: Blobs,
        chain: Chain,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.key = key
        self.address = address_of(key)
        self.store = store
        self.blobs = blobs
        self.chain = chain
        self.clock = clock
        self.metrics = Metrics()
        self.rewards = RewardPool(config.rewards)
        self.runs: dict[int, Run] = {}
        self._look_again_at: dict[int, float] = {}
        self._master = keccak256(b"rollcall epoch secrets" + key)
        self.session_secret = keccak256(b"rollcall sessions" + key)
        self.canary_secret = keccak256(b"rollcall canaries" + key)

    async def close(self) -> None:
        await self.rewards.close()
        await self.store.close()

    def secret(self, run_id: int, epoch: int) -> bytes:
        """Return an epoch's secret; it leaves this process only by `postEpoch`."""
        return epoch_secret(self._master, run_id, epoch)

    async def register(self, run_id: int, spec: RunSpec) -> Run:
        """Serve a run from now on; raise `Refused` where chain, key or environment disagree."""
        if run_id in self.runs and self.runs[run_id].spec == spec:
            return self.runs[run_id]
        run = await self._make(run_id, spec)
        await self.refresh(run)
        await self.store.runs.add(run_id, spec)
        self.runs[run_id] = run
        log = structlog.get_logger()
        log.info("serving run", run_id=run_id, name=spec.name)
        if len(run.chain.verifiers) == 1:
            log.warning("a single verifier decides alone", run_id=run_id, remedy="name three")
        return run

    async def recover(self) -> None:
        """Serve again every run that was registered, here or at another copy."""
        for run_id, raw_spec in (await self.store.runs.specs()).items():
            if run_id in self.runs or self.clock() < self._look_again_at.get(run_id, 0):
                continue
            try:
                run = await self._make(run_id, RunSpec.from_json(raw_spec))
                await self.refresh(run)
            except Busy:
                raise
            except Exception as error:  # noqa: BLE001 - environments and tokenizers raise anything
                # It must not keep the other runs from being served, nor be tried at every request.
                self._look_again_at[run_id] = self.clock() + UNSERVED_SECONDS
                log = structlog.get_logger()
                log.warning("run cannot be served", run_id=run_id, error=repr(error)[:1024])
                continue
            self.runs[run_id] = run

    async def run(self, run_id: int) -> Run:
        """Return a served run; raise `NotFound`."""
        run = self.runs.get(run_id)
        if run is None:
            await self.recover()
            run = self.runs.get(run_id)
        if run is None:
            raise NotFound(f"run {run_id} is not served here: GET /v1/runs lists those that are")
        return run

    async def refresh(self, run: Run) -> None:
        """Look at the chain, and pick up what the trainer has uploaded."""
        await self.look(run)
        if run.tokenizer is None:
            await self._load_tokenizer(run)
        await self.newest_policy(run)

    async def look(self, run: Run) -> None:
        """Read where the run stands: time first, so that nothing seems to have lapsed later than it did."""
        run.chain_time = await self.chain.block_time()
        run.chain = await self.chain.run(run.run_id)
        run.num_revealed = await self.store.runs.num_revealed(run.run_id)
        run.canaries = await self.store.canaries.all(run.run_id)
        run.voteless = await self.store.verifiers.voteless(run.run_id)

    async def require_owed(self, run: Run, at: int) -> None:
        """Raise `RunNotOpen` unless the run owes work dated `at`: a receipt for it could not be kept.

        Asked only where something ever ended that: just after a halt the chain's clock may be ahead of
        the one that dates work.
        """
        if run.is_open and not run.chain.halted_at:
            return
        if not await self.chain.is_owed(run.run_id, at):
            raise RunNotOpen(
                f"run {run.run_id} is {run.status.value} and owes nothing for work dated {at}",
                retry_after_seconds=1.0,
            )

    async def newest_policy(self, run: Run) -> SignedManifest | None:
        """Return the newest manifest; only a new one is read."""
        version = await self.store.policies.newest(run.run_id)
        if version is None:
            return None
        if run.manifest is None or run.manifest.manifest.version != version:
            raw = await self.store.policies.manifest(run.run_id, version)
            run.manifest = SignedManifest.from_json(raw or b"")
            self.metrics.newest_version.labels(run.run_id).set(version)
        return run.manifest

    async def budget_left_units(self, run: Run) -> int:
        """Return what the escrow still pays for beyond posted epochs and accepted work."""
        unsettled, posted = await self.store.runs.committed_units(run.run_id)
        left = units_left(
            unposted=run.chain.available // run.spec.rate,
            unfinal=run.unfinal // run.spec.rate,
            unsettled=unsettled,
            posted=posted,
        )
        return max(0, left)

    async def announce(self, run_id: int, kind: str, **fields: int | str) -> None:
        """Append to the run's event stream."""
        body = event_body(run_id, kind, self.clock(), fields)
        await self.store.events.append(run_id, kind, body)

    async def _make(self, run_id: int, spec: RunSpec) -> Run:
        state = await self._on_chain(run_id)
        spec_hash = spec.canonical_digest()
        if state.spec_hash != spec_hash:
            raise Refused(
                f"run {run_id} has spec hash 0x{state.spec_hash.hex()} on chain, this spec "
                f"0x{spec_hash.hex()}: send the exact spec that created the run"
            )
        if spec.orchestrator != self.address:
            raise Refused(
                f"the spec names orchestrator {spec.orchestrator}, this one is {self.address}"
            )
        if await self.chain.identity_of(self.address) != state.operator:
            # Also what keeps strangers' runs, and their settings, out of this process.
            raise Refused(
                f"{self.address} does not act for run {run_id}'s operator {state.operator}, so it "
                "cannot open epochs: addSigner with this orchestrator's consent, then register"
            )
        if state.rate != spec.rate:
            raise Refused(f"the spec's rate {spec.rate} is not the {state.rate} on chain")
        if (state.num_parameters, state.base_model) != (spec.num_parameters, spec.model_digest):
            # The ledger judges every leaf's gflops by its own count: all of them would be false.
            raise Refused(
                f"run {run_id} is registered for model 0x{state.base_model.hex()} of "
                f"{state.num_parameters:,} parameters, the spec names 0x{spec.model_digest.hex()} of "
                f"{spec.num_parameters:,}: create a run from the spec with `rollcall launch`"
            )
        made = environment(spec.environment, spec.environment_config)
        if made.digest != spec.environment_digest:
            raise Refused(
                f"environment {spec.environment} has digest 0x{made.digest.hex()} here and "
                f"0x{spec.environment_digest.hex()} in the spec: install the release it was made for"
            )
        terms = AdmissionTerms(
            spec.vocabulary_size,
            spec.eos_token_id,
            spec.max_staleness,
        )
        return Run(run_id, spec, spec_hash, made, state, terms)

    async def _on_chain(self, run_id: int) -> RunState:
        try:
            return await self.chain.run(run_id)
        except ContractError as error:
            raise NotFound(f"run {run_id} is not on this ledger: {error}") from error

    async def _load_tokenizer(self, run: Run) -> None:
        if await self.blobs.size(run.spec.tokenizer_digest) is None:
            return
        data = await self.blobs.get(run.spec.tokenizer_digest)
        try:
            tokenizer = Tokenizer.from_str(data.decode())
        except Exception as error:
            raise Refused(
                f"blob 0x{run.spec.tokenizer_digest.hex()} is no tokenizer: {error}; create the "
                "run again with the digest of a tokenizer.json"
            ) from error
        self.rewards.learn(run.run_id, run.spec, data)
        run.tokenizer = tokenizer
