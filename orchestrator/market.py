"""What every route and task shares: the doors, the key, the clock, and the runs being served.

Nothing here is state of record: a run is rebuilt from Redis and blobs by whichever copy of the
orchestrator is asked for it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from tokenizers import Tokenizer

from contracts.errors import ContractError
from contracts.state import RunState, RunStatus
from orchestrator import keys
from orchestrator.admission import Terms
from orchestrator.blobs import Blobs
from orchestrator.chain import Chain
from orchestrator.config import Config
from orchestrator.events import event_body
from orchestrator.metrics import Metrics
from orchestrator.queue import Argument, Queue
from orchestrator.rewards import RewardPool
from orchestrator.scheduler import epoch_secret
from protocol.canonical import keccak256
from protocol.environments.base import Environment
from protocol.environments.registry import environment
from protocol.errors import Busy, NotFound, Refused, RunNotOpen
from protocol.messages import RunStatus as OpenStatus
from protocol.policy import SignedManifest
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
    terms: Terms
    tokenizer: Tokenizer | None = None
    manifest: SignedManifest | None = None
    opened_at: dict[int, int] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        return keys.run_prefix(self.run_id)

    @property
    def status(self) -> OpenStatus:
        names = {
            RunStatus.ACTIVE: OpenStatus.OPEN,
            RunStatus.HALTED: OpenStatus.HALTED,
            RunStatus.STOPPED: OpenStatus.STOPPED,
        }
        return names.get(self.chain.status, OpenStatus.CLOSED)

    def require_open(self) -> None:
        """Raise `RunNotOpen` unless work may be leased."""
        if self.status is not OpenStatus.OPEN:
            raise RunNotOpen(f"run {self.run_id} is {self.status.value}: no more work is leased")

    def require_tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise Busy(
                f"run {self.run_id} has no tokenizer yet: the trainer uploads it before version 0",
                retry_after_seconds=1.0,
            )
        return self.tokenizer


class Market:
    """The services of one orchestrator process."""

    def __init__(
        self,
        config: Config,
        key: bytes,
        *,
        queue: Queue,
        blobs: Blobs,
        chain: Chain,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.key = key
        self.address = address_of(key)
        self.queue = queue
        self.blobs = blobs
        self.chain = chain
        self.clock = clock
        self.metrics = Metrics()
        self.rewards = RewardPool(config.rewards)
        self.runs: dict[int, Run] = {}
        self._look_again_at: dict[int, float] = {}
        self._master = keccak256(b"rollcall epoch secrets" + key)
        self.session_secret = keccak256(b"rollcall sessions" + key)

    async def close(self) -> None:
        await self.rewards.close()
        await self.queue.close()

    def secret(self, run_id: int, epoch: int) -> bytes:
        """Return an epoch's secret; it leaves this process only by `postEpoch`."""
        return epoch_secret(self._master, run_id, epoch)

    async def register(self, run_id: int, spec: RunSpec) -> Run:
        """Serve a run from now on; raise `Refused` where chain, key or environment disagree."""
        if run_id in self.runs and self.runs[run_id].spec == spec:
            return self.runs[run_id]
        run = await self._make(run_id, spec)
        await self.refresh(run)
        await self.queue.call("HSET", keys.RUNS, run_id, spec.to_json())
        self.runs[run_id] = run
        structlog.get_logger().info("serving run", run_id=run_id, name=spec.name)
        return run

    async def recover(self) -> None:
        """Serve again every run that was registered, here or at another copy."""
        for raw_id, raw_spec in (await self.queue.hash(keys.RUNS)).items():
            run_id = int(raw_id)
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
        run.chain = await self.chain.run(run.run_id)
        if run.tokenizer is None:
            await self._load_tokenizer(run)
        await self.newest_policy(run)

    async def newest_policy(self, run: Run) -> SignedManifest | None:
        """Return the newest manifest; only a new one is read."""
        found = await self.queue.call("HGET", run.prefix + "state", "newest")
        if found is None:
            return None
        version = int(found)
        if run.manifest is None or run.manifest.manifest.version != version:
            raw = await self.queue.call("HGET", run.prefix + "policies", version)
            run.manifest = SignedManifest.from_json(raw)
            self.metrics.newest_version.labels(run.run_id).set(version)
        return run.manifest

    async def budget_left_units(self, run: Run) -> int:
        """Return what the escrow still pays for beyond posted epochs and accepted work."""
        unsettled = int(await self.queue.call("HGET", run.prefix + "state", "unsettled") or 0)
        return max(0, run.chain.available // run.spec.rate - unsettled)

    async def announce(self, run_id: int, kind: str, **fields: Argument) -> None:
        """Append to the run's event stream."""
        body = event_body(run_id, kind, self.clock(), fields)
        key = keys.run_prefix(run_id) + "events"
        await self.queue.call(
            *("XADD", key, "MAXLEN", "~", keys.NUM_EVENTS_KEPT, "*", "kind", kind, "body", body)
        )

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
        made = environment(spec.environment, spec.environment_config)
        if made.digest != spec.environment_digest:
            raise Refused(
                f"environment {spec.environment} has digest 0x{made.digest.hex()} here and "
                f"0x{spec.environment_digest.hex()} in the spec: install the release it was made for"
            )
        terms = Terms(spec.vocabulary_size, spec.eos_token_id, spec.max_staleness)
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
