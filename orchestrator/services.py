"""What every route and task shares: the doors, the key, the clock, and the runs being served.

Nothing here is state of record: a run is rebuilt from Redis and blobs by whichever copy of the
orchestrator is asked for it.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from audit.tasks import tokenizer_of
from orchestrator.chain import Chain
from orchestrator.config import OrchestratorConfig
from orchestrator.metrics import Metrics
from orchestrator.rewards.pool import RewardPool
from orchestrator.rules.admission import AdmissionTerms
from orchestrator.rules.pacing import units_left
from orchestrator.rules.registration import require_servable
from orchestrator.rules.schedule import epoch_secret
from orchestrator.run import Run
from orchestrator.store.blobs import Blobs
from orchestrator.store.events import event_body
from orchestrator.store.journal import Journal
from orchestrator.store.store import Store
from protocol.canonical import keccak256
from protocol.environments.registry import environment
from protocol.environments.share import why_beyond
from protocol.errors import Busy, NotFound, Refused, RunNotOpen
from protocol.policies.manifest import SignedManifest
from protocol.run import RunSpec
from protocol.signing import address_of

UNSERVED_SECONDS = 10.0
"""How long a registered run that cannot be served is left alone: trying costs its data's loading."""


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
        self.journal = Journal(blobs)
        self.chain = chain
        self.clock = clock
        self.metrics = Metrics()
        self.rewards = RewardPool(config.rewards)
        self.readers = ThreadPoolExecutor(2, "body")
        """For large bodies: their own, for the chain is read by the loop's."""
        self.runs: dict[int, Run] = {}
        self._look_again_at: dict[int, float] = {}
        self._master = keccak256(b"rollcall epoch secrets" + key)
        self.session_secret = keccak256(b"rollcall sessions" + key)
        self.canary_secret = keccak256(b"rollcall canaries" + key)
        self.batch_secret = keccak256(b"rollcall batches" + key)

    async def close(self) -> None:
        self.readers.shutdown(wait=False, cancel_futures=True)
        await self.rewards.close()
        await self.store.close()

    def secret(self, run_id: int, epoch: int) -> bytes:
        """Return an epoch's secret; it leaves this process only by `postEpoch`."""
        return epoch_secret(self._master, run_id, epoch)

    def least_stake(self) -> int:
        """Return what is at stake of who pays for itself: less would make a thousand strangers of one stake."""
        return max(1, min((run.chain.min_stake for run in self.runs.values()), default=1))

    async def register(self, run_id: int, spec: RunSpec) -> Run:
        """Serve a run from now on; raise `Refused` where chain, key or environment disagree."""
        if run_id in self.runs and self.runs[run_id].spec == spec:
            return self.runs[run_id]
        run = await self._make(run_id, spec)
        await self.refresh(run)
        await self.journal.keep_spec(run_id, spec.to_json())
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
        run.num_revealed, run.trouble = await self.store.runs.settling(run.run_id)
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
        return run.manifest

    async def budget_left_units(self, run: Run) -> int:
        """Return what the escrow still pays for beyond posted epochs.

        Not beyond accepted work: a group that is drawn is accepted later, and its worker would see which.
        """
        left = units_left(
            unposted=run.chain.available // run.spec.rate,
            unfinal=run.unfinal // run.spec.rate,
            posted=await self.store.runs.posted_units(run.run_id),
        )
        return max(0, left)

    async def announce(self, run_id: int, kind: str, **fields: int | str) -> None:
        """Append to the run's event stream."""
        body = event_body(run_id, kind, self.clock(), fields)
        await self.store.events.append(run_id, kind, body)

    async def _make(self, run_id: int, spec: RunSpec) -> Run:
        state = await self.chain.recent(run_id)
        acts_for = await self.chain.identity_of(self.address)
        require_servable(run_id, spec, state, orchestrator=self.address, acts_for=acts_for)
        made = environment(spec.environment, spec.environment_config)
        if made.digest != spec.environment_digest:
            raise Refused(
                f"environment {spec.environment} has digest 0x{made.digest.hex()} here and "
                f"0x{spec.environment_digest.hex()} in the spec: install the release it was made for"
            )
        if reason := why_beyond(made, spec):
            raise Refused(reason)
        terms = AdmissionTerms(spec.vocabulary_size, spec.eos_token_ids, spec.max_staleness)
        return Run(run_id, spec, state.spec_hash, made, state, terms)

    async def _load_tokenizer(self, run: Run) -> None:
        if await self.blobs.size(run.spec.tokenizer_digest) is None:
            return
        data = await self.blobs.get(run.spec.tokenizer_digest)
        tokenizer = tokenizer_of(data)
        self.rewards.learn(run.run_id, run.spec, data)
        run.tokenizer = tokenizer
